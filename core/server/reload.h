/* server/reload.h - how all workers get to the next generation, or none does.
 *
 *             begin                 loads                    all have loaded
 *   IDLE ------------> TRYING ---------------> PREPARING -------------------+
 *    ^ ^                 |                        |                         |
 *    | |   rejected      | does not load, dies,   | one cannot load,        v
 *    | +-----------------+ takes too long         | takes too long     COMMITTING
 *    |                   +------------------------+                         |
 *    |                                                                      |
 *    |   the old ones are closed                          all serve it      |
 *    +------------------------------ RETIRING <-----------------------------+
 *
 * TRYING is one process of its own (server/trial.h): what a script can do wrong
 * it does there.  From COMMITTING on there is no way back; a worker that is
 * started gets the committed generation, and one that has another is brought
 * there, which is RETIRING as well.  At most two generations live: what is asked
 * for meanwhile waits, and several of that become one.
 *
 * The master's; it starts processes through a function of it.
 */
#ifndef PL_SERVER_RELOAD_H
#define PL_SERVER_RELOAD_H

#include "server/channel.h"
#include "server/child.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_config;
struct pl_fabric;
struct pl_ring_writer;
struct pl_server_state;

enum pl_reload_state {
  PL_RELOAD_IDLE,
  PL_RELOAD_TRYING,
  PL_RELOAD_PREPARING,
  PL_RELOAD_COMMITTING,
  PL_RELOAD_RETIRING
};

/* How the last one went. */
struct pl_reload_result {
  int code;            /* 0: committed; PL_ESCRIPT, PL_ECONFIG, ...: rejected */
  uint32_t generation; /* that serves now */
  uint64_t hash;       /* of its files */
  int64_t ended_ns;    /* realtime; 0: there was none yet */
  int64_t took_ns;
  char text[PL_MESSAGE_TEXT_BYTES];  /* rejected: why */
  char fixed[PL_MESSAGE_TEXT_BYTES]; /* keys whose new values wait for a
                                        restart; ", " between */
};

struct pl_reload_options {
  const struct pl_fabric *fabric; /* borrowed, as all of these */
  struct pl_child *workers;
  uint32_t worker_count;
  struct pl_ring_writer *log; /* NULL: ends are not logged */
  /* Forks a process that tries the generation out. 0 or a negated errno. */
  int (*start_trial)(void *arg, struct pl_child *trial, uint32_t generation);
  /* A generation is committed: workers that are started from now on load it,
   * and this is its configuration, which is handed over.  */
  void (*on_commit)(void *arg, struct pl_config *config);
  /* `perilune dev`: what is asked for does not wait for requests of the
   * generation before, nor for a trial that takes long. */
  bool hurries;
  /* One has ended. */
  void (*on_end)(void *arg, const struct pl_reload_result *result);
  void *arg;
};

struct pl_reload {
  struct pl_reload_options options;
  struct pl_server_state *server; /* in the fabric */
  enum pl_reload_state state;
  struct pl_child trial;
  uint32_t committed; /* 0: none yet */
  uint32_t wanted;    /* the generation that is on its way */
  double load_s;      /* vm.load_timeout */
  int64_t begun_ns;
  int64_t due_ns; /* the state ends; 0: not by time */
  bool is_wanted_again;
  bool is_given_up; /* the trial was killed for the next one */
  struct pl_reload_result result;
};

/* 0, or what pl__fabric_find returns. */
int pl__reload_init(struct pl_reload *r,
                    const struct pl_reload_options *options,
                    const struct pl_config *config);
/* Whether one is under way whose result is still open. */
bool pl__reload_is_running(const struct pl_reload *r);
/* Begins, or will when the present one has ended. */
void pl__reload_begin(struct pl_reload *r);
/* Gives up what has not been committed, and begins no other: the server ends. */
void pl__reload_stop(struct pl_reload *r);

/* The trial has something to say (its channel is readable), or has died: its
 * waitpid status. */
void pl__reload_on_trial(struct pl_reload *r);
void pl__reload_on_trial_death(struct pl_reload *r, int status);
/* A worker has said something; also that it has started. */
void pl__reload_on_news(struct pl_reload *r, struct pl_child *c,
                        const struct pl_message *news);
/* A worker was buried. */
void pl__reload_on_death(struct pl_reload *r);
/* When pl__reload_on_time is due; 0: never. */
int64_t pl__reload_due(const struct pl_reload *r);
void pl__reload_on_time(struct pl_reload *r, int64_t now_ns);

#endif /* PL_SERVER_RELOAD_H */
