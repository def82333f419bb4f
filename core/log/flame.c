/* log/flame.c - see flame.h. */
#include "log/flame.h"

#include "base/alloc.h"
#include "base/err.h"
#include "log/digits.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_SLOTS (PL_FLAME_NAMES_MAX * 2)
#define NODES_FIRST 256u
#define NONE UINT32_MAX
struct pl_flame_name {
  uint32_t at; /* in the text */
  uint32_t bytes;
  enum pl_symbol_kind kind;
};

struct pl_flame_node {
  uint32_t name;
  uint32_t parent;
  uint32_t child; /* the first one; NONE */
  uint32_t next;  /* of the same parent; NONE */
  int64_t self;
  int64_t all;
};

/* --- the tree -------------------------------------------------------------- */

static int node_make(struct pl_flame *f, uint32_t name, uint32_t parent,
                     uint32_t *out) {
  *out = NONE;
  if (f->node_count == PL_FLAME_NODES_MAX)
    return 0;
  if (f->node_count == f->node_cap) {
    uint32_t cap = f->node_cap ? f->node_cap * 2 : NODES_FIRST;
    struct pl_flame_node *more = pl__realloc(f->nodes, cap * sizeof *more);
    if (!more)
      return PL_ENOMEM;
    f->nodes = more;
    f->node_cap = cap;
  }
  *out = f->node_count++;
  f->nodes[*out] = (struct pl_flame_node){
      .name = name, .parent = parent, .child = NONE, .next = NONE};
  if (parent != NONE) {
    f->nodes[*out].next = f->nodes[parent].child;
    f->nodes[parent].child = *out;
  }
  return 0;
}

int pl__flame_open(struct pl_flame *f) {
  uint32_t root;

  *f = (struct pl_flame){0};
  pl__buf_init(&f->text, NULL, PL_FLAME_TEXT_BYTES_MAX);
  f->names = pl__alloc(PL_FLAME_NAMES_MAX * sizeof *f->names);
  f->index = pl__alloc_zero(INDEX_SLOTS * sizeof *f->index);
  if (f->names && f->index && !node_make(f, NONE, NONE, &root))
    return 0;
  pl__flame_close(f);
  return PL_ENOMEM;
}

void pl__flame_close(struct pl_flame *f) {
  pl__free(f->nodes);
  pl__free(f->names);
  pl__free(f->index);
  pl__buf_release(&f->text);
  *f = (struct pl_flame){0};
}

static uint32_t hash_of(const struct pl_flame_frame *frame) {
  uint64_t h = (uint64_t)frame->kind + 1;

  for (uint32_t i = 0; i < frame->name.bytes; i++)
    h = (h ^ (unsigned char)frame->name.at[i]) * 0x100000001b3u;
  return (uint32_t)(h ^ h >> 32);
}

static struct pl_slice name_text(const struct pl_flame *f, uint32_t name) {
  return pl__slice(f->text.at + f->names[name].at, f->names[name].bytes);
}

/* NONE: there is no room. */
static int name_find(struct pl_flame *f, const struct pl_flame_frame *frame,
                     uint32_t *out) {
  uint32_t at = hash_of(frame), n;
  int failed;

  for (; (n = f->index[at % INDEX_SLOTS]); at++) {
    *out = n - 1;
    if (f->names[*out].kind == frame->kind &&
        pl__slice_equal(name_text(f, *out), frame->name))
      return 0;
  }
  *out = NONE;
  if (f->name_count == PL_FLAME_NAMES_MAX)
    return 0;
  n = f->text.bytes;
  failed = pl__buf_append_slice(&f->text, frame->name);
  if (failed)
    return failed == PL_EFULL ? 0 : failed;
  *out = f->name_count++;
  f->names[*out] = (struct pl_flame_name){n, frame->name.bytes, frame->kind};
  f->index[at % INDEX_SLOTS] = *out + 1;
  return 0;
}

static int child_of(struct pl_flame *f, uint32_t parent, uint32_t name,
                    uint32_t *out) {
  for (*out = f->nodes[parent].child; *out != NONE; *out = f->nodes[*out].next)
    if (f->nodes[*out].name == name)
      return 0;
  return node_make(f, name, parent, out);
}

