/* Nodes lie in one array and refer to each other by index, so that growing is
 * one realloc.  A node stands for a prefix of whole segments; what leads from
 * it to the next segment is
 *
 *   a hash table for static segments, keyed by the first eight bytes and the
 *   length of a segment (the rest is compared);
 *   at most one child each for <int>, <uuid>, <slug> and plain parameters;
 *   at most one wildcard, which is a leaf.
 *
 * A leaf maps methods to routes.
 *
 * Why backtracking cannot explode: a node at depth d is only ever tried with
 * the d-th segment of the path, and it has one parent, so it is entered at
 * most once in a match.  The work is bounded by the nodes of the trie times
 * the bytes of one segment, whatever the client sends; and without parameters
 * beside static segments there is nothing to go back to.
 */
#include "http/router.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/err.h"
#include "http/chars.h"

enum { KIND_INT, KIND_UUID, KIND_SLUG, KIND_PLAIN, KIND_COUNT };

#define NONE UINT32_MAX
#define LEAF_ANY PL_METHOD_COUNT /* index of PL_METHOD_ANY in a leaf */
#define NODE_COUNT_MAX (1u << 20)

/* Methods that "any" stands for. */
#define ANY_BITS                                                               \
  ((uint64_t)1 << PL_METHOD_DELETE | (uint64_t)1 << PL_METHOD_GET |            \
   (uint64_t)1 << PL_METHOD_HEAD | (uint64_t)1 << PL_METHOD_POST |             \
   (uint64_t)1 << PL_METHOD_PUT | (uint64_t)1 << PL_METHOD_OPTIONS |           \
   (uint64_t)1 << PL_METHOD_TRACE | (uint64_t)1 << PL_METHOD_PATCH)

struct edge {
  uint64_t key;     /* the first eight bytes, zeros behind */
  uint32_t text_at; /* all bytes: offset in router.text */
  uint32_t bytes;   /* of the segment */
  uint32_t node;    /* NONE: an empty slot */
};

/* The routes of a pattern, by method. */
struct leaf {
  uint64_t methods; /* bit set; LEAF_ANY is bit PL_METHOD_COUNT */
  uint32_t routes[PL_METHOD_COUNT + 1];
};

struct node {
  struct edge *edges; /* edge_mask + 1 slots; NULL while there are none */
  uint32_t edge_mask;
  uint32_t edge_count;
  uint32_t params[KIND_COUNT]; /* nodes, or NONE */
  uint32_t wildcard;           /* a leaf, or NONE */
  uint32_t leaf;               /* or NONE */
  uint8_t has_params;          /* any of them */
};

struct pl_router {
  struct node *nodes;
  struct leaf *leaves;
  char *text; /* static segments */
  uint32_t node_count, node_cap;
  uint32_t leaf_count, leaf_cap;
  uint32_t text_bytes, text_cap;
  uint32_t route_count;
  uint64_t methods; /* of all leaves */
  const char *error;
};

/* ---- segments ---- */

/* A segment of a path, with the key that its edge is found by. */
struct segment {
  uint64_t key;
  uint32_t bytes;
};

/* Reads the segment that begins at `at`, up to "/" or `end`. Eight bytes at a
 * time: most segments need one step. */
static inline struct segment read_segment(const char *at, const char *end) {
  const uint64_t ones = 0x0101010101010101u, slashes = ones * '/';
  struct segment s = {0, 0};

  if (PL_LIKELY(end - at >= 8)) {
    uint64_t w, hit;
    memcpy(&w, at, 8);
    hit = w ^ slashes;
    hit = (hit - ones) & ~hit & (ones << 7);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (hit) { /* the lowest hit is a true one */
      uint32_t bits = (uint32_t)__builtin_ctzll(hit) & ~7u;
      s.bytes = bits / 8;
      s.key = bits ? w & (~(uint64_t)0 >> (64 - bits)) : 0;
      return s;
    }
    const char *slash = memchr(at + 8, '/', (size_t)(end - at - 8));
    s.key = w;
    s.bytes = (uint32_t)((slash ? slash : end) - at);
    return s;
#else
    (void)hit;
#endif
  }
  while (at + s.bytes < end && at[s.bytes] != '/') {
    if (s.bytes < 8)
      s.key |= (uint64_t)(unsigned char)at[s.bytes] << (8 * s.bytes);
    s.bytes++;
  }
  return s;
}

