/* server/inject.c - see inject.h. */
#include "server/inject.h"
#include "base/alloc.h"
#include "base/err.h"
#include "net/memory.h"
#include "server/dispatch.h"

#include <arpa/inet.h>

struct pl_injected {
  struct pl_memory memory;
  uint32_t site;
  bool closed;    /* the connection is no more */
  bool abandoned; /* the client has gone away: free it once closed */
  bool news;      /* closed, and not yet told */
};

void pl__inject_init(struct pl_inject *i, struct pl_dispatch *d) {
  *i = (struct pl_inject){.dispatch = d};
}

static void injected_free(struct pl_injected *c) {
  pl__memory_deinit(&c->memory);
  pl__free(c);
}

void pl__inject_deinit(struct pl_inject *i) {
  for (uint32_t n = 0; n < i->count; n++)
    if (i->conns[n])
      injected_free(i->conns[n]);
  pl__free(i->conns);
  i->conns = NULL;
  i->count = 0;
}

static struct pl_injected *find(struct pl_inject *i, int conn) {
  if (conn < 0 || (uint32_t)conn >= i->count || !i->conns[conn] ||
      i->conns[conn]->abandoned)
    return NULL;
  return i->conns[conn];
}

static int free_number(struct pl_inject *i) {
  struct pl_injected **more;

  for (uint32_t n = 0; n < i->count; n++)
    if (!i->conns[n])
      return (int)n;
  if (i->count == PL_INJECT_CONNS_MAX)
    return PL_EFULL;
  more = pl__realloc(i->conns, (i->count + 1) * sizeof(*more));
  if (!more)
    return PL_ENOMEM;
  i->conns = more;
  more[i->count] = NULL;
  return (int)i->count++;
}

int pl__inject_open(struct pl_inject *i, uint32_t site) {
  struct pl_peer peer = {.family = PL_PEER_IPV4, .address = {127, 0, 0, 1}};
  int number = free_number(i);
  struct pl_injected *c;

  if (number < 0)
    return number;
  c = pl__alloc_zero(sizeof *c);
  if (!c)
    return PL_ENOMEM;
  c->site = site;
  pl__memory_open(&c->memory);
  if (!pl__conn_open(&i->dispatch->net, &c->memory.transport, &peer, c)) {
    injected_free(c);
    return PL_ENOMEM;
  }
  i->conns[number] = c;
  return number;
}

int pl__inject_feed(struct pl_inject *i, int conn, const char *at,
                    uint32_t bytes) {
  struct pl_injected *c = find(i, conn);

  return c ? pl__memory_feed(&c->memory, at, bytes) : PL_EGONE;
}

struct pl_slice pl__inject_peek(struct pl_inject *i, int conn, bool *closed) {
  struct pl_injected *c = find(i, conn);

  *closed = !c || c->memory.closed || c->memory.shut;
  return c ? pl__slice(c->memory.out.at, c->memory.out.bytes) : PL_SLICE("");
}

void pl__inject_drop(struct pl_inject *i, int conn, uint32_t bytes) {
  struct pl_injected *c = find(i, conn);

  if (c)
    pl__buf_drop(&c->memory.out, bytes);
}

void pl__inject_eof(struct pl_inject *i, int conn) {
  struct pl_injected *c = find(i, conn);

  if (c)
    c->memory.eof = true;
}

void pl__inject_stall(struct pl_inject *i, int conn, bool stalled) {
  struct pl_injected *c = find(i, conn);

  if (c)
    c->memory.stalled = stalled;
}

void pl__inject_close(struct pl_inject *i, int conn) {
  struct pl_injected *c = find(i, conn);

  if (!c)
    return;
  c->abandoned = c->memory.lost = c->memory.eof = true;
}

uint32_t pl__inject_site(const void *owner) {
  return ((const struct pl_injected *)owner)->site;
}

void pl__inject_on_closed(void *owner) {
  struct pl_injected *c = owner;

  c->closed = c->news = true;
}

bool pl__inject_turn(struct pl_inject *i) {
  bool any = false;

  for (uint32_t n = 0; n < i->count; n++) {
    struct pl_injected *c = i->conns[n];

    if (!c)
      continue;
    while (pl__memory_turn(&c->memory))
      any = true;
    if (c->closed && c->abandoned) {
      i->conns[n] = NULL;
      injected_free(c);
      continue;
    }
    if (c->memory.out.bytes || c->memory.shut || c->news)
      pl__vm_on_injected(&i->dispatch->now->vm, (int)n);
    c->news = false;
  }
  return any;
}
