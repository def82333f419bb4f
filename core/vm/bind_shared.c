/* vm/bind_shared.c - P.shared and P.config, as Lua calls them by FFI.
 *
 * What is shared lies in the fabric (fabric/shared.h).  A VM whose host has
 * none, as in tools, gets a mapping of its own when it first asks.  Two VMs of
 * one process may be here at once, on two threads.
 */
#include "base/err.h"
#include "base/limits.h"
#include "fabric/dict.h"
#include "fabric/shared.h"
#include "vm/bind.h"
#include "vm/coro.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

#define MS_PER_S 1000.0
#define EXACT_MAX 9007199254740992.0 /* 2^53 */

/* --- the section --------------------------------------------------------- */

static uint64_t memory_bytes(const struct pl_vm *vm) {
  const struct pl_vm_value *v = vm->options.values;

  for (; v && v->key; v++)
    if (strcmp(v->key, "shared.memory") == 0)
      return (uint64_t)v->number;
  return PL_LIMIT_SHARED_BYTES;
}

static struct pl_shared *shared_map(uint64_t memory) {
  void *at = mmap(NULL, pl__shared_bytes(memory), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (at == MAP_FAILED)
    return NULL;
  pl__shared_init(at, memory);
  return at;
}

/* NULL: there is no memory for one. */
static struct pl_shared *shared_of(struct pl_vm *vm) {
  if (vm->shared)
    return vm->shared;
  vm->shared =
      vm->options.shared ? vm->options.shared : shared_map(memory_bytes(vm));
  vm->lock_self = pl__lock_self();
  return vm->shared;
}

void pl__bind_shared_close(struct pl_vm *vm) {
  if (vm->shared && !vm->options.shared)
    munmap(vm->shared, pl__shared_bytes(vm->shared->memory_bytes));
  vm->shared = NULL;
}

/* --- dictionaries --------------------------------------------------------- */

int pl_dict_open(struct pl_dict_ref *ref, const char *name, uint32_t bytes,
                 double capacity) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_shared *shared = shared_of(vm);

  if (!shared)
    return PL_ENOMEM;
  if (!(capacity >= 0 && capacity <= (double)PL_DICT_BYTES_MAX))
    return PL_EINVAL;
  ref->self = vm->lock_self;
  ref->lane = vm->options.worker;
  ref->clock = &vm->clock;
  return pl__shared_dict(shared, vm->lock_self, name, bytes, (uint64_t)capacity,
                         &ref->dict);
}

double pl_dict_memory(double *left) {
  struct pl_shared *shared = shared_of(pl__vm_running);

  *left = shared ? (double)pl__shared_left(shared) : 0;
  return shared ? (double)shared->memory_bytes : 0;
}

static struct pl_dict_user user_of(const struct pl_dict_ref *ref) {
  return (struct pl_dict_user){ref->dict, ref->self, ref->lane};
}

static struct pl_dict_key key_of(const char *at, uint32_t bytes) {
  return (struct pl_dict_key){at, bytes};
}

static int64_t now_ms(const struct pl_dict_ref *ref) {
  return (int64_t)(ref->clock->monotonic * MS_PER_S);
}

/* A time that is too far away is never. */
static int64_t expires_ms(const struct pl_dict_ref *ref, double ttl) {
  double at = ref->clock->monotonic * MS_PER_S + ttl * MS_PER_S;

  return ttl > 0 && at < EXACT_MAX ? (int64_t)ceil(at) : PL_DICT_NEVER;
}

int pl_dict_get(const struct pl_dict_ref *ref, const char *key, uint32_t bytes,
                struct pl_dict_result *result) {
  struct pl_dict_user user = user_of(ref);
  struct pl_dict_found found = {.at = result->at, .room = result->room};
  uint32_t serial = ((uint32_t)result->token >> 3) + 1, kind;

  pl__dict_get(&user, key_of(key, bytes), now_ms(ref), &found);
  kind = found.kind;
  /* Who was preempted may still read `bytes`: it stays within the room. */
  if (kind >= PL_DICT_STRING && found.bytes > found.room) {
    kind = PL_DICT_LARGE;
    result->wanted = found.bytes;
  } else if (kind >= PL_DICT_STRING) {
    result->bytes = found.bytes;
  }
  result->number = found.number;
  result->token = (int)(serial << 3 | kind);
  return result->token;
}

