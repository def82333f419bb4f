/* log/pprof.h - writes a profile as pprof reads it: profile.proto, compressed.
 *
 * https://github.com/google/pprof/blob/main/proto/profile.proto
 *
 *   begin -> location, sample, location, sample, ... -> end
 *
 * What repeats (texts, functions, locations) is written once.  The frames of a
 * sample are symbols of fabric/symbols.h, or places that the caller names.
 * Errors stick, and are told by the end.
 */
#ifndef PL_LOG_PPROF_H
#define PL_LOG_PPROF_H

#include "base/buf.h"
#include "fabric/symbols.h"
#include "log/protobuf.h"

#include <stdint.h>

#define PL_PPROF_BYTES_MAX (64u << 20) /* before it is compressed */
#define PL_PPROF_VALUES_MAX 4u         /* of a sample */

/* What a value counts: {"cpu", "nanoseconds"}. */
struct pl_pprof_type {
  const char *type;
  const char *unit;
};

struct pl_pprof_options {
  const struct pl_pprof_type *types; /* of each sample's values, in order */
  uint32_t type_count;               /* 1 to PL_PPROF_VALUES_MAX */
  struct pl_pprof_type period_type;  /* type NULL: there is no period */
  int64_t period;                    /* between two samples */
  int64_t time_ns;                   /* realtime, when it begins */
  int64_t duration_ns;               /* 0: it is of a moment */
};

/* A label of a sample: a text, or a number if that is NULL. */
struct pl_pprof_label {
  const char *key;
  struct pl_slice text;
  int64_t number; /* if text.at is NULL */
  const char *unit;
};

/* Numbers of things by what they are: open addressing that grows. */
struct pl_pprof_index {
  uint64_t (*at)[3]; /* two words of key, and the number; 0: free */
  uint32_t cap;      /* a power of two */
  uint32_t count;
};

struct pl_pprof {
  struct pl_pb pb;
  struct pl_buf body;
  struct pl_pprof_index texts; /* by hash and place in the body */
  struct pl_pprof_index functions;
  struct pl_pprof_index locations;
  uint32_t value_count;
};

/* 0, PL_ENOMEM; to be freed by pl__pprof_end or pl__pprof_drop either way. */
int pl__pprof_begin(struct pl_pprof *p, const struct pl_pprof_options *options);

/* The number of a place, for samples: `line` of the function `name`, which
 * begins at `first_line` of `file`. Texts are copied. */
uint64_t pl__pprof_place(struct pl_pprof *p, struct pl_slice name,
                         struct pl_slice file, uint32_t first_line,
                         uint32_t line);
/* The same for a symbol, whose function is called as pl__pprof_name says. */
uint64_t pl__pprof_location(struct pl_pprof *p, const struct pl_symbol *symbol);

#define PL_PPROF_NAME_BYTES 256u
/* How people are told which function that is: "name file.lua:12", the file
 * without its folders; "name" of what has no lines.  Into `out`
 * (PL_PPROF_NAME_BYTES), in valid UTF-8 without control characters and
 * semicolons; returns it. */
struct pl_slice pl__pprof_name(const struct pl_symbol *symbol, char *out);

/* `depth` locations, the innermost first; as many values as there are types. */
void pl__pprof_sample(struct pl_pprof *p, const uint64_t *locations,
                      uint32_t depth, const int64_t *values,
                      const struct pl_pprof_label *labels,
                      uint32_t label_count);

/* Appends the compressed file to `out`, and frees.  0; PL_ENOMEM, PL_EFULL: the
 * first error since the beginning. */
int pl__pprof_end(struct pl_pprof *p, struct pl_buf *out);
void pl__pprof_drop(struct pl_pprof *p);

#endif /* PL_LOG_PPROF_H */
