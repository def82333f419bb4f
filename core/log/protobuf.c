/* log/protobuf.c - see protobuf.h. */
#include "log/protobuf.h"

#include "base/check.h"

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

#define VARINT_BYTES_MAX 10u
#define LENGTH_BYTES 5u /* of an inner message: enough for 2^32 */

static void append(struct pl_pb *p, const void *at, uint32_t bytes) {
  if (!p->status)
    p->status = pl__buf_append(p->out, at, bytes);
}

static void varint(struct pl_pb *p, uint64_t value) {
  uint8_t bytes[VARINT_BYTES_MAX];
  uint32_t n = 0;

  for (; value >= 0x80; value >>= 7)
    bytes[n++] = (uint8_t)(value | 0x80);
  bytes[n++] = (uint8_t)value;
  append(p, bytes, n);
}

static void tag(struct pl_pb *p, uint32_t field, enum wire_type type) {
  varint(p, (uint64_t)field << 3 | type);
}

static void little_endian(struct pl_pb *p, uint64_t value, uint32_t bytes) {
  uint8_t at[8];

  for (uint32_t i = 0; i < bytes; i++)
    at[i] = (uint8_t)(value >> 8 * i);
  append(p, at, bytes);
}

static uint64_t bits_of(double value) {
  uint64_t bits;

  memcpy(&bits, &value, sizeof bits);
  return bits;
}

void pl__pb_uint(struct pl_pb *p, uint32_t field, uint64_t value) {
  tag(p, field, WIRE_VARINT);
  varint(p, value);
}

void pl__pb_int(struct pl_pb *p, uint32_t field, int64_t value) {
  pl__pb_uint(p, field, (uint64_t)value);
}

void pl__pb_fixed32(struct pl_pb *p, uint32_t field, uint32_t value) {
  tag(p, field, WIRE_32);
  little_endian(p, value, 4);
}

void pl__pb_fixed64(struct pl_pb *p, uint32_t field, uint64_t value) {
  tag(p, field, WIRE_64);
  little_endian(p, value, 8);
}

void pl__pb_double(struct pl_pb *p, uint32_t field, double value) {
  pl__pb_fixed64(p, field, bits_of(value));
}

void pl__pb_bytes(struct pl_pb *p, uint32_t field, struct pl_slice bytes) {
  tag(p, field, WIRE_BYTES);
  varint(p, bytes.bytes);
  append(p, bytes.at, bytes.bytes);
}

void pl__pb_text(struct pl_pb *p, uint32_t field, const char *text) {
  pl__pb_bytes(p, field, pl__slice_text(text));
}

struct pl_pb_mark pl__pb_begin(struct pl_pb *p, uint32_t field) {
  static const uint8_t room[LENGTH_BYTES];

  tag(p, field, WIRE_BYTES);
  append(p, room, LENGTH_BYTES);
  return (struct pl_pb_mark){.at = p->out->bytes};
}

void pl__pb_end(struct pl_pb *p, struct pl_pb_mark mark) {
  uint32_t bytes;

  if (p->status)
    return;
  PL_ASSERT(mark.at >= LENGTH_BYTES && mark.at <= p->out->bytes);
  bytes = p->out->bytes - mark.at;
  for (uint32_t i = 0; i < LENGTH_BYTES; i++) {
    uint32_t more = i + 1 < LENGTH_BYTES ? 0x80 : 0;
    p->out->at[mark.at - LENGTH_BYTES + i] =
        (char)((bytes >> 7 * i & 0x7f) | more);
  }
}

void pl__pb_packed_uint(struct pl_pb *p, uint64_t value) { varint(p, value); }

void pl__pb_packed_int(struct pl_pb *p, int64_t value) {
  varint(p, (uint64_t)value);
}

void pl__pb_packed_fixed64(struct pl_pb *p, uint64_t value) {
  little_endian(p, value, 8);
}

void pl__pb_packed_double(struct pl_pb *p, double value) {
  little_endian(p, bits_of(value), 8);
}