static inline uint32_t edge_hash(uint64_t key, uint32_t bytes) {
  uint64_t h = (key ^ bytes) * 0x9e3779b97f4a7c15u;
  return (uint32_t)(h >> 32);
}

/* The child for a static segment, or NONE. */
static inline uint32_t find_static(const struct pl_router *r,
                                   const struct node *n, struct segment s,
                                   const char *at) {
  if (!n->edges)
    return NONE;
  for (uint32_t i = edge_hash(s.key, s.bytes);; i++) {
    const struct edge *e = &n->edges[i & n->edge_mask];
    if (e->node == NONE)
      return NONE;
    if (e->key == s.key && e->bytes == s.bytes &&
        (s.bytes <= 8 ||
         memcmp(r->text + e->text_at + 8, at + 8, s.bytes - 8) == 0))
      return e->node;
  }
}

/* ---- parameter types ---- */

/* -?digits, the shortest form, at most 2^53 in size. */
static int read_int(const char *at, uint32_t bytes, double *number) {
  uint32_t i = bytes && at[0] == '-';
  uint64_t n = 0;

  if (i == bytes || bytes - i > 16 || (at[i] == '0' && bytes > 1))
    return 0;
  for (; i < bytes; i++) {
    if (!pl__char_is_digit(at[i]))
      return 0;
    n = n * 10 + (uint64_t)(at[i] - '0');
  }
  if (n > (uint64_t)1 << 53)
    return 0;
  *number = at[0] == '-' ? -(double)n : (double)n;
  return 1;
}

static int is_uuid(const char *at, uint32_t bytes) {
  if (bytes != 36)
    return 0;
  for (uint32_t i = 0; i < 36; i++) {
    int is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (is_dash ? at[i] != '-' : pl__char_hex(at[i]) < 0)
      return 0;
  }
  return 1;
}

static int is_slug(const char *at, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; i++)
    if (!pl__char_is(at[i], PL_CHAR_SLUG))
      return 0;
  return 1;
}

static int fits(int kind, const char *at, uint32_t bytes, double *number) {
  *number = 0;
  switch (kind) {
  case KIND_INT:
    return read_int(at, bytes, number);
  case KIND_UUID:
    return is_uuid(at, bytes);
  case KIND_SLUG:
    return is_slug(at, bytes);
  default:
    return 1;
  }
}

/* ---- matching ---- */

struct match {
  const struct pl_router *r;
  struct pl_req *req;
  const char *end;  /* of the path */
  uint64_t allowed; /* methods of leaves that had another one */
};

static int take_leaf(struct match *m, uint32_t index, uint32_t param_count) {
  const struct leaf *leaf = &m->r->leaves[index];
  uint8_t method = m->req->method;

  if (method >= PL_METHOD_COUNT || !(leaf->methods >> method & 1)) {
    if (method == PL_METHOD_HEAD && leaf->methods >> PL_METHOD_GET & 1)
      method = PL_METHOD_GET;
    else if (leaf->methods >> LEAF_ANY & 1 && method < PL_METHOD_COUNT &&
             ANY_BITS >> method & 1)
      method = LEAF_ANY;
    else {
      m->allowed |= leaf->methods;
      return 0;
    }
  }
  m->req->route = leaf->routes[method];
  m->req->param_count = param_count;
  return 1;
}

static int match_node(struct match *m, uint32_t index, const char *at,
                      uint32_t param_count);

/* Goes on behind a segment that led to node `index`: at its end, or deeper. */
static inline int match_behind(struct match *m, uint32_t index,
                               const char *behind, uint32_t param_count) {
  if (behind == m->end) {
    uint32_t leaf = m->r->nodes[index].leaf;
    return leaf != NONE && take_leaf(m, leaf, param_count);
  }
  return match_node(m, index, behind + 1, param_count);
}

/* Parameters and wildcard of node `n` for the segment at `at`. */
static int match_params(struct match *m, const struct node *n, const char *at,
                        uint32_t bytes, uint32_t param_count) {
  struct pl_param *param = &m->req->params[param_count];

  for (int kind = 0; bytes && kind < KIND_COUNT; kind++) {
    double number;
    if (n->params[kind] == NONE || !fits(kind, at, bytes, &number))
      continue;
    param->text = pl__slice(at, bytes);
    param->number = number;
    if (match_behind(m, n->params[kind], at + bytes, param_count + 1))
      return 1;
  }
  if (n->wildcard != NONE) {
    param->text = pl__slice(at, (size_t)(m->end - at));
    param->number = 0;
    return take_leaf(m, n->wildcard, param_count + 1);
  }
  return 0;
}

