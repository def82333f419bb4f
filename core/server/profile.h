/* server/profile.h - CPU profiles of all workers, from the samples in the fabric.
 *
 * Nothing is begun and nobody is asked: samples are always taken
 * (fabric/samples.h), and a profile is those of a time, put together.  So one
 * of the last minutes is there when somebody asks, and workers that stand still
 * or are dead are in it.  Any process of the server can do it.
 *
 * What is asked comes as a query does: "seconds=30&ago=0&format=pprof".
 *
 *   seconds  how long; 1 to PL_SAMPLES_S_MAX, 30 if it is not said
 *   ago      seconds between its end and now; 0
 *   format   pprof (the file that `go tool pprof` reads, compressed), folded,
 *            svg (a flame graph), text (a table)
 */
#ifndef PL_SERVER_PROFILE_H
#define PL_SERVER_PROFILE_H

#include "base/buf.h"

struct pl_fabric;

#define PL_PROFILE_SECONDS 30u
#define PL_PROFILE_ROWS_MAX 131072u /* samples that differ; pprof has room */
#define PL_PROFILE_BYTES_MAX (32u << 20)

enum pl_profile_form {
  PL_PROFILE_PPROF,
  PL_PROFILE_FOLDED,
  PL_PROFILE_SVG,
  PL_PROFILE_TEXT,
  PL_PROFILE_FORMS
};

/* Which one a query asks for; PL_PROFILE_FORMS: one that there is not. */
enum pl_profile_form pl__profile_form(struct pl_slice query);

/* Appends the profile that `query` asks for.  PL_EBAD: it cannot be
 * understood; PL_ENOMEM, PL_EFULL, or what pl__layout_* return. */
int pl__profile_answer(const struct pl_fabric *f, struct pl_slice query,
                       struct pl_buf *out);

/* Of each route, how many samples found it in which kind of code, as JSON:
 * {"seconds":900,"routes":[{"route":"GET /","compiled":9,"interpreted":1,"c":0,
 * "collector":0,"compiler":0,"samples":10}]}, the busiest first; "(task)" is
 * Lua of no request.  `query` may say seconds and ago, PL_SAMPLES_S_MAX and 0 if
 * it does not.  Returns as pl__profile_answer. */
int pl__profile_shares(const struct pl_fabric *f, struct pl_slice query,
                       struct pl_buf *out);

#endif /* PL_SERVER_PROFILE_H */
