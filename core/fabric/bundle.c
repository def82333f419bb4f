/* fabric/bundle.c - blobs behind each other, found by walking. */
#include "fabric/bundle.h"

#include "base/err.h"

#include <stddef.h>
#include <string.h>

/* Before each blob; its key and its bytes follow, padded to 8. */
struct blob {
  uint64_t key_hash;
  uint32_t key_bytes;
  uint32_t bytes;
};

#define FNV_BASIS 14695981039346656037ull
#define FNV_PRIME 1099511628211ull

/* FNV-1a (Fowler, Noll, Vo). */
static uint64_t fnv(uint64_t h, struct pl_slice s) {
  for (uint32_t i = 0; i < s.bytes; i++)
    h = (h ^ (unsigned char)s.at[i]) * FNV_PRIME;
  return h;
}

static uint64_t padded(uint64_t bytes) { return (bytes + 7) & ~7ull; }

void pl__bundle_init(struct pl_bundle *b, uint64_t section_bytes) {
  b->cap = section_bytes - offsetof(struct pl_bundle, data);
}

void pl__bundle_begin(struct pl_bundle *b, uint32_t generation) {
  atomic_store_explicit(&b->generation, 0, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  b->writing = generation;
  b->count = b->used = 0;
  b->hash = 0;
}

/* Bytes of data that may be looked at, whatever the count of them says. */
static uint64_t readable(const struct pl_bundle *b) {
  uint64_t used = b->used;

  return used < b->cap ? used : b->cap;
}

bool pl__bundle_find(const struct pl_bundle *b, struct pl_slice key,
                     struct pl_slice *bytes) {
  uint64_t hash = fnv(FNV_BASIS, key), at = 0, used = readable(b);

  for (uint32_t i = 0; i < b->count && at + sizeof(struct blob) <= used; i++) {
    struct blob blob;
    const char *text = b->data + at + sizeof blob;
    memcpy(&blob, b->data + at, sizeof blob);
    at += sizeof blob + padded((uint64_t)blob.key_bytes + blob.bytes);
    if (at > used)
      return false; /* it is being written anew */
    if (blob.key_hash == hash && blob.key_bytes == key.bytes &&
        !memcmp(text, key.at, key.bytes)) {
      *bytes = pl__slice(text + blob.key_bytes, blob.bytes);
      return true;
    }
  }
  return false;
}

bool pl__bundle_next(const struct pl_bundle *b, uint64_t *at,
                     struct pl_slice *key, struct pl_slice *bytes) {
  struct blob blob;
  const char *text = b->data + *at + sizeof blob;
  uint64_t used = readable(b);

  if (*at + sizeof blob > used)
    return false;
  memcpy(&blob, b->data + *at, sizeof blob);
  *at += sizeof blob + padded((uint64_t)blob.key_bytes + blob.bytes);
  if (*at > used)
    return false;
  *key = pl__slice(text, blob.key_bytes);
  *bytes = pl__slice(text + blob.key_bytes, blob.bytes);
  return true;
}

int pl__bundle_add(struct pl_bundle *b, struct pl_slice key,
                   struct pl_slice bytes) {
  struct blob blob = {fnv(FNV_BASIS, key), (uint32_t)key.bytes,
                      (uint32_t)bytes.bytes};
  uint64_t need = sizeof blob + padded((uint64_t)key.bytes + bytes.bytes);
  char *to = b->data + b->used;
  struct pl_slice there;

  if (pl__bundle_find(b, key, &there))
    return 0;
  if (need > b->cap - b->used)
    return PL_EFULL;
  memcpy(to, &blob, sizeof blob);
  memcpy(to + sizeof blob, key.at, key.bytes);
  if (bytes.bytes)
    memcpy(to + sizeof blob + key.bytes, bytes.at, bytes.bytes);
  b->used += (uint32_t)need;
  b->count++;
  return 0;
}

/* A sum, so that the order in which files are read says nothing. */
void pl__bundle_hash(struct pl_bundle *b, struct pl_slice name,
                     struct pl_slice bytes) {
  uint64_t h = fnv((fnv(FNV_BASIS, name) ^ 0xff) * FNV_PRIME, bytes);

  h ^= h >> 33; /* the finalizer of MurmurHash3 */
  h *= 0xff51afd7ed558ccdull;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53ull;
  b->hash += h ^ (h >> 33);
}

void pl__bundle_publish(struct pl_bundle *b) {
  atomic_store_explicit(&b->generation, b->writing, memory_order_seq_cst);
}

bool pl__bundle_is(const struct pl_bundle *b, uint32_t generation) {
  atomic_thread_fence(memory_order_acquire);
  return atomic_load_explicit(&b->generation, memory_order_acquire) ==
         generation;
}
