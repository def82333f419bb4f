/* log/flame.h - stacks with values as a tree, and that for people: a table, a
 * flame graph, and lines for the tools of others.
 *
 *   open -> add, add, ... -> text, folded, svg -> close
 *
 * Frames are told apart by name and kind.  What finds no room any more
 * (PL_FLAME_NODES_MAX) counts where its stack had to end.
 */
#ifndef PL_LOG_FLAME_H
#define PL_LOG_FLAME_H

#include "base/buf.h"
#include "fabric/symbols.h"

#include <stdint.h>

#define PL_FLAME_NODES_MAX 65536u
#define PL_FLAME_NAMES_MAX 16384u
#define PL_FLAME_TEXT_BYTES_MAX (2u << 20) /* of all names */
#define PL_FLAME_BYTES_MAX (16u << 20)     /* of a rendering */
#define PL_FLAME_DEPTH_MAX 80u             /* frames of a stack */

struct pl_flame_frame {
  struct pl_slice name; /* copied */
  enum pl_symbol_kind kind;
};

struct pl_flame_node;
struct pl_flame_name;

struct pl_flame {
  struct pl_flame_node *nodes; /* the first one is the root */
  uint32_t node_count, node_cap;
  struct pl_flame_name *names;
  uint32_t name_count;
  uint32_t *index; /* of names: open addressing */
  struct pl_buf text;
};

/* What values mean. */
struct pl_flame_unit {
  const char *what;   /* "CPU time" */
  const char *symbol; /* behind a number: "ms" */
  double divisor;     /* of a value, for that number */
};

/* 0 or PL_ENOMEM. */
int pl__flame_open(struct pl_flame *f);
void pl__flame_close(struct pl_flame *f);

/* A stack, the innermost frame first, at most PL_FLAME_DEPTH_MAX count.
 * 0 or PL_ENOMEM. */
int pl__flame_add(struct pl_flame *f, const struct pl_flame_frame *frames,
                  uint32_t depth, int64_t value);

/* These append to `out` and return 0, PL_ENOMEM or PL_EFULL. */

/* A line per function, the most expensive first: what it took itself, that in
 * per cent, the sum so far, and what it took with all it has called. */
int pl__flame_text(const struct pl_flame *f, const struct pl_flame_unit *unit,
                   uint32_t lines_max, struct pl_buf *out);
/* "outer;inner 4000" for each stack, as flamegraph.pl and others read it. */
int pl__flame_folded(const struct pl_flame *f, struct pl_buf *out);
/* A picture that needs no script: a title on each box has its numbers; light or
 * dark as the reader has it. `title` stands above it. */
int pl__flame_svg(const struct pl_flame *f, const struct pl_flame_unit *unit,
                  const char *title, struct pl_buf *out);

#endif /* PL_LOG_FLAME_H */
