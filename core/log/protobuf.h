/* log/protobuf.h - writes messages of Protocol Buffers' wire format, field by
 * field, into a buffer.
 *
 * Of the format there is what profile.proto and OTLP need: varints, fixed
 * numbers, bytes, messages inside messages.  The length of an inner message is
 * not known when it begins: room for it is left, and filled in padded, so that
 * nothing is moved (protobuf.dev/programming-guides/encoding).
 *
 * Errors stick: once the buffer is full or there is no memory, nothing more is
 * written, and pl__pb_status tells.  Fields that are 0 or empty are written all
 * the same; whether to leave one out is the caller's matter.
 */
#ifndef PL_LOG_PROTOBUF_H
#define PL_LOG_PROTOBUF_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_pb {
  struct pl_buf *out; /* borrowed */
  int status;         /* 0, or the first error of pl__buf_append */
};

/* Where an inner message begins. */
struct pl_pb_mark {
  uint32_t at; /* its first byte, behind the room for its length */
};

static inline void pl__pb_init(struct pl_pb *p, struct pl_buf *out) {
  p->out = out;
  p->status = 0;
}
static inline int pl__pb_status(const struct pl_pb *p) { return p->status; }

/* uint32, uint64, enums, and bool as 0 or 1. */
void pl__pb_uint(struct pl_pb *p, uint32_t field, uint64_t value);
/* int32, int64: ten bytes if negative. */
void pl__pb_int(struct pl_pb *p, uint32_t field, int64_t value);
void pl__pb_fixed32(struct pl_pb *p, uint32_t field, uint32_t value);
void pl__pb_fixed64(struct pl_pb *p, uint32_t field, uint64_t value);
void pl__pb_double(struct pl_pb *p, uint32_t field, double value);
/* bytes, and string where the bytes are UTF-8, which is not looked at. */
void pl__pb_bytes(struct pl_pb *p, uint32_t field, struct pl_slice bytes);
void pl__pb_text(struct pl_pb *p, uint32_t field, const char *text);

/* A message as a field, or a packed field: what is written between the two
 * calls is inside. */
struct pl_pb_mark pl__pb_begin(struct pl_pb *p, uint32_t field);
void pl__pb_end(struct pl_pb *p, struct pl_pb_mark mark);
/* An element of a packed field, without a tag. */
void pl__pb_packed_uint(struct pl_pb *p, uint64_t value);
void pl__pb_packed_int(struct pl_pb *p, int64_t value);
void pl__pb_packed_fixed64(struct pl_pb *p, uint64_t value);
void pl__pb_packed_double(struct pl_pb *p, double value);

#endif /* PL_LOG_PROTOBUF_H */
