/* server/recording.c - see recording.h. */
#include "server/recording.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/routes.h"
#include "server/layout.h"

/* The last one is the master's. */
static uint32_t sources_find(const struct pl_fabric *f,
                             struct pl_timeline_source *out) {
  struct pl_event_rings *events;
  uint32_t count = 0;

  while (count < PL_TIMELINE_SOURCES_MAX &&
         !pl__layout_events(f, count, &events)) {
    out[count] = (struct pl_timeline_source){.events = events, .tid = count};
    snprintf(out[count].name, sizeof out[count].name, "worker %u", count);
    count++;
  }
  if (count)
    snprintf(out[count - 1].name, sizeof out[count - 1].name, "master");
  return count;
}

int pl__recording_open(struct pl_timeline **out, const struct pl_fabric *f,
                       const char *name, int pid, double ago) {
  struct pl_timeline_options options = {
      .name = name, .pid = pid, .from_s = pl__clock_monotonic_s() - ago};
  struct pl_timeline_source *sources =
      pl__alloc_zero(PL_TIMELINE_SOURCES_MAX * sizeof *sources);
  struct pl_routes *routes;
  int failed;

  if (!sources)
    return PL_ENOMEM;
  if (options.from_s < 0) /* the machine has not run for so long */
    options.from_s = 0;
  options.sources = sources;
  options.source_count = sources_find(f, sources);
  if (!pl__layout_routes(f, &routes))
    options.routes = routes;
  failed = pl__timeline_open(out, &options);
  pl__free(sources);
  return failed;
}

uint64_t pl__recording_deadlines(const struct pl_fabric *f) {
  struct pl_event_rings *events;
  uint64_t sum = 0;

  for (uint32_t i = 0; !pl__layout_events(f, i, &events); i++)
    sum += atomic_load_explicit(&events->deadlines, memory_order_relaxed);
  return sum;
}
