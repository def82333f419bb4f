/* server/leaks.h - coroutines that nobody could wake any more, and those that
 * are suspected of it.
 */
#ifndef PL_SERVER_LEAKS_H
#define PL_SERVER_LEAKS_H

#include "base/buf.h"
#include "log/exposition.h"

struct pl_fabric;
struct pl_reading;

/* Appends them; said "1": as text, else profile.proto, compressed.  Returns 0, or
 * what pl__layout_* or pl__buf_append return. */
int pl__leaks_answer(const struct pl_fabric *f, struct pl_slice said,
                     struct pl_buf *out);
/* `"leaks":[...],"suspects":[...]`, each at most 50 long, as coroutines.h has
 * them. */
void pl__leaks_json(struct pl_reading *r);
/* Their metrics. */
void pl__leaks_figures(const struct pl_fabric *f, uint32_t worker_count,
                       struct pl_exposition *e);

#endif /* PL_SERVER_LEAKS_H */