/* Tries what the segment at `at` can be below node `index`. Recursion is as
 * deep as the longest pattern has segments (PL_LIMIT_PATTERN_SEGMENTS). */
static int match_node(struct match *m, uint32_t index, const char *at,
                      uint32_t param_count) {
  const struct node *n = &m->r->nodes[index];
  struct segment s = read_segment(at, m->end);
  uint32_t child = find_static(m->r, n, s, at);

  if (child != NONE && match_behind(m, child, at + s.bytes, param_count))
    return 1;
  return n->has_params && match_params(m, n, at, s.bytes, param_count);
}

/* What to say of methods that leaves have. */
static double allow_of(uint64_t methods) {
  if (methods >> LEAF_ANY & 1)
    methods |= ANY_BITS;
  if (methods >> PL_METHOD_GET & 1)
    methods |= (uint64_t)1 << PL_METHOD_HEAD;
  methods |= (uint64_t)1 << PL_METHOD_OPTIONS;
  return (double)(methods & ~((uint64_t)1 << LEAF_ANY));
}

enum pl_route_outcome pl__router_match(const struct pl_router *r,
                                       struct pl_req *req) {
  const struct pl_slice path = req->path;
  struct match m = {r, req, path.at + path.bytes, 0};

  if (PL_UNLIKELY(req->flags & PL_REQ_ASTERISK)) {
    req->allow = allow_of(r->methods);
    return PL_ROUTE_NOT_ALLOWED;
  }
  req->param_count = 0;
  if (path.bytes && path.at[0] == '/' && match_node(&m, 0, path.at + 1, 0))
    return PL_ROUTE_FOUND;
  if (!m.allowed)
    return PL_ROUTE_NOT_FOUND;
  req->allow = allow_of(m.allowed);
  return PL_ROUTE_NOT_ALLOWED;
}

/* ---- building ---- */

/* `items` with room for `more` behind `count`; NULL when there is no memory,
 * and `items` is then as it was. */
static void *grow(void *items, uint32_t count, uint32_t more, uint32_t *cap,
                  size_t item_bytes) {
  uint32_t wanted = *cap ? *cap : 16;

  if (*cap - count >= more)
    return items;
  while (wanted - count < more)
    wanted *= 2;
  items = pl__realloc(items, wanted * item_bytes);
  if (items)
    *cap = wanted;
  return items;
}

static int add_node(struct pl_router *r, uint32_t *index) {
  if (r->node_count == NODE_COUNT_MAX)
    return PL_EFULL;
  void *nodes =
      grow(r->nodes, r->node_count, 1, &r->node_cap, sizeof(*r->nodes));
  if (!nodes)
    return PL_ENOMEM;
  r->nodes = nodes;
  struct node *n = &r->nodes[r->node_count];
  memset(n, 0, sizeof(*n));
  for (int kind = 0; kind < KIND_COUNT; kind++)
    n->params[kind] = NONE;
  n->wildcard = n->leaf = NONE;
  *index = r->node_count++;
  return 0;
}

static void put_edge(struct node *n, struct edge e) {
  uint32_t i = edge_hash(e.key, e.bytes);
  while (n->edges[i & n->edge_mask].node != NONE)
    i++;
  n->edges[i & n->edge_mask] = e;
}

/* Keeps at least half of the slots of a node's table empty: a search ends at
 * an empty one. */
static int grow_edges(struct node *n) {
  uint32_t slots = n->edges ? (n->edge_mask + 1) * 2 : 4;
  struct edge *old = n->edges;
  uint32_t old_slots = old ? n->edge_mask + 1 : 0;

  if (old && n->edge_count * 2 < old_slots)
    return 0;
  struct edge *edges = pl__alloc(slots * sizeof(*edges));
  if (!edges)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < slots; i++)
    edges[i] = (struct edge){.node = NONE};
  n->edges = edges;
  n->edge_mask = slots - 1;
  for (uint32_t i = 0; i < old_slots; i++)
    if (old[i].node != NONE)
      put_edge(n, old[i]);
  pl__free(old);
  return 0;
}

