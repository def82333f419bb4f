/* server/grpc.c - see grpc.h. */
#include "server/grpc.h"
#include "base/err.h"
#include "http/bearer.h"

#include <stdio.h>

/* --- what is asked ------------------------------------------------------ */

static void answer_http(struct pl_h2_stream *s, struct pl_slice status,
                        const struct pl_h2_field *field) {
  struct pl_h2_field fields[2] = {{PL_SLICE(":status"), status}};

  if (field)
    fields[1] = *field;
  if (pl__h2_respond(s, fields, field ? 2 : 1, true))
    pl__h2_reset(s, PL_H2_INTERNAL_ERROR);
}

/* application/grpc, with `+proto`, with parameters. */
static bool type_is_grpc(struct pl_slice type) {
  struct pl_slice grpc = PL_SLICE("application/grpc");
  struct pl_slice proto = PL_SLICE("application/grpc+proto");

  for (uint32_t i = 0; i < type.bytes; i++)
    if (type.at[i] == ';' || type.at[i] == ' ')
      type.bytes = i;
  return pl__slice_equal_nocase(type, grpc) ||
         pl__slice_equal_nocase(type, proto);
}

bool pl__grpc_accept(struct pl_h2_stream *s) {
  struct pl_h2_field allow = {PL_SLICE("allow"), PL_SLICE("POST")};

  if (!pl__slice_equal(pl__h2_field(s, ":method"), PL_SLICE("POST"))) {
    answer_http(s, PL_SLICE("405"), &allow);
    return false;
  }
  if (!type_is_grpc(pl__h2_field(s, "content-type"))) {
    answer_http(s, PL_SLICE("415"), NULL);
    return false;
  }
  return true;
}

bool pl__grpc_is_authorized(const struct pl_h2_stream *s,
                            struct pl_slice token) {
  return pl__bearer_allows(pl__h2_field(s, "authorization"), token);
}

static uint32_t big_endian(const char *at) {
  uint32_t n = 0;

  for (int i = 0; i < 4; i++)
    n = n << 8 | (unsigned char)at[i];
  return n;
}

enum pl_grpc_status pl__grpc_message(const struct pl_h2_stream *s,
                                     struct pl_slice *message,
                                     const char **why) {
  struct pl_slice body = pl__h2_body(s);
  struct pl_slice encoding = pl__h2_field(s, "grpc-encoding");
  bool is_named =
      encoding.bytes && !pl__slice_equal(encoding, PL_SLICE("identity"));

  *why = "the message is too large";
  if (pl__h2_is_cut(s))
    return PL_GRPC_RESOURCE_EXHAUSTED;
  *why = "the message is not complete";
  if (body.bytes < PL_GRPC_PREFIX_BYTES)
    return PL_GRPC_INVALID_ARGUMENT;
  *why = "the message is compressed";
  if (body.at[0] == 1)
    return is_named ? PL_GRPC_UNIMPLEMENTED : PL_GRPC_INTERNAL;
  *why = "not one message";
  if (body.at[0] != 0 ||
      big_endian(body.at + 1) != body.bytes - PL_GRPC_PREFIX_BYTES)
    return PL_GRPC_INVALID_ARGUMENT;
  *message = pl__slice(body.at + PL_GRPC_PREFIX_BYTES,
                       body.bytes - PL_GRPC_PREFIX_BYTES);
  return PL_GRPC_OK;
}

int pl__grpc_timeout(const struct pl_h2_stream *s, int64_t *ms) {
  static const struct {
    char unit;
    int64_t ns;
  } units[] = {{'H', 3600000000000}, {'M', 60000000000}, {'S', 1000000000},
               {'m', 1000000},       {'u', 1000},        {'n', 1}};
  struct pl_slice text = pl__h2_field(s, "grpc-timeout");
  int64_t count = 0;

  *ms = -1;
  if (!text.at)
    return 0;
  if (text.bytes < 2 || text.bytes > 9)
    return PL_EBAD;
  for (uint32_t i = 0; i + 1 < text.bytes; i++) {
    if (text.at[i] < '0' || text.at[i] > '9')
      return PL_EBAD;
    count = count * 10 + (text.at[i] - '0');
  }
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (text.at[text.bytes - 1] == units[i].unit) {
      /* 63 bits do not hold 8 digits of hours in nanoseconds. */
      *ms = units[i].ns >= 1000000 ? count * (units[i].ns / 1000000)
                                   : (count * units[i].ns + 999999) / 1000000;
      return 0;
    }
  return PL_EBAD;
}

/* --- what is answered --------------------------------------------------- */

/* A block of fields while it is put together. */
struct block {
  struct pl_h2_field fields[6];
  uint32_t count;
  char number[12]; /* what grpc-status points to */
};

static void block_add(struct block *b, struct pl_slice name,
                      struct pl_slice value) {
  b->fields[b->count++] = (struct pl_h2_field){name, value};
}

static void block_begin(struct block *b) {
  block_add(b, PL_SLICE(":status"), PL_SLICE("200"));
  block_add(b, PL_SLICE("content-type"), PL_SLICE("application/grpc"));
  block_add(b, PL_SLICE("grpc-accept-encoding"), PL_SLICE("identity"));
}

static void block_end(struct block *b, const struct pl_grpc_end *end) {
  int bytes = snprintf(b->number, sizeof b->number, "%d", (int)end->status);

  block_add(b, PL_SLICE("grpc-status"), pl__slice(b->number, (size_t)bytes));
  if (end->message)
    block_add(b, PL_SLICE("grpc-message"), pl__slice_text(end->message));
  if (end->extra.name.bytes)
    block_add(b, end->extra.name, end->extra.value);
}

int pl__grpc_begin(struct pl_h2_stream *s) {
  struct block b = {.count = 0};

  block_begin(&b);
  return pl__h2_respond(s, b.fields, b.count, false);
}

int pl__grpc_send(struct pl_h2_stream *s, struct pl_slice message) {
  uint32_t n = message.bytes;
  char prefix[PL_GRPC_PREFIX_BYTES] = {0, (char)(n >> 24), (char)(n >> 16),
                                       (char)(n >> 8), (char)n};
  int status = pl__h2_push(s, pl__slice(prefix, sizeof prefix));

  return status || !n ? status : pl__h2_push(s, message);
}

void pl__grpc_end(struct pl_h2_stream *s, const struct pl_grpc_end *end) {
  struct block b = {.count = 0};

  block_end(&b, end);
  if (pl__h2_end(s, b.fields, b.count))
    pl__h2_reset(s, PL_H2_INTERNAL_ERROR);
}

void pl__grpc_refuse(struct pl_h2_stream *s, const struct pl_grpc_end *end) {
  struct block b = {.count = 0};

  block_begin(&b);
  block_end(&b, end);
  if (pl__h2_respond(s, b.fields, b.count, true))
    pl__h2_reset(s, PL_H2_INTERNAL_ERROR);
}
