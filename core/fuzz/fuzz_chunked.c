/* fuzz/fuzz_chunked.c - chunked bodies against a slow and plain reading.
 *
 * The chunked decoder, however its bytes are cut, against a decoder that has
 * them all at once.  The input is a chunked body.
 */
#include "http/chunked.h"

#include <stdio.h>
#include <stdlib.h>

#define BYTES_MAX 4096u
#define TRAILER_BYTES 512u
#define TRAILER_COUNT 8u

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

struct result {
  char data[BYTES_MAX];
  uint32_t data_bytes;
  uint32_t used;
  enum pl_chunked_outcome outcome;
  uint16_t status;
};

/* step 0: pieces of 1 to 16 bytes, by the bytes themselves. */
static void decode(const char *at, uint32_t n, uint32_t step,
                   struct result *r) {
  struct pl_chunked c;
  uint32_t seed = 2166136261u, end = 0;

  memset(r, 0, sizeof(*r));
  pl__chunked_init(&c, TRAILER_BYTES, TRAILER_COUNT);
  r->outcome = PL_CHUNKED_MORE;
  while (end < n && r->outcome == PL_CHUNKED_MORE) {
    seed = (seed ^ (uint8_t)at[end]) * 16777619u;
    uint32_t piece = step ? step : 1 + (seed >> 13) % 16;
    end = piece < n - end ? end + piece : n;
    do {
      struct pl_slice data = {0};
      uint32_t used;
      r->outcome =
          pl__chunked_run(&c, at + r->used, end - r->used, &used, &data);
      CHECK(used <= end - r->used);
      if (r->outcome == PL_CHUNKED_DATA) {
        CHECK(data.bytes && data.at >= at + r->used);
        CHECK(data.at + data.bytes == at + r->used + used);
        memcpy(r->data + r->data_bytes, data.at, data.bytes);
        r->data_bytes += data.bytes;
      }
      r->used += used;
    } while (r->outcome == PL_CHUNKED_DATA);
    if (r->outcome == PL_CHUNKED_MORE)
      CHECK(r->used == end);
  }
  r->status = c.status;
}

/* The index behind the CRLF that ends the line at `i`, of at most `max` bytes
 * without CR and LF; 0 when there is none. */
static uint32_t line_end(const char *at, uint32_t n, uint32_t i) {
  for (; i + 1 < n; i++) {
    if (at[i] == '\n')
      return 0;
    if (at[i] == '\r')
      return at[i + 1] == '\n' ? i + 2 : 0;
  }
  return 0;
}

/* Reads the whole body. Returns the bytes it has, or 0 if it is not a whole
 * one by the grammar. */
static uint32_t decode_plainly(const char *at, uint32_t n, char *data,
                               uint32_t *data_bytes) {
  uint32_t i = 0, field_count = 0, trailers_at;

  *data_bytes = 0;
  for (;;) {
    uint32_t end = line_end(at, n, i), digits = 0;
    uint64_t size = 0;
    if (!end || end - i > PL_LIMIT_CHUNK_LINE_BYTES)
      return 0;
    for (; strchr("0123456789abcdefABCDEF", at[i]) && at[i]; i++) {
      char text[2] = {at[i], 0};
      size = size << 4 | strtoul(text, NULL, 16);
      if (++digits > 16 || size >> 54)
        return 0;
    }
    if (!digits || (at[i] != '\r' && at[i] != ';'))
      return 0;
    for (; i < end - 2; i++)
      if ((at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7f)
        return 0;
    i = end;
    if (!size)
      break;
    if (size + 2 > n - i || at[i + size] != '\r' || at[i + size + 1] != '\n')
      return 0;
    memcpy(data + *data_bytes, at + i, size);
    *data_bytes += (uint32_t)size;
    i += (uint32_t)size + 2;
  }
  trailers_at = i;
  for (;;) {
    uint32_t end = line_end(at, n, i), name = 0;
    if (!end || end - trailers_at > TRAILER_BYTES)
      return 0;
    if (end - i == 2)
      return end;
    if (++field_count > TRAILER_COUNT)
      return 0;
    for (; at[i] != ':'; i++, name++)
      if ((signed char)at[i] <= 0x20 || at[i] == 0x7f ||
          strchr("\"(),/;<=>?@[\\]{}", at[i]))
        return 0;
    if (!name)
      return 0;
    for (; i < end - 2; i++)
      if (((unsigned char)at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7f)
        return 0;
    i = end;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  static struct result whole, other;
  static char data[BYTES_MAX];
  const char *text = (const char *)at;
  uint32_t n = bytes < BYTES_MAX ? (uint32_t)bytes : BYTES_MAX;
  uint32_t data_bytes, used;

  decode(text, n, n, &whole);
  for (uint32_t step = 0; step < 2; step++) {
    decode(text, n, step, &other);
    CHECK(whole.outcome == other.outcome && whole.used == other.used);
    CHECK(whole.status == other.status);
    CHECK(whole.data_bytes == other.data_bytes);
    CHECK(memcmp(whole.data, other.data, whole.data_bytes) == 0);
  }
  /* Extensions of one input cannot pass the limit for a message. */
  used = decode_plainly(text, n, data, &data_bytes);
  CHECK((whole.outcome == PL_CHUNKED_DONE) == (used != 0));
  if (used) {
    CHECK(whole.used == used && whole.data_bytes == data_bytes);
    CHECK(memcmp(whole.data, data, data_bytes) == 0);
  }
  return 0;
}