int pl_dict_set(const struct pl_dict_ref *ref, const char *key, uint32_t bytes,
                int mode, int kind, const char *text, uint32_t text_bytes,
                double number, double ttl) {
  struct pl_dict_user user = user_of(ref);
  struct pl_dict_value value = {(uint32_t)kind, text_bytes, number, text};

  return (int)pl__dict_set(&user, key_of(key, bytes), (enum pl_dict_mode)mode,
                           &value, NULL, now_ms(ref), expires_ms(ref, ttl));
}

int pl_dict_cas(const struct pl_dict_ref *ref, const char *key, uint32_t bytes,
                int old_kind, const char *old_text, uint32_t old_bytes,
                double old_number, int kind, const char *text,
                uint32_t text_bytes, double number, double ttl) {
  struct pl_dict_user user = user_of(ref);
  struct pl_dict_value old = {(uint32_t)old_kind, old_bytes, old_number,
                              old_text};
  struct pl_dict_value value = {(uint32_t)kind, text_bytes, number, text};

  return (int)pl__dict_set(&user, key_of(key, bytes), PL_DICT_REPLACE, &value,
                           &old, now_ms(ref), expires_ms(ref, ttl));
}

double pl_dict_incr(const struct pl_dict_ref *ref, const char *key,
                    uint32_t bytes, double by, double init, double ttl,
                    struct pl_dict_result *result) {
  struct pl_dict_user user = user_of(ref);
  double sum = 0;

  result->outcome = (int)pl__dict_incr(&user, key_of(key, bytes), by,
                                       isnan(init) ? NULL : &init, now_ms(ref),
                                       expires_ms(ref, ttl), &sum);
  return result->outcome ? (double)NAN : sum;
}

int pl_dict_delete(const struct pl_dict_ref *ref, const char *key,
                   uint32_t bytes) {
  struct pl_dict_user user = user_of(ref);

  return (int)pl__dict_delete(&user, key_of(key, bytes), now_ms(ref));
}

uint32_t pl_dict_keys(const struct pl_dict_ref *ref, uint32_t *cursor,
                      char *out, uint32_t room) {
  struct pl_dict_user user = user_of(ref);

  return pl__dict_keys(&user, cursor, now_ms(ref), out, room);
}

int pl_dict_clear(const struct pl_dict_ref *ref, uint32_t *cursor) {
  struct pl_dict_user user = user_of(ref);

  return (int)pl__dict_clear(&user, cursor);
}

void pl_dict_stats(const struct pl_dict_ref *ref, struct pl_dict_figures *out) {
  struct pl_dict_stats s;

  pl__dict_stats(ref->dict, &s);
  *out = (struct pl_dict_figures){
      .capacity = (double)s.capacity,
      .bytes = (double)s.bytes,
      .entries = (double)s.entries,
      .hits = (double)s.hits,
      .misses = (double)s.misses,
      .evictions = (double)s.evictions,
      .expired = (double)s.expired,
  };
}

/* --- counters -------------------------------------------------------------- */

struct pl_counter *pl_counter_open(const char *name, uint32_t bytes,
                                   int *error) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_shared *shared = shared_of(vm);
  struct pl_counter *counter = NULL;

  *error = shared ? pl__counters_find(&shared->counters, vm->lock_self, name,
                                      bytes, &counter)
                  : PL_ENOMEM;
  return *error ? NULL : counter;
}

static bool is_whole(double n) {
  return n >= -EXACT_MAX && n <= EXACT_MAX && (double)(int64_t)n == n;
}

double pl_counter_add(struct pl_counter *c, double n) {
  return is_whole(n) ? (double)pl__counter_add(c, (int64_t)n) : (double)NAN;
}

double pl_counter_get(const struct pl_counter *c) {
  return (double)pl__counter_get(c);
}

double pl_counter_set(struct pl_counter *c, double n) {
  if (!is_whole(n))
    return (double)NAN;
  pl__counter_set(c, (int64_t)n);
  return n;
}

/* --- what is published ----------------------------------------------------- */

const uint32_t *pl_published_version(void) {
  struct pl_shared *shared = shared_of(pl__vm_running);

  return shared ? (const uint32_t *)&shared->published.version : NULL;
}

double pl_publish(const char *text, uint32_t bytes) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_shared *shared = shared_of(vm);
  uint32_t version = 0;
  int failed = shared ? pl__published_set(&shared->published, vm->lock_self,
                                          text, bytes, &version)
                      : PL_ENOMEM;

  return failed ? (double)failed : (double)version;
}

uint32_t pl_published_get(char *out, uint32_t *version) {
  return pl__published_get(&shared_of(pl__vm_running)->published, out, version);
}
