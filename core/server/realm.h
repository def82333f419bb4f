/* server/realm.h - what the files of the master share: master.c (states and
 * the loop), founding.c (what it has before it serves), births.c (its
 * processes) and duties.c (what it is told to do).
 * Nobody else includes this.
 */
#ifndef PL_SERVER_REALM_H
#define PL_SERVER_REALM_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "fabric/events.h"
#include "fabric/map.h"
#include "fabric/record.h"
#include "server/child.h"
#include "server/config.h"
#include "server/desk.h"
#include "server/dev.h"
#include "server/inherit.h"
#include "server/listeners.h"
#include "server/lockfile.h"
#include "server/master.h"
#include "server/notify.h"
#include "server/reload.h"
#include "server/standing.h"
#include "server/tally.h"
#include "server/trends.h"
#include "server/upgrade.h"
#include "server/watch.h"

enum master_state {
  STARTING,
  SERVING,
  PRE_DRAIN,
  DRAINING,
  KILLING,
  DRAINED,
  ENDING
};

/* Why what the flight recorder has is written down. */
enum pl_record_reason {
  PL_RECORD_FOR_CRASH,
  PL_RECORD_FOR_STUCK,
  PL_RECORD_FOR_SIGNAL,
  PL_RECORD_FOR_CLIENT, /* of the control socket */
  PL_RECORD_FOR_ACTION,
  PL_RECORD_REASONS
};

struct master {
  const struct pl_master_options *options;
  const struct pl_config *config; /* of the generation that serves */
  struct pl_config owned;         /* it, once there was a reload */
  struct pl_error *error;         /* may be NULL */
  enum master_state state;
  int result;                /* what pl__master_run returns */
  bool is_told;              /* to stop, after it was replaced */
  bool stays;                /* after the drain it waits to be stopped */
  uint32_t cut_count;        /* requests that a drain has cut */
  int64_t due_ns;            /* the state ends; 0: it does not end by time */
  int64_t started_ns;        /* realtime */
  uint32_t capacity;         /* workers that there is room for */
  struct pl_child *children; /* as many, some unwanted; then control */
  struct pl_watch watch;
  struct pl_reload reload;
  struct pl_fabric fabric;
  struct pl_inheritance inheritance;
  struct pl_inheritance admin_inheritance;
  struct pl_listeners listeners;
  struct pl_listeners admin;    /* of the admin plane; none, or one address */
  struct pl_standing *standing; /* in the fabric */
  struct pl_standing_facts facts;
  struct pl_trends trends;
  uint32_t rejected_count; /* reloads */
  uint32_t crash_count;    /* workers that have died unasked */
  struct pl_lockfile lock;
  struct pl_ring_writer log;
  struct pl_tally tally;
  int record_code;        /* why the last record was not written; 0: it was */
  int64_t record_said_ns; /* when that was logged */
  int64_t level_due_ns;   /* the log's own level is back; 0: it is */
  struct pl_recorder recorder;
  struct pl_stopwatch stopwatch; /* of the recorder */
  struct pl_desk desk;
  struct pl_dev dev;
  bool is_placeholder; /* dev: what is tried is no app, but why it fails */
  struct pl_notify notify;
  struct pl_upgrade upgrade;
  sigset_t caller_mask;
  struct sigaction caller_pipe; /* what it does on SIGPIPE ... */
  struct sigaction caller_xfsz; /* ... and on SIGXFSZ */
  int signal_fd;
  int wake_fd;     /* eventfd of control */
  int lifeline[2]; /* [0] for control, [1] ours */
  int transit[2];  /* control's: outlives it (log/outlet.h) */
};

/* --- master.c --- */

__attribute__((format(printf, 2, 3))) void
pl__master_say(struct master *m, const char *format, ...);
/* One record with at most one field; a `value` of NULL leaves it out. */
void pl__master_log(struct master *m, enum pl_level level, const char *message,
                    const char *key, const char *value);
/* TERM or INT, or the like by the control socket. */
void pl__master_stop(struct master *m);
void pl__master_stop_by_force(struct master *m, const char *text);
/* Drains; it stays afterwards, or is replaced by another master. */
void pl__master_drain(struct master *m);

/* --- founding.c --- */

/* Makes all that a server needs but its processes. Returns 0, or with nothing
 * held what pl__master_run returns, and m->error is set. */
int pl__found(struct master *m);
/* Gives it back. */
void pl__unfound(struct master *m);
/* Whether sockets and lock are ours to remove: not once another program has
 * replaced us, nor before we have replaced one. */
bool pl__is_owner(const struct master *m);

/* --- births.c --- */

struct pl_child *pl__control_of(struct master *m);
int pl__child_index(struct master *m, const struct pl_child *c);
const char *pl__child_kind(struct master *m, const struct pl_child *c);
/* Forks a worker or control. 0 or a negated errno. */
int pl__birth(struct master *m, struct pl_child *c);
/* As struct pl_reload_options wants it. */
int pl__birth_trial(void *arg, struct pl_child *trial, uint32_t generation);
/* Workers that live. */
uint32_t pl__workers_alive(struct master *m);
void pl__workers_signal(struct master *m, int number);

/* --- duties.c --- */

/* HUP, QUIT, USR1, USR2, TTIN, TTOU. */
void pl__duty_on_signal(struct master *m, int number, int code);
/* Has control write a record.
 *
 *   detail   behind the reason, in the file's name; may be NULL
 *   seconds  to follow what comes; 0: what there is now
 *   asker    of the desk's; 0: nobody
 *
 * False: there is no control now. */
bool pl__duty_record(struct master *m, enum pl_record_reason reason,
                     const char *detail, int seconds, uint32_t asker);
/* The same, of a worker that has crashed or is stuck: at most once in 10 s. */
void pl__duty_record_worker(struct master *m, enum pl_record_reason reason,
                            struct pl_child *c);
/* Notes what has become of a worker. */
void pl__duty_note(struct master *m, enum pl_event_process step,
                   const struct pl_child *c, unsigned code);
void pl__duty_note_reload(struct master *m, enum pl_event_reload step,
                          uint32_t generation);
/* What control says, but that it has started. */
void pl__duty_on_control(struct master *m, const struct pl_message *news);
/* What an action has changed for a time is over. */
void pl__duty_on_time(struct master *m, int64_t now_ns);
/* Opens the control socket; without one the server serves as well. */
void pl__duty_open_desk(struct master *m);
/* The server before this one may go, if there is one. */
void pl__duty_take_over(struct master *m);
/* The new program has spoken, died, or taken too long. */
void pl__duty_on_upgrade(struct master *m, int64_t now_ns);
void pl__duty_on_upgrade_death(struct master *m, int status);
/* Tells in the fabric how the server stands. */
void pl__duty_stand(struct master *m);
/* Tells systemd what there is to tell now. */
void pl__duty_notify(struct master *m, int64_t now_ns);
void pl__duty_notify_state(struct master *m);

#endif /* PL_SERVER_REALM_H */
