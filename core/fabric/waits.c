/* fabric/waits.c - see waits.h. */
#include "fabric/waits.h"

#include "base/alloc.h"
#include "base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_SLOTS (2u * PL_WAITS_NAMES_MAX)   /* likewise */
#define INDEX_SLOTS (2u * PL_WAITS_BLOCKS_MAX) /* a power of two */
/* The last rows are for what stands for all the others: one per reason. */
#define BLOCKS_OWN_MAX (PL_WAITS_BLOCKS_MAX - PL_WAITS_REASONS)

static uint32_t at_most(uint32_t n, uint32_t max) { return n < max ? n : max; }

static uint32_t name_count(const struct pl_waits *w) {
  return at_most(atomic_load_explicit(&w->name_count, memory_order_acquire),
                 PL_WAITS_NAMES_MAX);
}

/* --- the master -------------------------------------------------------- */

void pl__waits_init(struct pl_waits *w, uint32_t entries) {
  w->entries_max = entries;
}

void pl__waits_renew(struct pl_waits *w, uint32_t entries) {
  w->entries_max = entries;
  for (uint32_t i = 0; i < PL_WAITS_BANKS; i++) {
    atomic_store_explicit(&w->banks[i].count, 0, memory_order_relaxed);
    atomic_store_explicit(&w->banks[i].generation, 0, memory_order_release);
  }
  atomic_store_explicit(&w->suspect_count, 0, memory_order_relaxed);
}

/* --- the writer -------------------------------------------------------- */

static uint32_t block_hash(uint32_t stack, uint32_t reason) {
  return (stack * PL_WAITS_REASONS + reason) * 2654435761u >> 19;
}

static void index_put(struct pl_waits_writer *w, uint32_t number) {
  const struct pl_waits_block *b = &w->waits->blocks[number];
  uint32_t at = block_hash(b->stack, b->reason) % INDEX_SLOTS;

  while (w->block_index[at])
    at = (at + 1) % INDEX_SLOTS;
  w->block_index[at] = (uint16_t)(number + 1);
}

/* Of those that were not forgotten: so it is never more than half full. */
static void index_blocks(struct pl_waits_writer *w) {
  memset(w->block_index, 0, INDEX_SLOTS * sizeof *w->block_index);
  for (uint32_t i = 0; i < pl__waits_block_count(w->waits); i++)
    if (w->waits->blocks[i].stack != PL_WAITS_STACK_FREE)
      index_put(w, i);
  w->forgotten = w->waits->forgotten;
}

static uint32_t name_hash(const char *at, uint32_t bytes) {
  uint32_t h = bytes;

  for (uint32_t i = 0; i < bytes; i++)
    h = (h ^ (uint8_t)at[i]) * 16777619u;
  return h ^ h >> 15;
}

/* Where that name is in the index, or would be. */
static uint16_t *name_slot(struct pl_waits_writer *w, const char *text,
                           uint32_t bytes) {
  uint32_t at = name_hash(text, bytes) % NAME_SLOTS;

  for (; w->name_index[at]; at = (at + 1) % NAME_SLOTS) {
    const struct pl_waits_name *n = &w->waits->names[w->name_index[at] - 1];
    if (n->bytes == bytes && memcmp(n->text, text, bytes) == 0)
      break;
  }
  return &w->name_index[at];
}

int pl__waits_writer_open(struct pl_waits_writer *w, struct pl_waits *waits,
                          uint32_t generation) {
  uint32_t bank = generation % PL_WAITS_BANKS;

  memset(w, 0, sizeof *w);
  w->block_index =
      pl__alloc_zero((INDEX_SLOTS + NAME_SLOTS) * sizeof *w->block_index);
  if (!w->block_index)
    return PL_ENOMEM;
  w->name_index = w->block_index + INDEX_SLOTS;
  w->waits = waits;
  w->generation = generation;
  w->bank = &waits->banks[bank];
  w->entries = waits->entries + (size_t)bank * waits->entries_max;
  index_blocks(w);
  for (uint32_t i = 0; i < name_count(waits); i++) {
    const struct pl_waits_name *n = &waits->names[i];
    *name_slot(w, n->text, at_most(n->bytes, PL_WAITS_NAME_BYTES)) =
        (uint16_t)(i + 1);
  }
  atomic_store_explicit(&w->bank->count, 0, memory_order_relaxed);
  atomic_store_explicit(&w->bank->generation, generation, memory_order_release);
  return 0;
}

