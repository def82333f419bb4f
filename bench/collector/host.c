/* bench/collector/host.c - drives an app through the server's own dispatch,
 * without sockets, once with Perilune's collection between requests and once
 * with LuaJIT's own collector as it comes.
 *
 * Both run the same code for parsing, routing, running and answering; the only
 * difference is who collects: pl__vm_collect at the end of each turn, or
 * LuaJIT inside whatever allocates.  No kernel and no client disturb what is
 * measured, and each turn has as many requests as the caller says.
 *
 * Usage: host APP between|luajit REQUESTS REQUESTS_PER_TURN
 *
 * Prints one line: what the app's /report says, and the peak of the VM's heap
 * while the requests ran.
 */
#define _GNU_SOURCE /* memmem */
#include "base/alloc.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/inject.h"

#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
  WARM_UP_REQUESTS = 30000,
  REQUESTS_MAX = 1000000,
  PER_TURN_MAX = 256,
  SLABS = 512,
  TURNS_PER_ANSWER_MAX = 1000
};

struct bench {
  struct pl_config config;
  struct pl_dispatch dispatch;
  struct pl_inject inject;
  bool is_luajit; /* its own collector */
  uint64_t peak_bytes;
  int conns[PER_TURN_MAX];
  int count;
};

static void die(const char *what, const char *why) {
  fprintf(stderr, "collector: %s: %s\n", what, why);
  exit(1);
}

/* pl__dispatch_turn, with a look at the heap before it is collected. */
static void turn(struct bench *b) {
  struct pl_dispatch *d = &b->dispatch;

  pl__dispatch_tick(d);
  pl__inject_turn(&b->inject);
  pl__net_expire(&d->net);
  pl__vm_dispatch(&d->now->vm);
  pl__net_flush(&d->net);
  if (d->now->vm.heap_bytes > b->peak_bytes)
    b->peak_bytes = d->now->vm.heap_bytes;
  if (!b->is_luajit)
    pl__vm_collect(&d->now->vm, false);
  pl__inject_turn(&b->inject);
}

static void ask(struct bench *b, int conn, const char *target) {
  char text[256];
  int bytes =
      snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: b\r\n\r\n", target);

  if (pl__inject_feed(&b->inject, conn, text, (uint32_t)bytes))
    die("a request", "no room");
}

/* The body of the answer, NUL-terminated, in memory of its own. */
static const char *take(struct bench *b, int conn) {
  static char text[4096];
  bool closed = false;

  for (int i = 0; i < TURNS_PER_ANSWER_MAX; i++) {
    struct pl_slice sent = pl__inject_peek(&b->inject, conn, &closed);
    const char *body =
        sent.bytes ? memmem(sent.at, sent.bytes, "\r\n\r\n", 4) : NULL;
    if (body) {
      if (sent.bytes < 15 || memcmp(sent.at, "HTTP/1.1 200 OK", 15) != 0)
        die("an answer", "not 200");
      body += 4;
      size_t bytes = sent.bytes - (size_t)(body - sent.at);
      bytes = bytes < sizeof text - 1 ? bytes : sizeof text - 1;
      memcpy(text, body, bytes);
      text[bytes] = '\0';
      pl__inject_drop(&b->inject, conn, sent.bytes);
      return text;
    }
    turn(b);
  }
  die("a request", "it is not answered");
  return NULL;
}

static void run(struct bench *b, int requests) {
  char target[64];
  int id = 0;

  while (id < requests) {
    int here = requests - id < b->count ? requests - id : b->count;
    for (int i = 0; i < here; i++) {
      snprintf(target, sizeof target, "/work/%d", id + i);
      ask(b, b->conns[i], target);
    }
    turn(b);
    for (int i = 0; i < here; i++)
      take(b, b->conns[i]);
    id += here;
  }
}

static void open_app(struct bench *b, const char *app) {
  static const char *const overrides[] = {
      "log.level=error", "vm.memory_soft=1G", "vm.memory_hard=2G"};
  struct pl_config_input input = {.app = app,
                                  .overrides = overrides,
                                  .override_count =
                                      sizeof overrides / sizeof *overrides};
  struct pl_dispatch_options options = {.config = &b->config,
                                        .slab_count = SLABS,
                                        .log_wake_fd = -1,
                                        .worker = UINT32_MAX,
                                        .inject = &b->inject};
  static char err[PL_VM_ERROR_BYTES];

  if (pl__config_resolve(&input, &b->config, err))
    die(app, err);
  options.slab_bytes = pl__dispatch_slab_bytes(&b->config);
  options.slabs =
      mmap(NULL, (size_t)options.slab_bytes * SLABS, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (options.slabs == MAP_FAILED)
    die("memory", "none");
  if (pl__dispatch_open(&b->dispatch, &options, err))
    die(app, err);
  pl__inject_init(&b->inject, &b->dispatch);
  if (pl__generation_load(b->dispatch.now, err) ||
      pl__vm_start(&b->dispatch.now->vm, b->dispatch.now->site, err))
    die(app, err);
}

int main(int argc, char **argv) {
  static struct bench b;
  int requests = argc == 5 ? atoi(argv[3]) : 0;
  uint64_t before_bytes;

  b.count = argc == 5 ? atoi(argv[4]) : 0;
  if (requests < 1 || requests > REQUESTS_MAX || b.count < 1 ||
      b.count > PER_TURN_MAX)
    die("usage", "host APP between|luajit REQUESTS REQUESTS_PER_TURN");
  b.is_luajit = strcmp(argv[2], "luajit") == 0;
  open_app(&b, argv[1]);
  if (b.is_luajit) { /* as lua_newstate gives it: pause 200, stepmul 200 */
    b.dispatch.now->vm.emergency_bytes = UINT64_MAX;
    lua_gc(b.dispatch.now->vm.L, LUA_GCRESTART, 0);
  }
  for (int i = 0; i < b.count; i++)
    b.conns[i] = pl__inject_open(&b.inject, b.dispatch.now->site);
  run(&b, WARM_UP_REQUESTS);
  ask(&b, b.conns[0], "/begin");
  take(&b, b.conns[0]);
  before_bytes = b.peak_bytes = b.dispatch.now->vm.heap_bytes;
  run(&b, requests);
  uint64_t peak_bytes = b.peak_bytes;
  ask(&b, b.conns[0], "/report");
  printf("%s peak_bytes=%llu before_bytes=%llu\n", take(&b, b.conns[0]),
         (unsigned long long)peak_bytes, (unsigned long long)before_bytes);
  return 0; /* nothing is worth closing */
}
