/* test/server/serving.h - an app, its VM and connections in memory, for tests.
 *
 * What a tool does (server/tool.c), step by step: the app is a text, written to
 * a folder of its own; records go into a ring that nobody drains.  Time goes on
 * by itself while something waits.
 */
#ifndef PL_TEST_SERVER_SERVING_H
#define PL_TEST_SERVER_SERVING_H

#include "base/alloc.h"
#include "net/memory.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/inject.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SERVING_SLABS 16u
#define SERVING_RING_BYTES (1u << 20)

struct serving {
  char folder[64];
  struct pl_config config;
  struct pl_dispatch dispatch;
  struct pl_inject inject;
  void *slabs;
  uint32_t slab_bytes;
  struct pl_ring *ring;
  uint32_t site;
  char err[PL_VM_ERROR_BYTES];
};

static inline void *serving_map(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  assert_true(at != MAP_FAILED);
  return at;
}

static inline void serving_write(const struct serving *s, const char *name,
                                 const char *text) {
  char path[128];
  FILE *file;

  snprintf(path, sizeof path, "%s/%s", s->folder, name);
  file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

/* Folder, configuration, memory: all that comes before the VM. `overrides`
 * ends with NULL. */
static inline struct serving *serving_new(const char *app,
                                          const char *const *overrides) {
  struct serving *s = pl__alloc_zero(sizeof *s);
  struct pl_config_input input = {.overrides = overrides};
  char err[PL_CONFIG_ERROR_BYTES];

  assert_non_null(s);
  snprintf(s->folder, sizeof s->folder, "/tmp/perilune-serving-XXXXXX");
  assert_non_null(mkdtemp(s->folder));
  serving_write(s, "app.lua", app);
  input.app = s->folder;
  while (overrides && overrides[input.override_count])
    input.override_count++;
  if (pl__config_resolve(&input, &s->config, err))
    fail_msg("%s", err);
  s->slab_bytes = pl__dispatch_slab_bytes(&s->config);
  s->slabs = serving_map((size_t)s->slab_bytes * SERVING_SLABS);
  s->ring = serving_map(pl__ring_section_bytes(SERVING_RING_BYTES));
  assert_int_equal(pl__ring_init(s->ring, SERVING_RING_BYTES), 0);
  return s;
}

static inline void serving_free(struct serving *s) {
  char path[128];

  munmap(s->slabs, (size_t)s->slab_bytes * SERVING_SLABS);
  munmap(s->ring, pl__ring_section_bytes(SERVING_RING_BYTES));
  pl__config_deinit(&s->config);
  snprintf(path, sizeof path, "%s/app.lua", s->folder);
  unlink(path);
  rmdir(s->folder);
  pl__free(s);
}

/* Opens and loads; on failure nothing is left open and s->err says why. */
static inline int serving_open(struct serving *s) {
  struct pl_dispatch_options options = {
      .config = &s->config,
      .slabs = s->slabs,
      .slab_count = SERVING_SLABS,
      .slab_bytes = s->slab_bytes,
      .log = s->ring,
      .log_wake_fd = -1,
      .inject = &s->inject,
  };
  int failed;

  s->err[0] = '\0';
  failed = pl__dispatch_open(&s->dispatch, &options, s->err);
  if (failed)
    return failed;
  pl__inject_init(&s->inject, &s->dispatch);
  failed = pl__vm_load(&s->dispatch.now->vm, s->config.app_file, 20, &s->site,
                       s->err);
  if (!failed)
    failed = pl__vm_start(&s->dispatch.now->vm, s->site, s->err);
  if (failed)
    pl__dispatch_close(&s->dispatch);
  return failed;
}

/* One turn; what waits for a time finds it 2 ms nearer. True: something is
 * under way. */
static inline bool serving_turn(struct serving *s) {
  bool busy;

  s->dispatch.time_offset += 0.002;
  pl__dispatch_tick(&s->dispatch);
  busy = pl__inject_turn(&s->inject);
  busy = pl__dispatch_turn(&s->dispatch, false) || busy;
  return pl__inject_turn(&s->inject) || busy;
}

static inline void serving_close(struct serving *s) {
  pl__net_close_all(&s->dispatch.net);
  for (int i = 0; i < 2000 && s->dispatch.net.conn_count; i++)
    serving_turn(s);
  assert_int_equal(s->dispatch.net.conn_count, 0);
  assert_int_equal(s->dispatch.slabs.in_use, 0);
  assert_int_equal(s->dispatch.running, 0);
  pl__dispatch_close(&s->dispatch);
  pl__inject_deinit(&s->inject);
}

/* A serving with an app that must load. */
static inline struct serving *serving_start(const char *app,
                                            const char *const *overrides) {
  struct serving *s = serving_new(app, overrides);

  if (serving_open(s))
    fail_msg("%s", s->err);
  return s;
}

static inline void serving_stop(struct serving *s) {
  serving_close(s);
  serving_free(s);
}

static inline int serving_connect(struct serving *s, const char *bytes) {
  int conn = pl__inject_open(&s->inject, s->site);

  assert_true(conn >= 0);
  assert_int_equal(
      pl__inject_feed(&s->inject, conn, bytes, (uint32_t)strlen(bytes)), 0);
  return conn;
}

/* Turns until nothing runs, waits or moves any more. */
static inline void serving_run(struct serving *s, int turns) {
  for (int i = 0; i < turns; i++)
    if (!serving_turn(s) && !s->dispatch.running &&
        !s->dispatch.now->queue_count &&
        pl__vm_due(&s->dispatch.now->vm) > s->dispatch.net.now + 1)
      break;
}

/* What was sent so far, as a string in memory of the test's. */
static inline const char *serving_sent(struct serving *s, int conn) {
  static char text[1 << 20];
  bool closed;
  struct pl_slice sent = pl__inject_peek(&s->inject, conn, &closed);
  uint32_t n = sent.bytes < sizeof text - 1 ? sent.bytes : sizeof text - 1;

  if (n)
    memcpy(text, sent.at, n);
  text[n] = '\0';
  return text;
}

static inline void serving_hang_up(struct serving *s, int conn) {
  pl__inject_close(&s->inject, conn);
  serving_run(s, 2000);
}

/* One request on a connection of its own; what was sent, as serving_sent. */
static inline const char *serving_ask(struct serving *s, const char *bytes) {
  int conn = serving_connect(s, bytes);
  const char *text;

  serving_run(s, 2000);
  text = serving_sent(s, conn);
  serving_hang_up(s, conn);
  return text;
}

static inline void assert_holds(const char *text, const char *what) {
  if (!strstr(text, what))
    fail_msg("%.900s\ndoes not contain %s", text, what);
}

#endif /* PL_TEST_SERVER_SERVING_H */
