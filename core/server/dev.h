/* server/dev.h - what `perilune dev` adds to a server: it reloads when files
 * change, and shows why that failed, in the terminal and to browsers.
 */
#ifndef PL_SERVER_DEV_H
#define PL_SERVER_DEV_H

#include "server/config.h"
#include "server/events.h"
#include "server/reload.h"
#include "server/watcher.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_bundle;

struct pl_dev {
  bool is_on;
  bool is_failing;        /* what was loaded last was rejected */
  bool has_started;       /* something was loaded */
  bool is_wanted;         /* changes wait to be loaded */
  int64_t saved_ns;       /* when the changes were made that are being loaded */
  int64_t run_ns;         /* when it was opened: tells this run from others */
  uint32_t asset_changes; /* of files that browsers load */
  uint64_t difference;    /* pl__watcher_difference when a reload ended */
  char own_folder[PL_CONFIG_PATH_BYTES]; /* of our modules: not watched */
  char app_folder[PL_CONFIG_PATH_BYTES];
  char failure[PL_MESSAGE_TEXT_BYTES]; /* why, as it was shown last */
  struct pl_watcher watcher;
  struct pl_events events;
  /* Takes text for the user, whole lines. */
  void (*say)(void *arg, const char *text, size_t bytes);
  void *arg;
};

/* Begins to watch, and listens for browsers at `events`; NULL: does not. */
void pl__dev_open(struct pl_dev *d, const struct pl_config *config,
                  const struct pl_address *events,
                  void (*say)(void *arg, const char *text, size_t bytes),
                  void *arg);
void pl__dev_close(struct pl_dev *d);
/* The port of the app, once it is known: whose pages may listen. */
void pl__dev_set_port(struct pl_dev *d, uint16_t port);

/* `tried`: of the generation that was tried last; NULL: none yet.  True, until
 * pl__dev_begin: it is to be loaded anew. */
bool pl__dev_turn(struct pl_dev *d, const struct pl_bundle *tried,
                  int64_t now_ns);
/* It is being loaded, with all that has changed so far. */
void pl__dev_begin(struct pl_dev *d);
int64_t pl__dev_due(const struct pl_dev *d);
/* A reload has ended: shows how.  True: files have changed meanwhile, not
 * in the same way as while the one before was loaded. */
bool pl__dev_on_end(struct pl_dev *d, const struct pl_reload_result *result,
                    const struct pl_bundle *tried);

#endif /* PL_SERVER_DEV_H */
