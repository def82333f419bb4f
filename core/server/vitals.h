/* server/vitals.h - what the VMs of workers count of themselves: memory, the
 * collector, coroutines, the compiler; as numbers for the dashboard.
 *
 * Read from the shards (fabric/metrics.h), where workers count it for everybody.
 */
#ifndef PL_SERVER_VITALS_H
#define PL_SERVER_VITALS_H

#include "server/json.h"

#include <stdint.h>

struct pl_fabric;
struct pl_metrics;

/* Writes `"key":number,` for each of them whose metric's name begins with
 * `prefix`: of all workers together. */
void pl__vitals_sum(struct pl_json *j, const struct pl_metrics *m,
                    const char *prefix);

/* Appends
 *
 *   {"memory_soft_bytes":,"memory_hard_bytes":,
 *    "workers":[{"is_live":true,"memory_bytes":,"collect_busy_s":, ...}]}
 *
 * one for each worker there is room for, by index; the names are in vitals.c.
 * A limit of 0: there is none.  Returns 0, or as pl__layout_metrics and
 * pl__buf_append. */
int pl__vitals_json(const struct pl_fabric *f, uint64_t soft_bytes,
                    uint64_t hard_bytes, struct pl_buf *out);

#endif /* PL_SERVER_VITALS_H */
