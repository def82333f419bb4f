/* net/writer.h - the ordered outbound bytes of one connection.
 *
 * Small pieces are copied into the output buffer, one large piece at a time is
 * pinned where it lies, or comes from a file.  They leave in this order:
 *
 *     output buffer  ->  pinned bytes  ->  tail  |  file
 *
 * in at most one send or writev per connection and tick, as long as the peer
 * keeps up.  While bytes are pinned or a file is under way nothing more is
 * appended: whoever pins waits (one handler at a time per connection).
 * Knows nothing of HTTP: framing is http/encode.h.  Does not watch the
 * transport: pl__writer_flush tells its caller what is left.
 */
#ifndef PL_NET_WRITER_H
#define PL_NET_WRITER_H

#include "base/buf.h"
#include "net/transport.h"

#include <stdbool.h>

struct pl_writer {
  struct pl_buf out;   /* encoders append here */
  uint32_t out_sent;   /* of it, already with the transport */
  uint32_t tail_bytes; /* of `tail` still to be sent */
  const char *tail;    /* static bytes behind the pinned ones */
  const char *pin;     /* borrowed; NULL: nothing pinned */
  size_t pin_bytes;    /* still to be sent */
  int file;            /* owned descriptor; -1: none */
  off_t file_offset;
  size_t file_bytes; /* still to be sent */
};

enum pl_write_outcome {
  PL_WRITE_DONE,    /* all is with the transport */
  PL_WRITE_PENDING, /* it takes no more now: watch for writable */
  PL_WRITE_LOST     /* the connection is gone, or a file ended early */
};

/* out_bytes_max: the largest that the output buffer may grow to. */
void pl__writer_init(struct pl_writer *w, struct pl_buf_pool *pool,
                     uint32_t out_bytes_max);
/* Drops everything, closes the file, gives the buffer back. */
void pl__writer_release(struct pl_writer *w);

/* Pins `bytes` (one or more) behind the output; `tail` (static, may be NULL) goes behind
 * them. Nothing may be pinned or under way (asserted). The bytes stay the
 * caller's, unmoved, until pl__writer_is_pinned is false. */
void pl__writer_pin(struct pl_writer *w, const char *at, size_t bytes,
                    const char *tail, uint32_t tail_bytes);
/* Sends `bytes` of `fd` from `offset` behind the output; takes over fd. */
void pl__writer_file(struct pl_writer *w, int fd, off_t offset, size_t bytes);

/* Hands over as much as the transport takes. *moved: some bytes went. */
enum pl_write_outcome pl__writer_flush(struct pl_writer *w,
                                       struct pl_transport *t, bool *moved);

/* Bytes that wait, those of the file not counted. */
static inline size_t pl__writer_waiting(const struct pl_writer *w) {
  return w->out.bytes - w->out_sent + w->pin_bytes + w->tail_bytes;
}

static inline bool pl__writer_is_pinned(const struct pl_writer *w) {
  return w->pin != NULL || w->file >= 0;
}

static inline bool pl__writer_is_empty(const struct pl_writer *w) {
  return w->out.bytes == w->out_sent && !pl__writer_is_pinned(w) &&
         w->tail_bytes == 0;
}

#endif /* PL_NET_WRITER_H */
