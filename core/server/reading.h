/* server/reading.h - what coroutines do, read from the fabric for one answer:
 * where they are, who has started them, and the answer as it grows.
 *
 * Who wants to tell of coroutines, of waits or of leaks opens one, writes, and
 * closes it; what fails once stays failed.  Believes nothing in the fabric that
 * could lead it astray (fabric/waits.h, fabric/names.h).
 */
#ifndef PL_SERVER_READING_H
#define PL_SERVER_READING_H

#include "base/buf.h"
#include "fabric/names.h"
#include "fabric/waits.h"
#include "log/pprof.h"

struct pl_fabric;
struct pl_routes;

#define PL_COROUTINES_MAX 262144u  /* are read */
#define PL_READING_PLACE_BYTES 512 /* "file:line", or a route; cut past it */

/* Where a worker tells of its coroutines. */
struct pl_reading_source {
  const struct pl_waits *waits;
  struct pl_names names;
  uint64_t asked_ms; /* monotonic, before anything was read */
  uint32_t entries;
};

struct pl_reading_row {
  struct pl_waits_seen seen;
  uint32_t worker;
  int64_t age_ns;
};

struct pl_reading {
  const struct pl_fabric *fabric;
  const struct pl_routes *routes;
  struct pl_reading_source *sources; /* by worker */
  uint32_t worker_count;
  struct pl_reading_row *rows; /* once pl__reading_rows has read them */
  uint32_t row_count;
  uint32_t row_max; /* that there is room for */
  int64_t now_ns;
  struct pl_buf *out; /* borrowed */
  int failed;
};

/* 0, PL_ENOMEM, or what pl__layout_* return; to be closed also then. */
int pl__reading_open(struct pl_reading *r, const struct pl_fabric *f,
                     struct pl_buf *out);
/* The coroutines of all workers, in no order. 0 or PL_ENOMEM. */
int pl__reading_rows(struct pl_reading *r);
/* What has failed, or 0. */
int pl__reading_close(struct pl_reading *r);

/* --- writing ------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) void
pl__reading_put(struct pl_reading *r, const char *format, ...);
/* `,"key":"text"` */
void pl__reading_text(struct pl_reading *r, const char *key,
                      struct pl_slice text);
/* For people: control characters, and what is no UTF-8, as pl__put_plain has
 * them; a quote is \". */
void pl__reading_plain(struct pl_reading *r, struct pl_slice text);
/* `, task "name"`, if it has one. */
void pl__reading_task(struct pl_reading *r, struct pl_slice name);
/* "5 seconds" */
void pl__reading_age(struct pl_reading *r, int64_t age_ns);
/* The frames of a stack, two lines each, as Go tells them. */
void pl__reading_frames(struct pl_reading *r, uint32_t worker, uint32_t stack,
                        const char *lead);

/* --- what it is --------------------------------------------------------- */

/* "file:line" of the innermost frame of the app's, in `out`
 * (PL_READING_PLACE_BYTES); empty: there is none. */
struct pl_slice pl__reading_place(const struct pl_reading_source *s,
                                  uint32_t stack, char *out);
/* The pattern of a route; empty: there is none, or it is not known. */
struct pl_slice pl__reading_pattern(const struct pl_reading *r,
                                    uint32_t generation, uint32_t route);
/* Who started it: a line, or a request; into `out` as above. */
struct pl_slice pl__reading_starter(const struct pl_reading *r, uint32_t worker,
                                    uint32_t started, uint32_t generation,
                                    uint32_t route, char *out);
/* What it does: its reason if it waits. Static. */
const char *pl__reading_doing(const struct pl_waits_seen *s);
/* "<1s" to ">=1h". Static. */
const char *pl__reading_bucket(int64_t age_ns);
/* A worker's number as a label. */
struct pl_slice pl__reading_number(uint32_t number, char out[16]);

static inline uint64_t pl__reading_load(const _Atomic uint64_t *at) {
  return atomic_load_explicit(at, memory_order_relaxed);
}

/* --- profiles ----------------------------------------------------------- */

/* Begins one of so many counts. 0, or an error: then there is nothing to end. */
int pl__reading_profile(struct pl_pprof *p, const struct pl_pprof_type *types,
                        uint32_t count);
/* The locations of a stack (PL_STACKS_DEPTH_MAX); returns how many.  Of one that
 * is not known: one, "(otherwise)". */
uint32_t pl__reading_locate(struct pl_reading *r, struct pl_pprof *p,
                            uint32_t worker, uint32_t stack,
                            const char *otherwise, uint64_t *locations);

#endif /* PL_SERVER_READING_H */