void pl__waits_writer_close(struct pl_waits_writer *w) {
  uint32_t own = w->generation;

  if (!w->waits)
    return;
  /* Closing takes a while, on a helper thread: the next one but one may have
   * begun in the same bank. */
  atomic_compare_exchange_strong(&w->bank->generation, &own, 0);
  pl__free(w->block_index);
  memset(w, 0, sizeof *w);
}

struct pl_waits_entry *pl__waits_take(struct pl_waits_writer *w,
                                      uint32_t index) {
  uint32_t count;

  if (!w->waits)
    return NULL;
  if (index >= w->waits->entries_max) {
    atomic_fetch_add_explicit(&w->waits->refused, 1, memory_order_relaxed);
    return NULL;
  }
  count = atomic_load_explicit(&w->bank->count, memory_order_relaxed);
  for (; count <= index; count++) /* a generation before has left it */
    pl__waits_set_state(&w->entries[count], PL_WAITS_FREE);
  atomic_store_explicit(&w->bank->count, count, memory_order_release);
  return &w->entries[index];
}

uint16_t pl__waits_name(struct pl_waits_writer *w, struct pl_slice name) {
  uint32_t bytes = at_most(name.bytes, PL_WAITS_NAME_BYTES);
  struct pl_waits *waits = w->waits;
  uint32_t count;
  uint16_t *slot;

  if (!waits || !bytes)
    return 0;
  slot = name_slot(w, name.at, bytes);
  if (*slot)
    return *slot;
  count = name_count(waits);
  if (count == PL_WAITS_NAMES_MAX)
    return 0;
  waits->names[count].bytes = bytes;
  memcpy(waits->names[count].text, name.at, bytes);
  atomic_store_explicit(&waits->name_count, count + 1, memory_order_release);
  *slot = (uint16_t)(count + 1);
  return *slot;
}

static struct pl_waits_block *block_find(struct pl_waits_writer *w,
                                         uint32_t stack, uint32_t reason) {
  uint32_t at = block_hash(stack, reason) % INDEX_SLOTS;

  for (; w->block_index[at]; at = (at + 1) % INDEX_SLOTS) {
    struct pl_waits_block *b = &w->waits->blocks[w->block_index[at] - 1];
    if (b->stack == stack && b->reason == reason)
      return b;
  }
  return NULL;
}

/* In the place of one that was forgotten, whose sums are zero. */
static struct pl_waits_block *block_reuse(struct pl_waits_writer *w,
                                          uint32_t stack, uint32_t reason) {
  struct pl_waits *waits = w->waits;

  if (!waits->blocks_free)
    return NULL;
  for (uint32_t i = 0; i < pl__waits_block_count(waits); i++) {
    struct pl_waits_block *b = &waits->blocks[i];
    if (b->stack != PL_WAITS_STACK_FREE)
      continue;
    waits->blocks_free--;
    b->reason = reason;
    b->stack = stack;
    index_put(w, i);
    return b;
  }
  waits->blocks_free = 0;
  return NULL;
}

static struct pl_waits_block *block_add(struct pl_waits_writer *w,
                                        uint32_t stack, uint32_t reason) {
  uint32_t count = pl__waits_block_count(w->waits);
  struct pl_waits_block *b = &w->waits->blocks[count];

  b->stack = stack;
  b->reason = reason;
  atomic_store_explicit(&w->waits->block_count, count + 1,
                        memory_order_release);
  index_put(w, count);
  return b;
}

