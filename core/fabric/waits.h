/* fabric/waits.h - what every coroutine of a worker is doing, how long those
 * that waited did, and which of them nobody could wake any more.
 *
 * One section per worker, "waits.N":
 *
 *   entries   64 bytes per coroutine, in two banks: at most two generations of
 *             the app live, and each has the bank of its number's parity
 *   names     of tasks, each kept once
 *   blocks    for the block profile: stack, reason -> how often, how long
 *   leaks     proven ones, by the line that started them
 *
 * Blocks and leaks outlive the worker: the one that takes its place goes on
 * counting in them.  They are forgotten with the names of their stacks only
 * (fabric/names.h), or when another generation has no room for a leak of its own.  Stacks are numbers of the section
 * "stacks.N" (fabric/stacks.h).
 *
 * One writer, the worker's loop thread; any reader, also when the writer is
 * dead.  What changes together in an entry is written between two raises of
 * its version; a reader that finds it odd, or raised, takes the entry for torn
 * and leaves it out.  Rows of blocks and leaks are published by a release store
 * of their count.  Readers check every number: a worker that has gone wild may
 * have written here.
 */
#ifndef PL_FABRIC_WAITS_H
#define PL_FABRIC_WAITS_H

#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_WAITS_VERSION 2u
#define PL_WAITS_BANKS 2u
#define PL_WAITS_ENTRIES_MAX 65536u /* of a bank */
#define PL_WAITS_NAMES_MAX 1024u
#define PL_WAITS_NAME_BYTES 56u /* of one; cut past it */
#define PL_WAITS_BLOCKS_MAX 4096u
#define PL_WAITS_LEAKS_MAX 512u
#define PL_WAITS_SUSPECTS_MAX 64u
#define PL_WAITS_INDEX_BITS 24 /* of a coroutine's id; above: its generation */
#define PL_WAITS_ID_TEXT_BYTES 32
#define PL_WAITS_NO_ROUTE UINT32_MAX
#define PL_WAITS_STACK_FREE UINT32_MAX /* of a block that was forgotten */

/* Of leaks. */
enum { PL_WAITS_KIND_REQUEST, PL_WAITS_KIND_TASK, PL_WAITS_KINDS };

enum pl_waits_state {
  PL_WAITS_FREE,
  PL_WAITS_RUNNING,
  PL_WAITS_READY,     /* will run as soon as it is its turn */
  PL_WAITS_PARKED,    /* waits for something */
  PL_WAITS_PREEMPTED, /* has used its slice up, and will go on */
  PL_WAITS_STATES
};

/* What it waits for, or did last. */
enum pl_waits_reason {
  PL_WAITS_NOTHING,
  PL_WAITS_SLEEP,
  PL_WAITS_BODY,    /* more of a request's body */
  PL_WAITS_WRITE,   /* a client that reads slowly */
  PL_WAITS_TASKS,   /* the end of all tasks of its request */
  PL_WAITS_TASK,    /* the end of one: task:wait, P.all */
  PL_WAITS_RECEIVE, /* something in a channel */
  PL_WAITS_SEND,    /* room in a channel */
  PL_WAITS_EVENT,   /* another coroutine */
  PL_WAITS_INJECTED /* a request of a spec's */
};
#define PL_WAITS_REASONS 10u

/* One coroutine. */
struct pl_waits_entry {
  _Alignas(64) _Atomic uint32_t version; /* odd: being written */
  _Atomic uint8_t state;                 /* enum pl_waits_state */
  _Atomic uint8_t reason;                /* enum pl_waits_reason */
  _Atomic uint16_t name;                 /* 1 + its number; 0: none */
  _Atomic uint64_t id;                   /* 1 + its id in the VM */
  _Atomic uint64_t parent;               /* likewise, of who started it; or 0 */
  _Atomic int64_t born_ns;               /* monotonic, to some ms */
  _Atomic int64_t since_ns;              /* likewise: in this state */
  _Atomic uint64_t object; /* that it waits for: a task's id, a channel's */
  _Atomic uint32_t slot;   /* of its request + 1; 0: none */
  _Atomic uint32_t route;  /* as in records; PL_WAITS_NO_ROUTE: none */
  _Atomic uint32_t at;     /* stack of where it waits; 0: not known (yet) */
  _Atomic uint32_t
      started; /* stack of the line that started it; 0: a request */
};

