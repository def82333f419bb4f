/* server/trial.c - see trial.h. */
#define _GNU_SOURCE /* prctl names */
#include "server/trial.h"

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "fabric/map.h"
#include "fabric/metrics.h"
#include "fabric/record.h"
#include "server/channel.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/edition.h"
#include "server/fixed.h"
#include "server/layout.h"
#include "server/snapshot.h"
#include "server/succession.h"

#include <stdio.h>
#include <sys/prctl.h>

#define TRIAL_SLABS 1u /* it serves nobody */

struct trial {
  const struct pl_trial_args *args;
  struct pl_config config;
  struct pl_fabric slabs; /* memory of its own */
  struct pl_dispatch dispatch;
  struct pl_bundle *bundle;
  char fixed[PL_MESSAGE_TEXT_BYTES / 2]; /* keys that would have to change */
  char err[PL_VM_ERROR_BYTES];
};

/* The configuration of now, but for what cannot change while the server runs.
 */
static int configure(struct trial *t) {
  const struct pl_trial_args *args = t->args;
  char text[PL_CONFIG_ERROR_BYTES];
  int failed;

  if (!args->input)
    return pl__config_copy(&t->config, args->config);
  failed = pl__config_resolve(args->input, &t->config, text);
  if (failed) {
    snprintf(t->err, sizeof t->err, "%s", text);
    return failed;
  }
  pl__fixed_keep(&t->config, args->config, t->fixed, sizeof t->fixed);
  return 0;
}

static int make_slabs(struct trial *t, struct pl_dispatch_options *options) {
  char text[PL_FABRIC_ERROR_BYTES];
  struct pl_fabric_section section = {
      .name = "slabs", .version = 1, .element_count = TRIAL_SLABS};
  int failed;

  options->slab_bytes = pl__dispatch_slab_bytes(&t->config);
  options->slab_count = TRIAL_SLABS;
  section.element_bytes = options->slab_bytes;
  failed = pl__fabric_open(&t->slabs, &section, 1, text);
  return failed ? failed
                : pl__fabric_find(&t->slabs, "slabs", 1, options->slab_bytes,
                                  &options->slabs, NULL);
}

/* The VM, with the bundle to record into. */
static int open_dispatch(struct trial *t) {
  const struct pl_trial_args *args = t->args;
  struct pl_dispatch_options options = {
      .config = &t->config,
      .log_wake_fd = args->log_wake_fd,
      .worker = PL_RECORD_TRIAL,
      .generation = {.number = args->generation, .records = true},
  };
  struct pl_metrics metrics;
  int failed = make_slabs(t, &options);

  failed = failed
               ? failed
               : pl__layout_ring(args->fabric, PL_RECORD_TRIAL, &options.log);
  failed = failed
               ? failed
               : pl__layout_bundle(args->fabric, args->generation, &t->bundle);
  failed = failed ? failed
                  : pl__layout_shared(args->fabric, &options.generation.shared);
  failed = failed ? failed : pl__layout_metrics(args->fabric, &metrics);
  options.generation.metrics = failed ? NULL : metrics.table;
  options.generation.bundle = t->bundle;
  return failed ? failed : pl__dispatch_open(&t->dispatch, &options, t->err);
}

/* Whether the app has something that control is to run. */
static int mark_watched(struct trial *t) {
  struct pl_vm_arg none = {0};
  struct pl_buf answer;
  uint32_t lines;
  int failed;

  pl__buf_init(&answer, NULL, 1);
  failed =
      pl__vm_call_tool(&t->dispatch.now->vm, "is_watched", &none, 0,
                       t->config.vm_load_timeout_s, &answer, &lines, t->err);
  if (!failed && answer.bytes)
    failed = pl__edition_mark_watched(t->bundle);
  pl__buf_release(&answer);
  return failed;
}

static int try_out(struct trial *t) {
  int failed = configure(t);

  failed = failed ? failed : open_dispatch(t);
  if (failed)
    return failed;
  failed = pl__generation_load(t->dispatch.now, t->err);
  if (failed)
    return failed;
  failed = mark_watched(t);
  if (failed && failed != PL_EFULL)
    return failed;
  failed = failed ? failed : pl__edition_write(t->bundle, &t->config);
  if (failed) {
    snprintf(t->err, sizeof t->err,
             "the files of the app are larger than %u MiB together",
             PL_LIMIT_BUNDLE_BYTES >> 20);
    return PL_ESCRIPT;
  }
  pl__snapshot(t->bundle, t->config.app_folder);
  pl__succession_publish(t->args->fabric, &t->dispatch, t->dispatch.now);
  pl__bundle_publish(t->bundle);
  return 0;
}

int pl__trial_main(const struct pl_trial_args *args) {
  struct trial *t = pl__alloc_zero(sizeof *t);
  int failed;

  prctl(PR_SET_NAME, "perilune-try");
  if (!t)
    return 1;
  t->args = args;
  snprintf(t->err, sizeof t->err, "out of memory");
  failed = try_out(t);
  if (t->dispatch.has_log)
    pl__ring_wake(&t->dispatch.log);
  pl__channel_say(args->channel_fd, PL_NEWS_TRIED, args->generation, failed,
                  failed ? t->err : t->fixed);
  return failed ? 1 : 0; /* the process ends: nothing is given back */
}