void pl__waits_block(struct pl_waits_writer *w, uint32_t stack,
                     enum pl_waits_reason reason, uint64_t count, uint64_t ns) {
  struct pl_waits_block *b;

  if (!w->waits)
    return;
  b = block_find(w, stack, reason);
  if (!b && w->forgotten != w->waits->forgotten)
    index_blocks(w);
  b = b ? b : block_reuse(w, stack, reason);
  if (!b && pl__waits_block_count(w->waits) >= BLOCKS_OWN_MAX) {
    stack = 0;
    b = block_find(w, stack, reason);
  }
  if (!b && pl__waits_block_count(w->waits) == PL_WAITS_BLOCKS_MAX)
    return; /* the VM of another generation has taken the last rows */
  if (!b)
    b = block_add(w, stack, reason);
  atomic_store_explicit(
      &b->count, atomic_load_explicit(&b->count, memory_order_relaxed) + count,
      memory_order_relaxed);
  atomic_store_explicit(&b->ns,
                        atomic_load_explicit(&b->ns, memory_order_relaxed) + ns,
                        memory_order_relaxed);
}

static bool is_same_line(const struct pl_waits_leak *a,
                         const struct pl_waits_leak *b) {
  return a->started == b->started && a->at == b->at && a->kind == b->kind &&
         a->reason == b->reason && a->route == b->route &&
         a->generation == b->generation && a->name == b->name;
}

/* A row for another line, without a count: one that was forgotten, the next
 * one, or that of the generation before which leaked longest ago.  NULL: all are
 * of this one. */
static struct pl_waits_leak *leak_free(struct pl_waits *waits, uint32_t count,
                                       uint32_t generation) {
  struct pl_waits_leak *oldest = NULL;

  for (uint32_t i = 0; i < count; i++) {
    struct pl_waits_leak *row = &waits->leaks[i];
    if (!atomic_load_explicit(&row->count, memory_order_relaxed))
      return row;
    if (row->generation != generation &&
        (!oldest ||
         atomic_load_explicit(&row->last_ns, memory_order_relaxed) <
             atomic_load_explicit(&oldest->last_ns, memory_order_relaxed)))
      oldest = row;
  }
  if (count < PL_WAITS_LEAKS_MAX)
    return &waits->leaks[count];
  if (oldest)
    atomic_store_explicit(&oldest->count, 0, memory_order_release);
  return oldest;
}

/* The row of that line, made if need be; NULL: there is no room. */
static struct pl_waits_leak *leak_row(struct pl_waits *waits,
                                      const struct pl_waits_leak *leak) {
  uint32_t count = pl__waits_leak_count(waits);
  struct pl_waits_leak *row = waits->leaks;

  for (uint32_t i = 0; i < count; i++, row++)
    if (is_same_line(row, leak) &&
        atomic_load_explicit(&row->count, memory_order_relaxed))
      return row;
  row = leak_free(waits, count, leak->generation);
  if (!row)
    return NULL;
  row->started = leak->started;
  row->at = leak->at;
  row->kind = leak->kind;
  row->reason = leak->reason;
  row->route = leak->route;
  row->generation = leak->generation;
  row->name = leak->name;
  if (row == &waits->leaks[count])
    atomic_store_explicit(&waits->leak_count, count + 1, memory_order_release);
  return row;
}

void pl__waits_leak(struct pl_waits_writer *w, const struct pl_waits_leak *leak,
                    int64_t now_ns) {
  struct pl_waits_leak *row;

  if (!w->waits)
    return;
  atomic_fetch_add_explicit(&w->waits->leaked[leak->kind], 1,
                            memory_order_relaxed);
  row = leak_row(w->waits, leak);
  if (!row)
    return;
  atomic_store_explicit(&row->last_ns, now_ns, memory_order_relaxed);
  atomic_fetch_add_explicit(&row->count, 1, memory_order_release);
}

