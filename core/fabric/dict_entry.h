/* fabric/dict_entry.h - an entry of a dictionary, as it lies in its blocks.
 *
 * It is a chain of blocks: in the first one its time and its sizes, then the
 * key and the value as words of 8 bytes, each padded with zeros, through all
 * blocks.  Words are loaded and stored one at a time and atomically, as readers
 * look at blocks that somebody may be writing to: what they get may be nonsense,
 * which they find out before they believe it, but no undefined behaviour.  Every
 * index is bounded when it is followed.
 *
 * Knows neither slots nor locks.  Only the dictionary's own files include it;
 * all of it is inline, as each of them does this at every call.
 */
#ifndef PL_FABRIC_DICT_ENTRY_H
#define PL_FABRIC_DICT_ENTRY_H

#include "base/check.h"
#include "fabric/dict.h"

#include <string.h>

#define PL_DICT_HEAD_WORDS 2u /* of an entry, before its key */

#define PL_DICT_GET(at) atomic_load_explicit(&(at), memory_order_relaxed)
#define PL_DICT_PUT(at, value)                                                 \
  atomic_store_explicit(&(at), (value), memory_order_relaxed)

/*   word 0   expires, ms (48 bits) | bytes of the key (12) | kind (4)
 *   word 1   bytes of the value (32) | last block of the chain (32)      */
struct pl_dict_head {
  int64_t expires_ms;
  uint32_t key_bytes;
  uint32_t kind;
  uint32_t value_bytes;
  uint32_t last;
};

static inline struct pl_dict_head pl__dict_head(const struct pl_block *entry) {
  uint64_t zero = PL_DICT_GET(entry->words[0]),
           one = PL_DICT_GET(entry->words[1]);

  return (struct pl_dict_head){.expires_ms = (int64_t)(zero & PL_DICT_NEVER),
                               .key_bytes = zero >> 48 & 0xfff,
                               .kind = (uint32_t)(zero >> 60),
                               .value_bytes = (uint32_t)one,
                               .last = (uint32_t)(one >> 32)};
}

static inline void pl__dict_head_put(struct pl_block *entry,
                                     struct pl_dict_head h) {
  PL_DICT_PUT(entry->words[0], (uint64_t)h.expires_ms |
                                   (uint64_t)h.key_bytes << 48 |
                                   (uint64_t)h.kind << 60);
  PL_DICT_PUT(entry->words[1], (uint64_t)h.last << 32 | h.value_bytes);
}

static inline bool pl__dict_is_text(uint32_t kind) {
  return kind >= PL_DICT_STRING;
}

static inline uint32_t pl__dict_value_words(uint32_t kind, uint32_t bytes) {
  return pl__dict_is_text(kind) ? (bytes + 7) / 8 : 1;
}

/* Blocks of an entry with so many words of key and value. */
static inline uint32_t pl__dict_entry_blocks(uint32_t words) {
  uint32_t first = PL_BLOCK_WORDS - PL_DICT_HEAD_WORDS;

  return words <= first
             ? 1
             : 1 + (words - first + PL_BLOCK_WORDS - 1) / PL_BLOCK_WORDS;
}

/* The blocks of an entry. */
static inline struct pl_chain pl__dict_entry_chain(const struct pl_block *entry,
                                                   uint32_t first) {
  struct pl_dict_head h = pl__dict_head(entry);

  return (struct pl_chain){
      first, h.last,
      pl__dict_entry_blocks((h.key_bytes + 7) / 8 +
                            pl__dict_value_words(h.kind, h.value_bytes))};
}

static inline bool pl__dict_entry_is_over(const struct pl_block *entry,
                                          int64_t now_ms) {
  return now_ms >= pl__dict_head(entry).expires_ms;
}

/* A word of a chain. */
struct pl_dict_cursor {
  struct pl_block *block;
  uint32_t at;
};

/* Long chains are mostly made of neighbours: what is probably next but one is on
 * its way while this one is copied. */
#define PL_DICT_AHEAD 4