int pl__flame_add(struct pl_flame *f, const struct pl_flame_frame *frames,
                  uint32_t depth, int64_t value) {
  uint32_t node = 0, left = depth;

  if (value > INT64_MAX - f->nodes[0].all)
    value = INT64_MAX - f->nodes[0].all;
  f->nodes[0].all += value;
  if (left > PL_FLAME_DEPTH_MAX)
    left = PL_FLAME_DEPTH_MAX;
  for (uint32_t i = depth; i > depth - left; i--) {
    uint32_t name, next = NONE;
    int failed = name_find(f, &frames[i - 1], &name);
    if (!failed && name != NONE)
      failed = child_of(f, node, name, &next);
    if (failed)
      return failed;
    if (next == NONE)
      break;
    node = next;
    f->nodes[node].all += value;
  }
  f->nodes[node].self += value;
  return 0;
}

/* --- writing; what fails once stays failed ----------------------------------- */

struct writer {
  struct pl_buf *out;
  int failed;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w,
                                                      const char *format, ...) {
  va_list args;

  va_start(args, format);
  if (!w->failed)
    w->failed = pl__buf_format(w->out, format, args);
  va_end(args);
}

static void put_slice(struct writer *w, struct pl_slice text) {
  if (!w->failed)
    w->failed = pl__buf_append_slice(w->out, text);
}

/* A name, on one line and without orders to terminals. */
static void put_name(struct writer *w, struct pl_slice name) {
  if (!w->failed)
    w->failed = pl__buf_reserve(w->out, name.bytes * PL_DIGITS_JSON_FACTOR);
  if (!w->failed)
    w->out->bytes =
        (uint32_t)(pl__put_plain(w->out->at + w->out->bytes, name, 0) -
                   w->out->at);
}

static double percent(const struct pl_flame *f, int64_t value) {
  return f->nodes[0].all ? 100.0 * (double)value / (double)f->nodes[0].all : 0;
}

/* --- the table ---------------------------------------------------------------- */

struct row {
  uint32_t name;
  int64_t self;
  int64_t all;
};

static int by_self(const void *a, const void *b) {
  const struct row *x = a, *y = b;

  if (x->self != y->self)
    return x->self < y->self ? 1 : -1;
  if (x->all != y->all)
    return x->all < y->all ? 1 : -1;
  return x->name < y->name ? -1 : 1;
}

/* Whether a frame of the same name called it: then it is in that one's sum. */
static bool is_inside_itself(const struct pl_flame *f, uint32_t node) {
  for (uint32_t at = f->nodes[node].parent; at; at = f->nodes[at].parent)
    if (f->nodes[at].name == f->nodes[node].name)
      return true;
  return false;
}

static struct row *rows_make(const struct pl_flame *f) {
  struct row *rows = pl__alloc_zero((f->name_count + 1) * sizeof *rows);

  if (!rows)
    return NULL;
  for (uint32_t i = 0; i < f->name_count; i++)
    rows[i].name = i;
  for (uint32_t i = 1; i < f->node_count; i++) {
    struct row *r = &rows[f->nodes[i].name];
    r->self += f->nodes[i].self;
    if (!is_inside_itself(f, i))
      r->all += f->nodes[i].all;
  }
  qsort(rows, f->name_count, sizeof *rows, by_self);
  return rows;
}

int pl__flame_text(const struct pl_flame *f, const struct pl_flame_unit *unit,
                   uint32_t lines_max, struct pl_buf *out) {
  struct row *rows = rows_make(f);
  struct writer w = {.out = out};
  int64_t sum = 0;

  if (!rows)
    return PL_ENOMEM;
  put(&w, "%.1f %s of %s\n", (double)f->nodes[0].all / unit->divisor,
      unit->symbol, unit->what);
  put(&w, "%12s %7s %7s %12s %7s\n", "flat", "flat%", "sum%", "cum", "cum%");
  for (uint32_t i = 0; i < f->name_count && i < lines_max; i++) {
    const struct row *r = &rows[i];
    sum += r->self;
    put(&w, "%9.1f %-2s %6.2f%% %6.2f%% %9.1f %-2s %6.2f%%  ",
        (double)r->self / unit->divisor, unit->symbol, percent(f, r->self),
        percent(f, sum), (double)r->all / unit->divisor, unit->symbol,
        percent(f, r->all));
    put_name(&w, name_text(f, r->name));
    put(&w, "\n");
  }
  pl__free(rows);
  return w.failed;
}