void pl__waits_suspect(struct pl_waits_writer *w,
                       const struct pl_waits_suspect *suspects,
                       uint32_t count) {
  struct pl_waits *waits = w->waits;
  uint32_t version;

  if (!waits)
    return;
  version =
      atomic_load_explicit(&waits->suspects_version, memory_order_relaxed) | 1;
  atomic_store_explicit(&waits->suspects_version, version,
                        memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  memcpy(waits->suspects, suspects, count * sizeof *suspects);
  atomic_store_explicit(&waits->suspect_count, count, memory_order_relaxed);
  atomic_store_explicit(&waits->suspects_version, version + 1,
                        memory_order_release);
}

/* --- forgetting -------------------------------------------------------- */

static bool is_within(uint32_t stack, uint32_t first, uint32_t end) {
  return stack >= first && stack < end && stack != 0;
}

/* Adds to the row of that reason which no stack is known of. */
static void block_keep(struct pl_waits *w, uint32_t reason, uint64_t count,
                       uint64_t ns) {
  uint32_t used = pl__waits_block_count(w), i = 0;
  struct pl_waits_block *b;

  while (i < used && (w->blocks[i].stack || w->blocks[i].reason != reason))
    i++;
  if (i == PL_WAITS_BLOCKS_MAX)
    return;
  b = &w->blocks[i];
  if (i == used) {
    b->stack = 0;
    b->reason = reason;
    atomic_store_explicit(&w->block_count, used + 1, memory_order_release);
  }
  atomic_fetch_add_explicit(&b->count, count, memory_order_relaxed);
  atomic_fetch_add_explicit(&b->ns, ns, memory_order_relaxed);
}

static void forget_blocks(struct pl_waits *w, uint32_t first, uint32_t end) {
  w->forgotten++;
  for (uint32_t i = 0; i < pl__waits_block_count(w); i++) {
    struct pl_waits_block *b = &w->blocks[i];
    uint64_t count, ns;
    if (!is_within(b->stack, first, end))
      continue;
    count = atomic_exchange_explicit(&b->count, 0, memory_order_relaxed);
    ns = atomic_exchange_explicit(&b->ns, 0, memory_order_relaxed);
    b->stack = PL_WAITS_STACK_FREE;
    w->blocks_free++;
    block_keep(w, b->reason, count, ns);
  }
}

static void forget_leaks(struct pl_waits *w, uint32_t first, uint32_t end) {
  for (uint32_t i = 0; i < pl__waits_leak_count(w); i++) {
    struct pl_waits_leak *l = &w->leaks[i];
    if (is_within(l->started, first, end) || is_within(l->at, first, end))
      atomic_store_explicit(&l->count, 0, memory_order_release);
  }
}

static void forget_entry(struct pl_waits_entry *e, uint32_t first,
                         uint32_t end) {
  if (is_within(atomic_load_explicit(&e->at, memory_order_relaxed), first, end))
    atomic_store_explicit(&e->at, 0, memory_order_relaxed);
  if (is_within(atomic_load_explicit(&e->started, memory_order_relaxed), first,
                end))
    atomic_store_explicit(&e->started, 0, memory_order_relaxed);
}

void pl__waits_forget(struct pl_waits *w, uint32_t first, uint32_t end) {
  forget_blocks(w, first, end);
  forget_leaks(w, first, end);
  for (uint32_t bank = 0; bank < PL_WAITS_BANKS; bank++)
    for (uint32_t i = 0; i < pl__waits_count(w, w->entries_max, bank); i++)
      forget_entry(&w->entries[(size_t)bank * w->entries_max + i], first, end);
}

/* --- readers ----------------------------------------------------------- */

uint32_t pl__waits_count(const struct pl_waits *w, uint32_t entries,
                         uint32_t bank) {
  const struct pl_waits_bank *b = &w->banks[bank];

  if (!atomic_load_explicit(&b->generation, memory_order_acquire))
    return 0;
  return at_most(atomic_load_explicit(&b->count, memory_order_acquire),
                 entries);
}

uint32_t pl__waits_block_count(const struct pl_waits *w) {
  return at_most(atomic_load_explicit(&w->block_count, memory_order_acquire),
                 PL_WAITS_BLOCKS_MAX);
}

uint32_t pl__waits_leak_count(const struct pl_waits *w) {
  return at_most(atomic_load_explicit(&w->leak_count, memory_order_acquire),
                 PL_WAITS_LEAKS_MAX);
}

uint32_t pl__waits_suspects(const struct pl_waits *w,
                            struct pl_waits_suspect *out) {
  uint32_t version =
      atomic_load_explicit(&w->suspects_version, memory_order_acquire);
  uint32_t count =
      at_most(atomic_load_explicit(&w->suspect_count, memory_order_relaxed),
              PL_WAITS_SUSPECTS_MAX);

  memcpy(out, w->suspects, count * sizeof *out);
  atomic_thread_fence(memory_order_acquire);
  return version % 2 == 0 &&
                 version == atomic_load_explicit(&w->suspects_version,
                                                 memory_order_relaxed)
             ? count
             : 0;
}

struct pl_slice pl__waits_name_of(const struct pl_waits *w, uint32_t name) {
  uint32_t count = name_count(w);

  if (name == 0 || name > count)
    return pl__slice("", 0);
  return pl__slice(w->names[name - 1].text,
                   at_most(w->names[name - 1].bytes, PL_WAITS_NAME_BYTES));
}

bool pl__waits_see(const struct pl_waits *w, uint32_t entries, uint32_t bank,
                   uint32_t index, struct pl_waits_seen *out) {
#define READ(field) atomic_load_explicit(&e->field, memory_order_relaxed)
  const struct pl_waits_entry *e = &w->entries[(size_t)bank * entries + index];
  uint32_t version = atomic_load_explicit(&e->version, memory_order_acquire);

  out->state = READ(state);
  out->reason = READ(reason);
  out->name = pl__waits_name_of(w, READ(name));
  out->id = READ(id);
  out->parent = READ(parent);
  out->born_ns = READ(born_ns);
  out->since_ns = READ(since_ns);
  out->object = READ(object);
  out->slot = READ(slot);
  out->route = READ(route);
  out->at = READ(at);
  out->started = READ(started);
  out->generation =
      atomic_load_explicit(&w->banks[bank].generation, memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  return version % 2 == 0 && version == READ(version) &&
         out->state != PL_WAITS_FREE && out->state < PL_WAITS_STATES &&
         out->reason < PL_WAITS_REASONS;
#undef READ
}

const char *pl__waits_id_text(uint64_t id, char out[PL_WAITS_ID_TEXT_BYTES]) {
  snprintf(out, PL_WAITS_ID_TEXT_BYTES, "%" PRIu64 ".%" PRIu64,
           id >> PL_WAITS_INDEX_BITS,
           id & ((UINT64_C(1) << PL_WAITS_INDEX_BITS) - 1));
  return out;
}

const char *pl__waits_reason_name(uint32_t reason) {
  static const char *const names[PL_WAITS_REASONS] = {
      [PL_WAITS_NOTHING] = "nothing", [PL_WAITS_SLEEP] = "sleep",
      [PL_WAITS_BODY] = "body",       [PL_WAITS_WRITE] = "write",
      [PL_WAITS_TASKS] = "tasks",     [PL_WAITS_TASK] = "task",
      [PL_WAITS_RECEIVE] = "receive", [PL_WAITS_SEND] = "send",
      [PL_WAITS_EVENT] = "event",     [PL_WAITS_INJECTED] = "injected",
  };

  return reason < PL_WAITS_REASONS ? names[reason] : "unknown";
}

const char *pl__waits_state_name(uint32_t state) {
  static const char *const names[PL_WAITS_STATES] = {"free", "running", "ready",
                                                     "parked", "preempted"};

  return state < PL_WAITS_STATES ? names[state] : "unknown";
}