struct pl_waits_name {
  uint32_t bytes;
  char text[PL_WAITS_NAME_BYTES];
};

/* Waits with one stack for one reason. */
struct pl_waits_block {
  _Atomic uint32_t stack;
  _Atomic uint32_t reason;
  _Atomic uint64_t count;
  _Atomic uint64_t ns;
};

/* Proven leaks of one line; those without a count are none. */
struct pl_waits_leak {
  _Atomic uint32_t started;
  _Atomic uint32_t at;
  _Atomic uint32_t kind; /* PL_WAITS_KIND_* */
  _Atomic uint32_t reason;
  _Atomic uint32_t route;
  _Atomic uint32_t generation;
  _Atomic uint32_t name;
  _Atomic uint64_t count;
  _Atomic int64_t last_ns; /* monotonic */
};

/* Coroutines that wait at one line, and are more with each look. */
struct pl_waits_suspect {
  uint32_t started;
  uint32_t at;
  uint32_t reason;
  uint32_t route;
  uint32_t generation;
  uint32_t name;
  uint32_t level;   /* 1; 2: and wait longer and longer */
  uint32_t count;   /* that have waited for leaks.after */
  int64_t since_ns; /* monotonic: the oldest waits since */
};

struct pl_waits_bank {
  _Alignas(64) _Atomic uint32_t generation; /* of the app; 0: nobody's */
  _Atomic uint32_t count;                   /* entries that were ever used */
};

struct pl_waits {
  _Alignas(64) uint32_t entries_max; /* of a bank; by pl__waits_init */
  _Atomic uint32_t name_count;
  _Atomic uint32_t block_count;
  _Atomic uint32_t leak_count;
  uint32_t blocks_free; /* the writers': of those counted, forgotten ones */
  uint32_t forgotten;   /* the writers': how often blocks were */
  _Atomic uint64_t leaked[PL_WAITS_KINDS]; /* those without a row too */
  _Atomic uint32_t suspects_version;       /* odd: being written */
  _Atomic uint32_t suspect_count;
  _Atomic uint64_t refused; /* coroutines without an entry */
  struct pl_waits_bank banks[PL_WAITS_BANKS];
  struct pl_waits_name names[PL_WAITS_NAMES_MAX];
  struct pl_waits_block blocks[PL_WAITS_BLOCKS_MAX];
  struct pl_waits_leak leaks[PL_WAITS_LEAKS_MAX];
  struct pl_waits_suspect suspects[PL_WAITS_SUSPECTS_MAX];
  struct pl_waits_entry entries[]; /* bank by bank */
};

/* Bytes of a section with so many entries in a bank. */
static inline uint64_t pl__waits_bytes(uint32_t entries) {
  return sizeof(struct pl_waits) +
         (uint64_t)PL_WAITS_BANKS * entries * sizeof(struct pl_waits_entry);
}

/* By the master, over a section that is all zero. */
void pl__waits_init(struct pl_waits *w, uint32_t entries);
/* By the master, before each start of the worker: it has no coroutines, and
 * whatever the one before it has written, so many entries. */
void pl__waits_renew(struct pl_waits *w, uint32_t entries);

/* Stacks from `first` up to below `end` mean nothing any more: waits there count
 * as waits that no line is known of, leaks are left out, and coroutines have no
 * place.  By the one that writes. */
void pl__waits_forget(struct pl_waits *w, uint32_t first, uint32_t end);

/* --- the writer -------------------------------------------------------- */

/* Process memory of one VM that writes. */
struct pl_waits_writer {
  struct pl_waits *waits; /* NULL: nothing is written */
  uint32_t generation;
  struct pl_waits_bank *bank;     /* the generation's */
  struct pl_waits_entry *entries; /* of it */
  uint16_t *block_index;          /* open addressing: 1 + number of a block */
  uint16_t *name_index;           /* likewise, of a name */
  uint32_t forgotten;             /* as of `waits`, when the index was made */
};

/* A generation begins; on the loop's thread, its bank's last owner writes no
 * more. 0 or PL_ENOMEM. */
int pl__waits_writer_open(struct pl_waits_writer *w, struct pl_waits *waits,
                          uint32_t generation);
/* It is over: so are its coroutines. On any thread. */
void pl__waits_writer_close(struct pl_waits_writer *w);

/* The entry of the coroutine with that index; NULL: there is none for it. */
struct pl_waits_entry *pl__waits_take(struct pl_waits_writer *w,
                                      uint32_t index);