/* --- folded --------------------------------------------------------------------- */

int pl__flame_folded(const struct pl_flame *f, struct pl_buf *out) {
  struct writer w = {.out = out};

  for (uint32_t i = 1; i < f->node_count && !w.failed; i++) {
    uint32_t path[PL_FLAME_DEPTH_MAX], depth = 0;
    if (!f->nodes[i].self)
      continue;
    for (uint32_t at = i; at; at = f->nodes[at].parent)
      path[depth++] = at;
    while (depth--) {
      put_name(&w, name_text(f, f->nodes[path[depth]].name));
      put(&w, depth ? ";" : " ");
    }
    put(&w, "%lld\n", (long long)f->nodes[i].self);
  }
  return w.failed;
}

/* --- the picture ------------------------------------------------------------------ */

#define WIDTH 1200.0
#define MARGIN 10.0
#define ROW 18.0
#define HEAD 54.0
#define FOOT 30.0
#define CHAR 6.6      /* of a monospaced letter at 11px */
#define NARROWEST 0.2 /* pixels of a box */

static const char style[] =
    "<style>"
    "svg{font:11px ui-monospace,Menlo,Consolas,monospace;--ink:#1b1f24;"
    "--paper:#fff;--lua:#f4a259;--own:#e8cf8b;--c:#8ab6d6;--core:#b8c0cc}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6e8eb;--paper:#14171c;"
    "--lua:#a5602a;--own:#7d6a2c;--c:#2f6690;--core:#4a525e}}"
    ".paper{fill:var(--paper)}text{fill:var(--ink)}.t{font-size:15px}"
    ".k0{fill:var(--lua)}.k1{fill:var(--own)}.k2{fill:var(--c)}"
    ".k3{fill:var(--core)}.b{stroke:var(--paper);stroke-width:.7}"
    "g:hover>.b{stroke:var(--ink)}"
    "</style>\n";

struct picture {
  struct writer w;
  const struct pl_flame *f;
  const struct pl_flame_unit *unit;
  double height;
};

static void put_xml(struct writer *w, struct pl_slice text) {
  for (uint32_t i = 0; i < text.bytes; i++) {
    char c = text.at[i];
    if (c == '<')
      put(w, "&lt;");
    else if (c == '>')
      put(w, "&gt;");
    else if (c == '&')
      put(w, "&amp;");
    else if (c == '"')
      put(w, "&quot;");
    else if ((unsigned char)c < 0x20 || c == 0x7f) /* XML has none of these */
      put(w, "\\x%02x", (unsigned)c);
    else
      put_slice(w, pl__slice(&c, 1));
  }
}

static uint32_t chars_of(struct pl_slice text) {
  uint32_t n = 0;

  for (uint32_t i = 0; i < text.bytes; i++)
    n += ((unsigned char)text.at[i] & 0xc0) != 0x80;
  return n;
}

/* The first `n` characters. */
static struct pl_slice begin_of(struct pl_slice text, uint32_t n) {
  for (uint32_t i = 0; i < text.bytes; i++)
    if (((unsigned char)text.at[i] & 0xc0) != 0x80 && n-- == 0)
      return pl__slice(text.at, i);
  return text;
}

static void put_label(struct picture *p, struct pl_slice name, double x,
                      double y, double width) {
  uint32_t room;

  if (width < 3 * CHAR + 6)
    return;
  room = (uint32_t)((width - 6) / CHAR);
  put(&p->w, "<text x=\"%.1f\" y=\"%.1f\">", x + 3, y + 13);
  if (chars_of(name) <= room) {
    put_xml(&p->w, name);
  } else {
    put_xml(&p->w, begin_of(name, room - 2));
    put(&p->w, "..");
  }
  put(&p->w, "</text>");
}

static void put_box(struct picture *p, uint32_t node, uint32_t depth, double x,
                    double width) {
  const struct pl_flame_node *n = &p->f->nodes[node];
  double y = p->height - FOOT - ROW * (depth + 1);
  struct pl_slice name =
      node ? name_text(p->f, n->name) : pl__slice_text("all");
  unsigned kind = node ? (unsigned)p->f->names[n->name].kind : PL_SYMBOL_CORE;

  put(&p->w, "<g><title>");
  put_xml(&p->w, name);
  put(&p->w, ": %.1f %s, %.2f%%; itself %.1f %s, %.2f%%</title>",
      (double)n->all / p->unit->divisor, p->unit->symbol, percent(p->f, n->all),
      (double)n->self / p->unit->divisor, p->unit->symbol,
      percent(p->f, n->self));
  put(&p->w,
      "<rect class=\"b k%u\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" "
      "height=\"%.1f\" rx=\"2\"/>",
      kind % PL_SYMBOL_KINDS, x, y, width, ROW - 1);
  put_label(p, name, x, y, width);
  put(&p->w, "</g>\n");
}

