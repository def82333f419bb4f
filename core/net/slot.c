/* net/slot.c - see slot.h. */
#include "net/slot.h"

#include "base/limits.h"

#include <stddef.h>
#include <string.h>

#define COLOUR_BYTES 4096u /* a page; see pl__net_slab_bytes */
#define COLOURS 15u
/* What lies behind is texts and parameters, which have their lengths elsewhere.
 */
#define REQ_CLEARED_BYTES                                                      \
  (offsetof(struct pl_req, context) + offsetof(struct pl_context, tenant))

static uint32_t align16(size_t bytes) {
  return (uint32_t)((bytes + 15) & ~15u);
}

static uint32_t fixed_bytes(const struct pl_net_limits *l) {
  return align16(sizeof(struct pl_slot)) +
         align16(sizeof(struct pl_header) * l->parser.header_count) +
         align16(l->parser.target_bytes);
}

uint32_t pl__net_slab_bytes(const struct pl_net_limits *limits) {
  /* Twice the head, so that a body's first bytes have room behind it. */
  uint64_t need = fixed_bytes(limits) + limits->parser.target_bytes +
                  limits->parser.headers_bytes + 8192;
  uint32_t bytes = PL_LIMIT_SLAB_BYTES;

  while (bytes < need)
    bytes *= 2;
  /* One page more than a power of two: slabs that lie a power of two apart
   * would all begin in the same few sets of the processor's caches, and a turn
   * over 64 connections would miss in each of them. */
  return bytes + COLOUR_BYTES;
}

/* The same within a page: where in its slab a slot begins. */
static uint32_t colour(uint32_t index) {
  return index % COLOURS * (COLOUR_BYTES / 16);
}

static void lay_out(struct pl_slot *s, const struct pl_net *net) {
  char *at = (char *)s + align16(sizeof *s);

  s->headers = (struct pl_header *)(void *)at;
  at += align16(sizeof(struct pl_header) * net->limits.parser.header_count);
  s->data = at;
  s->scratch = (char *)s + net->slabs->slab_bytes - COLOUR_BYTES -
               align16(net->limits.parser.target_bytes);
  s->data_bytes = (uint32_t)(s->scratch - at);
  s->filled = s->parsed = s->body_base = 0;
  pl__arena_init(&s->arena, net->buffers, PL_LIMIT_ARENA_BYTES);
  pl__buf_init(&s->extra, net->buffers, PL_LIMIT_EXTRA_BYTES);
  pl__parser_init(pl__slot_parser(s), &net->limits.parser);
}

struct pl_slot *pl__slot_take(struct pl_net *net) {
  uint32_t index;
  char *slab = pl__slabs_take(net->slabs, &index);
  struct pl_slot *s;

  if (!slab)
    return NULL;
  s = (struct pl_slot *)(void *)(slab + colour(index));
  s->req.slot = index;
  lay_out(s, net);
  return s;
}

void pl__slot_give(struct pl_slot *s, struct pl_slabs *slabs) {
  pl__slot_end(s);
  pl__slabs_give(slabs, s->req.slot);
}

static uint64_t mix(uint64_t x) { /* splitmix64's finalizer */
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

void pl__slot_begin(struct pl_slot *s, struct pl_net *net) {
  struct pl_req *req = &s->req;
  uint32_t slot = req->slot;

  memset(req, 0, REQ_CLEARED_BYTES);
  net->serial += 1;
  req->serial = net->serial;
  req->slot = slot;
  req->context.request_id = mix(net->id_seed + (uint64_t)net->serial);
  req->received = net->now;
  req->method = PL_METHOD_UNKNOWN;
  req->content_length = -1;
  req->body_max = net->limits.body_bytes;
  req->headers = s->headers;
  req->extra = &s->extra;
  req->arena = &s->arena;
  req->env = &net->env;
  req->body.at = s->data;
}

void pl__slot_end(struct pl_slot *s) {
  s->req.serial = 0;
  if (s->arena.bytes)
    pl__arena_reset(&s->arena, false);
  if (s->extra.at)
    pl__buf_release(&s->extra);
}

void pl__slot_go_on(struct pl_slot *s, const struct pl_parser_limits *l) {
  uint32_t left = s->filled - s->parsed;

  if (s->data_bytes - s->parsed < l->target_bytes + l->headers_bytes + 4096) {
    memmove(s->data, s->data + s->parsed, left);
    s->parsed = 0;
    s->filled = left;
  }
  pl__parser_reset(pl__slot_parser(s));
}

void pl__slot_drop_body(struct pl_slot *s) {
  s->req.body = pl__slice(s->data + s->body_base, 0);
  if (s->parsed == s->filled)
    s->parsed = s->filled = s->body_base;
}