/* 1 + the number of a name; 0: there is no room for another one. */
uint16_t pl__waits_name(struct pl_waits_writer *w, struct pl_slice name);
/* So many waits, that took so long together. */
void pl__waits_block(struct pl_waits_writer *w, uint32_t stack,
                     enum pl_waits_reason reason, uint64_t count, uint64_t ns);
/* A proven leak; what `leak` has in its fields up to `name` is its line. */
void pl__waits_leak(struct pl_waits_writer *w, const struct pl_waits_leak *leak,
                    int64_t now_ns);
/* These are suspected from now on, at most PL_WAITS_SUSPECTS_MAX, and no
 * others. */
void pl__waits_suspect(struct pl_waits_writer *w,
                       const struct pl_waits_suspect *suspects, uint32_t count);

static inline void pl__waits_begin_write(struct pl_waits_entry *e) {
  uint32_t version = atomic_load_explicit(&e->version, memory_order_relaxed);

  /* Left odd by one that died in between: it stays so until the end. */
  atomic_store_explicit(&e->version, version | 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
}

static inline void pl__waits_end_write(struct pl_waits_entry *e) {
  uint32_t version = atomic_load_explicit(&e->version, memory_order_relaxed);

  atomic_store_explicit(&e->version, version + 1, memory_order_release);
}

static inline void pl__waits_set_state(struct pl_waits_entry *e,
                                       enum pl_waits_state state) {
  atomic_store_explicit(&e->state, (uint8_t)state, memory_order_release);
}

/* It waits from now on. */
static inline void pl__waits_park(struct pl_waits_entry *e,
                                  enum pl_waits_reason reason, uint64_t object,
                                  int64_t now_ns) {
  pl__waits_begin_write(e);
  atomic_store_explicit(&e->reason, (uint8_t)reason, memory_order_relaxed);
  atomic_store_explicit(&e->object, object, memory_order_relaxed);
  atomic_store_explicit(&e->since_ns, now_ns, memory_order_relaxed);
  atomic_store_explicit(&e->at, 0, memory_order_relaxed);
  atomic_store_explicit(&e->state, PL_WAITS_PARKED, memory_order_relaxed);
  pl__waits_end_write(e);
}

/* --- readers ----------------------------------------------------------- */

/* An entry, copied and checked. */
struct pl_waits_seen {
  enum pl_waits_state state;
  enum pl_waits_reason reason;
  struct pl_slice name; /* in the fabric; empty: none */
  uint64_t id, parent;  /* as in the entry */
  int64_t born_ns, since_ns;
  uint64_t object;
  uint32_t slot, route, generation;
  uint32_t at, started;
};

/* Entries of a bank in a section of so many bytes. */
static inline uint32_t pl__waits_entries(uint64_t bytes) {
  return (uint32_t)((bytes - sizeof(struct pl_waits)) /
                    (PL_WAITS_BANKS * sizeof(struct pl_waits_entry)));
}
/* How many entries of a bank may be in use: pl__waits_see each.  entries: of a
 * bank, as by pl__waits_entries. */
uint32_t pl__waits_count(const struct pl_waits *w, uint32_t entries,
                         uint32_t bank);
/* False: it is free, or torn. */
bool pl__waits_see(const struct pl_waits *w, uint32_t entries, uint32_t bank,
                   uint32_t index, struct pl_waits_seen *out);
uint32_t pl__waits_block_count(const struct pl_waits *w);
uint32_t pl__waits_leak_count(const struct pl_waits *w);
/* Copies them to `out` (PL_WAITS_SUSPECTS_MAX); returns how many. */
uint32_t pl__waits_suspects(const struct pl_waits *w,
                            struct pl_waits_suspect *out);
/* Name number `name` - 1 of an entry or a leak; empty: there is none. */
struct pl_slice pl__waits_name_of(const struct pl_waits *w, uint32_t name);

/* A coroutine's id for people, "GENERATION.INDEX"; returns `out`.  The same
 * coroutine of the VM takes one request after another, each a generation. */
const char *pl__waits_id_text(uint64_t id, char out[PL_WAITS_ID_TEXT_BYTES]);
/* "sleep", "task" ...; and "running" and so on. Static. */
const char *pl__waits_reason_name(uint32_t reason);
const char *pl__waits_state_name(uint32_t state);

#endif /* PL_FABRIC_WAITS_H */