/* The child of node `index` for a static segment; made if it is not there. */
static int step_static(struct pl_router *r, uint32_t index, const char *at,
                       uint32_t bytes, uint32_t *child) {
  struct segment s = read_segment(at, at + bytes);
  struct edge e = {s.key, r->text_bytes, bytes, NONE};

  *child = find_static(r, &r->nodes[index], s, at);
  if (*child != NONE)
    return 0;
  char *text = grow(r->text, r->text_bytes, bytes + 1, &r->text_cap, 1);
  if (!text)
    return PL_ENOMEM;
  r->text = text;
  int status = grow_edges(&r->nodes[index]);
  if (!status)
    status = add_node(r, &e.node);
  if (status)
    return status;
  memcpy(r->text + r->text_bytes, at, bytes);
  r->text_bytes += bytes;
  put_edge(&r->nodes[index], e);
  r->nodes[index].edge_count++;
  *child = e.node;
  return 0;
}

static int step_param(struct pl_router *r, uint32_t index, int kind,
                      uint32_t *child) {
  int status;

  *child = r->nodes[index].params[kind];
  if (*child != NONE)
    return 0;
  status = add_node(r, child);
  if (status)
    return status;
  r->nodes[index].params[kind] = *child;
  r->nodes[index].has_params = 1;
  return 0;
}

/* The leaf of a node, or of its wildcard; made if it is not there. */
static int step_leaf(struct pl_router *r, uint32_t index, int is_wildcard,
                     uint32_t *leaf) {
  struct node *n = &r->nodes[index];
  uint32_t *at = is_wildcard ? &n->wildcard : &n->leaf;

  if (*at == NONE) {
    void *leaves =
        grow(r->leaves, r->leaf_count, 1, &r->leaf_cap, sizeof(*r->leaves));
    if (!leaves)
      return PL_ENOMEM;
    r->leaves = leaves;
    memset(&r->leaves[r->leaf_count], 0, sizeof(*r->leaves));
    *at = r->leaf_count++;
    if (is_wildcard)
      n->has_params = 1;
  }
  *leaf = *at;
  return 0;
}

/* ---- patterns ---- */

struct piece {          /* of a pattern: what stands between slashes */
  struct pl_slice text; /* static: the segment; else the name */
  int8_t kind;          /* KIND_*, or one of: */
};

enum { PIECE_STATIC = -1, PIECE_WILDCARD = -2 };

struct pattern {
  struct piece pieces[PL_LIMIT_PATTERN_SEGMENTS];
  uint32_t count;
};

static int is_name(struct pl_slice s) {
  for (uint32_t i = 0; i < s.bytes; i++)
    if (!pl__char_is(s.at[i], PL_CHAR_SLUG) || s.at[i] == '-')
      return 0;
  return s.bytes && !pl__char_is_digit(s.at[0]);
}

/* ":name" or ":name<type>", without the colon. Returns a fault or NULL. */
static const char *parse_param(struct pl_slice s, struct piece *piece) {
  static const struct pl_slice TYPES[] = {[KIND_INT] = {"<int>", 5},
                                          [KIND_UUID] = {"<uuid>", 6},
                                          [KIND_SLUG] = {"<slug>", 6}};
  const char *open = s.bytes ? memchr(s.at, '<', s.bytes) : NULL;

  piece->kind = KIND_PLAIN;
  if (open) {
    struct pl_slice type = pl__slice(open, (size_t)(s.at + s.bytes - open));
    for (int8_t kind = 0; kind < KIND_PLAIN; kind++)
      if (pl__slice_equal(type, TYPES[kind]))
        piece->kind = kind;
    if (piece->kind == KIND_PLAIN)
      return "a parameter's type is <int>, <uuid> or <slug>";
    s.bytes -= type.bytes;
  }
  piece->text = s;
  return is_name(s) ? NULL
                    : "a parameter's name is letters, digits and \"_\", and "
                      "takes the whole segment";
}

static const char *parse_piece(struct pl_slice s, struct piece *piece) {
  piece->kind = PIECE_STATIC;
  piece->text = s;
  if (s.bytes && s.at[0] == ':')
    return parse_param(pl__slice(s.at + 1, s.bytes - 1), piece);
  if (s.bytes && s.at[0] == '*') {
    piece->kind = PIECE_WILDCARD;
    piece->text = pl__slice(s.at + 1, s.bytes - 1);
    if (s.bytes > 1 && !is_name(piece->text))
      return "a wildcard's name is letters, digits and \"_\"";
    return NULL;
  }
  if ((s.bytes == 1 && s.at[0] == '.') ||
      (s.bytes == 2 && s.at[0] == '.' && s.at[1] == '.'))
    return "a pattern with \".\" or \"..\" can never match";
  return NULL;
}

