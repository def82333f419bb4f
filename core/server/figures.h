/* server/figures.h - all metrics of a server as text: those that processes
 * count in their shards, and what else lies in the fabric.
 *
 * Reads the fabric only, so any process of the server can do it, and workers
 * that stand still or are dead are shown as well.  Believes nothing there that
 * could lead it astray: workers can write over it.
 */
#ifndef PL_SERVER_FIGURES_H
#define PL_SERVER_FIGURES_H

#include "fabric/exports.h"
#include "fabric/ring.h"
#include "log/exposition.h"

struct pl_fabric;

#define PL_FIGURES_BYTES_MAX (32u << 20)

/* Appends to `out`.  Returns 0, or what pl__layout_* or pl__buf_append return.
 */
int pl__figures_expose(const struct pl_fabric *f,
                       enum pl_exposition_format format, struct pl_buf *out);

/* The same as OTLP has it, between begin and end of `otlp`.  Returns what
 * pl__layout_metrics does. */
int pl__figures_export(const struct pl_fabric *f, struct pl_otlp_metrics *otlp);

/* As that: OpenMetrics if anything is said, else Prometheus' text.  For the admin
 * plane's Lua. */
int pl__figures_answer(const struct pl_fabric *f, struct pl_slice said,
                       struct pl_buf *out);

/* What a collector did not get for that reason, those that found no room in rings
 * on the way to the exporter among PL_EXPORT_FULL. */
uint64_t pl__figures_export_drops(const struct pl_fabric *f,
                                  enum pl_signal signal,
                                  enum pl_export_drop why);

/* Records that found no room in the log rings of all processes, by level. */
void pl__figures_drops(const struct pl_fabric *f, uint32_t worker_count,
                       uint64_t drops[PL_RING_LANES]);

#endif /* PL_SERVER_FIGURES_H */