/* The children of a node that take the most, at most `max` of them, those first
 * that take more. */
static uint32_t children_of(const struct pl_flame *f, uint32_t node,
                            uint32_t *out, uint32_t max) {
  uint32_t count = 0, at;

  for (uint32_t c = f->nodes[node].child; c != NONE; c = f->nodes[c].next) {
    if (count == max && f->nodes[out[max - 1]].all >= f->nodes[c].all)
      continue;
    at = count < max ? count++ : max - 1;
    for (; at > 0 && f->nodes[out[at - 1]].all < f->nodes[c].all; at--)
      out[at] = out[at - 1];
    out[at] = c;
  }
  return count;
}

#define CHILDREN_MAX 512u /* that are drawn; the others are narrow */

static void put_tree(struct picture *p, uint32_t node, uint32_t depth, double x,
                     double width) {
  const struct pl_flame *f = p->f;
  double scale = f->nodes[node].all ? width / (double)f->nodes[node].all : 0;
  uint32_t children[CHILDREN_MAX], count;

  put_box(p, node, depth, x, width);
  count = children_of(f, node, children, CHILDREN_MAX);
  for (uint32_t i = 0; i < count && !p->w.failed; i++) {
    double part = scale * (double)f->nodes[children[i]].all;
    if (part >= NARROWEST)
      put_tree(p, children[i], depth + 1, x, part);
    x += part;
  }
}

static uint32_t deepest(const struct pl_flame *f) {
  uint32_t most = 0;

  for (uint32_t i = 0; i < f->node_count; i++) {
    uint32_t depth = 0;
    for (uint32_t at = i; at; at = f->nodes[at].parent)
      depth++;
    if (depth > most)
      most = depth;
  }
  return most;
}

static void put_legend(struct picture *p) {
  static const char *const names[PL_SYMBOL_KINDS] = {"Lua", "Perilune's Lua",
                                                     "C from Lua", "core"};
  double x = MARGIN;

  for (unsigned i = 0; i < PL_SYMBOL_KINDS; i++) {
    put(&p->w,
        "<rect class=\"k%u\" x=\"%.0f\" y=\"34\" width=\"11\" height=\"11\" "
        "rx=\"2\"/><text x=\"%.0f\" y=\"43\">%s</text>\n",
        i, x, x + 16, names[i]);
    x += 34 + CHAR * (double)strlen(names[i]);
  }
}

int pl__flame_svg(const struct pl_flame *f, const struct pl_flame_unit *unit,
                  const char *title, struct pl_buf *out) {
  struct picture p = {.w = {.out = out}, .f = f, .unit = unit};

  p.height = HEAD + FOOT + ROW * (deepest(f) + 1);
  put(&p.w,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "width=\"%.0f\" height=\"%.0f\" "
      "style=\"max-width:100%%;height:auto\" role=\"img\">\n<title>",
      WIDTH, p.height, WIDTH, p.height);
  put_xml(&p.w, pl__slice_text(title));
  put(&p.w, "</title>\n%s", style);
  put(&p.w,
      "<rect class=\"paper\" width=\"100%%\" height=\"100%%\"/>\n"
      "<text class=\"t\" x=\"%.0f\" y=\"22\">",
      MARGIN);
  put_xml(&p.w, pl__slice_text(title));
  put(&p.w, "</text>\n");
  put_legend(&p);
  put_tree(&p, 0, 0, MARGIN, WIDTH - 2 * MARGIN);
  put(&p.w,
      "<text x=\"%.0f\" y=\"%.0f\">%.1f %s of %s; a box has its numbers in its "
      "title</text>\n</svg>\n",
      MARGIN, p.height - 10, (double)f->nodes[0].all / unit->divisor,
      unit->symbol, unit->what);
  return p.w.failed;
}