/* Whether a name is there twice. */
static int has_twins(const struct pattern *p) {
  for (uint32_t i = 0; i < p->count; i++)
    for (uint32_t k = i + 1; k < p->count; k++)
      if (p->pieces[i].kind != PIECE_STATIC &&
          p->pieces[k].kind != PIECE_STATIC && p->pieces[i].text.bytes &&
          pl__slice_equal(p->pieces[i].text, p->pieces[k].text))
        return 1;
  return 0;
}

/* Splits a pattern. Returns what is wrong with it, or NULL. */
static const char *parse_pattern(struct pl_slice s, struct pattern *p) {
  const char *at = s.at + 1, *end = s.at + s.bytes;
  uint32_t param_count = 0;

  p->count = 0;
  if (!s.bytes || s.at[0] != '/')
    return "a pattern begins with \"/\"";
  if (s.bytes > PL_LIMIT_PATTERN_BYTES || memchr(s.at, 0, s.bytes))
    return "a pattern is too long, or has a NUL in it";
  for (;;) {
    const char *slash = at < end ? memchr(at, '/', (size_t)(end - at)) : NULL;
    const char *stop = slash ? slash : end;
    if (p->count == PL_LIMIT_PATTERN_SEGMENTS)
      return "a pattern has too many segments";
    struct piece *piece = &p->pieces[p->count++];
    const char *fault = parse_piece(pl__slice(at, (size_t)(stop - at)), piece);
    if (fault)
      return fault;
    if (piece->kind != PIECE_STATIC && ++param_count > PL_REQ_PARAMS_MAX)
      return "a pattern has too many parameters";
    if (piece->kind == PIECE_WILDCARD && slash)
      return "a wildcard is the last segment";
    if (!slash)
      return has_twins(p) ? "a parameter's name is there twice" : NULL;
    at = slash + 1;
  }
}

/* The leaf of a pattern; made, with the way to it, if it is not there. Nodes
 * that a failure leaves behind have no leaf, so they match nothing. */
static int find_leaf(struct pl_router *r, const struct pattern *p,
                     uint32_t *leaf) {
  uint32_t index = 0;

  for (uint32_t i = 0; i < p->count; i++) {
    const struct piece *piece = &p->pieces[i];
    int status;
    if (piece->kind == PIECE_WILDCARD)
      return step_leaf(r, index, 1, leaf);
    if (piece->kind == PIECE_STATIC)
      status = step_static(r, index, piece->text.at, piece->text.bytes, &index);
    else
      status = step_param(r, index, piece->kind, &index);
    if (status)
      return status;
  }
  return step_leaf(r, index, 0, leaf);
}

int pl__router_add(struct pl_router *r, uint8_t method, struct pl_slice pattern,
                   uint32_t route, uint32_t *conflict) {
  uint32_t bit = method == PL_METHOD_ANY ? LEAF_ANY : method, index;
  struct pattern p;

  if (method != PL_METHOD_ANY &&
      (method >= PL_METHOD_COUNT || !(ANY_BITS >> method & 1))) {
    r->error = "the method cannot be routed";
    return PL_EINVAL;
  }
  r->error = parse_pattern(pattern, &p);
  if (r->error)
    return PL_EINVAL;
  if (r->route_count == PL_LIMIT_ROUTES)
    return PL_EFULL;
  int status = find_leaf(r, &p, &index);
  if (status)
    return status;
  struct leaf *leaf = &r->leaves[index];
  if (leaf->methods >> bit & 1) {
    *conflict = leaf->routes[bit];
    return PL_ECONFLICT;
  }
  leaf->methods |= (uint64_t)1 << bit;
  leaf->routes[bit] = route;
  r->methods |= (uint64_t)1 << bit;
  r->route_count++;
  return 0;
}

const char *pl__router_error(const struct pl_router *r) {
  return r->error ? r->error : "";
}

struct pl_router *pl__router_new(void) {
  struct pl_router *r = pl__alloc_zero(sizeof(*r));
  uint32_t root;

  if (!r)
    return NULL;
  if (add_node(r, &root)) {
    pl__router_free(r);
    return NULL;
  }
  return r;
}

void pl__router_free(struct pl_router *r) {
  if (!r)
    return;
  for (uint32_t i = 0; i < r->node_count; i++)
    pl__free(r->nodes[i].edges);
  pl__free(r->nodes);
  pl__free(r->leaves);
  pl__free(r->text);
  pl__free(r);
}
