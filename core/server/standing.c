/* server/standing.c - a sequence lock around a struct (Boehm 2012, "Can seqlocks
 * get along with programming language memory models?").
 */
#include "server/standing.h"

#include <string.h>

#define TRIES 64 /* the writer writes seldom, and may have died in between */

void pl__standing_write(struct pl_standing *s,
                        const struct pl_standing_facts *facts) {
  uint32_t serial = atomic_load_explicit(&s->serial, memory_order_relaxed);

  if (serial && memcmp(&s->facts, facts, sizeof *facts) == 0)
    return;
  serial += serial % 2; /* one before us was ended while it wrote */
  atomic_store_explicit(&s->serial, serial + 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  memcpy(&s->facts, facts, sizeof *facts);
  atomic_store_explicit(&s->serial, serial + 2, memory_order_release);
}

static void end_text(char *text, size_t bytes) { text[bytes - 1] = '\0'; }

/* A torn copy has no text without an end, and no count past its array. */
static void mend(struct pl_standing_facts *f) {
  end_text(f->name, sizeof f->name);
  end_text(f->app, sizeof f->app);
  end_text(f->state, sizeof f->state);
  end_text(f->admin, sizeof f->admin);
  end_text(f->last.text, sizeof f->last.text);
  end_text(f->last.fixed, sizeof f->last.fixed);
  if (f->address_count > PL_CONFIG_LISTEN_MAX)
    f->address_count = PL_CONFIG_LISTEN_MAX;
  if (f->worker_count > PL_STANDING_WORKERS_MAX)
    f->worker_count = PL_STANDING_WORKERS_MAX;
  for (uint32_t i = 0; i < f->address_count; i++)
    end_text(f->addresses[i], sizeof f->addresses[i]);
  for (uint32_t i = 0; i < f->worker_count; i++)
    end_text(f->workers[i].state, sizeof f->workers[i].state);
}

void pl__standing_read(const struct pl_standing *s,
                       struct pl_standing_facts *out) {
  for (int i = 0; i < TRIES; i++) {
    uint32_t before = atomic_load_explicit(&s->serial, memory_order_acquire);
    memcpy(out, &s->facts, sizeof *out);
    atomic_thread_fence(memory_order_acquire);
    if (before % 2 == 0 &&
        atomic_load_explicit(&s->serial, memory_order_relaxed) == before)
      break;
  }
  mend(out);
}