static inline void pl__dict_prefetch(const struct pl_block *block) {
  __builtin_prefetch(block);
  __builtin_prefetch((const char *)block + PL_BLOCK_BYTES / 2);
}

static inline void pl__dict_hop(const struct pl_blocks *b,
                                struct pl_dict_cursor *c) {
  if (PL_LIKELY(c->at < PL_BLOCK_WORDS))
    return;
  c->block = pl__block_at(b, PL_DICT_GET(c->block->next));
  c->at -= PL_BLOCK_WORDS;
  pl__dict_prefetch(c->block + PL_DICT_AHEAD);
}

/* How many of `words` lie in the cursor's block, which it may hop to. */
static inline uint32_t pl__dict_here(const struct pl_blocks *b,
                                     struct pl_dict_cursor *c, uint32_t words) {
  uint32_t here;

  pl__dict_hop(b, c);
  here = PL_BLOCK_WORDS - c->at;
  return words < here ? words : here;
}

static inline void pl__dict_words_out(const struct pl_blocks *b,
                                      struct pl_dict_cursor *c, char *out,
                                      uint32_t words) {
  while (words) {
    uint32_t here = pl__dict_here(b, c, words);
    _Atomic uint64_t *from = &c->block->words[c->at];

    for (uint32_t i = 0; i < here; i++) {
      uint64_t word = PL_DICT_GET(from[i]);
      memcpy(out + (size_t)i * 8, &word, 8);
    }
    out += (size_t)here * 8;
    c->at += here;
    words -= here;
  }
}

/* Whole words, then `tail` if the bytes do not end with one. */
static inline void pl__dict_words_in(const struct pl_blocks *b,
                                     struct pl_dict_cursor *c, const char *at,
                                     uint32_t bytes, uint64_t tail) {
  uint32_t words = bytes / 8;

  while (words) {
    uint32_t here = pl__dict_here(b, c, words);
    _Atomic uint64_t *to = &c->block->words[c->at];

    for (uint32_t i = 0; i < here; i++) {
      uint64_t word;
      memcpy(&word, at + (size_t)i * 8, 8);
      PL_DICT_PUT(to[i], word);
    }
    at += (size_t)here * 8;
    c->at += here;
    words -= here;
  }
  if (bytes % 8) {
    pl__dict_hop(b, c);
    PL_DICT_PUT(c->block->words[c->at++], tail);
  }
}

/* A key that is looked for. */
struct pl_dict_probe {
  const char *at;
  uint32_t bytes;
  uint64_t tail;   /* its last word, if that is not a whole one */
  uint32_t bucket; /* where it has to be */
  uint32_t tag;    /* of its slot; not 0 */
};

/* Whether the words at the cursor are those of the key; it is behind them then.
 * By address: handed over one by one they cost some instructions. */
static inline bool pl__dict_key_is(const struct pl_blocks *b,
                                   struct pl_dict_cursor *c,
                                   const struct pl_dict_probe *p) {
  const char *at = p->at;
  uint32_t words = p->bytes / 8;

  while (words) {
    uint32_t here = pl__dict_here(b, c, words);
    _Atomic uint64_t *from = &c->block->words[c->at];

    for (uint32_t i = 0; i < here; i++) {
      uint64_t word;
      memcpy(&word, at + (size_t)i * 8, 8);
      if (PL_DICT_GET(from[i]) != word)
        return false;
    }
    at += (size_t)here * 8;
    c->at += here;
    words -= here;
  }
  if (p->bytes % 8 == 0)
    return true;
  pl__dict_hop(b, c);
  return PL_DICT_GET(c->block->words[c->at++]) == p->tail;
}

static inline double pl__dict_number(uint64_t word) {
  double number;

  memcpy(&number, &word, sizeof number);
  return number;
}

static inline uint64_t pl__dict_number_word(double number) {
  uint64_t word;

  memcpy(&word, &number, sizeof word);
  return word;
}

#endif /* PL_FABRIC_DICT_ENTRY_H */
