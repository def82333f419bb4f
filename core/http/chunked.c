/* The whole grammar, byte by byte outside of data:
 *
 *   SIZE --";"--> EXTENSION          DATA --left 0--> DATA_CR --> DATA_LF
 *    |                |               ^                              |
 *    +-----CR---------+--> SIZE_LF ---+  (size > 0)        SIZE <----+
 *                             |
 *                          (size 0)
 *                             v
 *   TRAILER_START --CR--> END_LF --> END
 *    |        ^
 *    |        +-------- TRAILER_LF <--CR-- TRAILER_VALUE
 *    +--> TRAILER_NAME --":"--> TRAILER_VALUE
 *
 * Stricter than RFC 9112 7.1 in one point: no white space between the size and
 * its extensions ("bad whitespace"), which nobody sends and some read as part
 * of the size.  A bare LF never ends a line.
 */
#include "http/chunked.h"

#include "http/chars.h"

enum {
  SIZE,
  EXTENSION,
  SIZE_LF,
  DATA,
  DATA_CR,
  DATA_LF,
  TRAILER_START,
  TRAILER_NAME,
  TRAILER_VALUE,
  TRAILER_LF,
  END_LF,
  END,
  BAD
};

#define SIZE_DIGITS_MAX 16u

void pl__chunked_init(struct pl_chunked *c, uint32_t trailer_bytes_max,
                      uint32_t trailer_count_max) {
  memset(c, 0, sizeof(*c));
  c->trailer_bytes_max = trailer_bytes_max;
  c->trailer_count_max = trailer_count_max;
}

static enum pl_chunked_outcome fail(struct pl_chunked *c, uint16_t status,
                                    const char *detail) {
  c->state = BAD;
  c->status = status;
  c->detail = detail;
  return PL_CHUNKED_BAD;
}

/* A byte of the chunk line. Returns 0, or -1 after fail(). */
static int take_line(struct pl_chunked *c, char ch) {
  if (++c->line_bytes > PL_LIMIT_CHUNK_LINE_BYTES) {
    fail(c, 400, "A chunk's size line is too long.");
    return -1;
  }
  if (c->state == SIZE_LF) {
    if (ch != '\n') {
      fail(c, 400, "A chunk's size line does not end in CRLF.");
      return -1;
    }
    c->state = c->left ? DATA : TRAILER_START;
    c->line_bytes = 0;
    return 0;
  }
  if (ch == '\r' && c->digits) {
    c->state = SIZE_LF;
    return 0;
  }
  if (c->state == EXTENSION) {
    if (!pl__char_is(ch, PL_CHAR_EXTENSION) ||
        ++c->extension_bytes > PL_LIMIT_CHUNK_EXTENSIONS_BYTES) {
      fail(c, 400, "A chunk's extensions are malformed or too long.");
      return -1;
    }
    return 0;
  }
  if (ch == ';' && c->digits) {
    c->state = EXTENSION;
    return 0;
  }
  int digit = pl__char_hex(ch);
  if (digit < 0 || ++c->digits > SIZE_DIGITS_MAX ||
      c->left > PL_LIMIT_CHUNK_BYTES >> 4) {
    fail(c, 400, "A chunk's size is malformed.");
    return -1;
  }
  c->left = c->left << 4 | (uint64_t)digit;
  return 0;
}

/* A byte of the trailer section. Returns 0, or -1 after fail(). */
static int take_trailer(struct pl_chunked *c, char ch) {
  if (++c->trailer_bytes > c->trailer_bytes_max) {
    fail(c, 431, "The trailer section is too large.");
    return -1;
  }
  switch (c->state) {
  case TRAILER_START:
    if (ch == '\r') {
      c->state = END_LF;
      return 0;
    }
    if (++c->trailer_count > c->trailer_count_max) {
      fail(c, 431, "There are too many trailer fields.");
      return -1;
    }
    c->state = TRAILER_NAME;
    if (pl__char_is(ch, PL_CHAR_TOKEN))
      return 0;
    break;
  case TRAILER_NAME:
    if (ch == ':') {
      c->state = TRAILER_VALUE;
      return 0;
    }
    if (pl__char_is(ch, PL_CHAR_TOKEN))
      return 0;
    break;
  case TRAILER_VALUE:
    if (ch == '\r') {
      c->state = TRAILER_LF;
      return 0;
    }
    if (pl__char_is(ch, PL_CHAR_FIELD))
      return 0;
    break;
  case TRAILER_LF:
    c->state = TRAILER_START;
    if (ch == '\n')
      return 0;
    break;
  default: /* END_LF */
    c->state = END;
    if (ch == '\n')
      return 0;
    break;
  }
  fail(c, 400, "The trailer section is malformed.");
  return -1;
}

enum pl_chunked_outcome pl__chunked_run(struct pl_chunked *c, const char *at,
                                        uint32_t bytes, uint32_t *used,
                                        struct pl_slice *data) {
  uint32_t i = 0;

  *used = 0;
  while (i < bytes && c->state < END) {
    if (c->state == DATA) {
      uint32_t n = bytes - i;
      if (n > c->left)
        n = (uint32_t)c->left;
      c->left -= n;
      if (!c->left)
        c->state = DATA_CR;
      *data = pl__slice(at + i, n);
      *used = i + n;
      return PL_CHUNKED_DATA;
    }
    char ch = at[i++];
    if (c->state <= SIZE_LF) {
      if (take_line(c, ch))
        break;
    } else if (c->state >= TRAILER_START) {
      if (take_trailer(c, ch))
        break;
    } else if (ch == (c->state == DATA_CR ? '\r' : '\n')) {
      c->digits = 0;
      c->state = c->state == DATA_CR ? DATA_LF : SIZE;
    } else {
      fail(c, 400, "A chunk's data does not end in CRLF.");
      break;
    }
  }
  *used = i;
  if (c->state == BAD)
    return PL_CHUNKED_BAD;
  return c->state == END ? PL_CHUNKED_DONE : PL_CHUNKED_MORE;
}
