/* net/writer.c - see writer.h. */
#include "net/writer.h"
#include "base/check.h"

#include <unistd.h>

/* A descriptor's share of one flush: longer runs would keep the loop from
 * other connections when the peer is as fast as the page cache. */
#define WRITER_FILE_BYTES_PER_FLUSH (1u << 20)
#define WRITER_COMPACT_BYTES 65536u

void pl__writer_init(struct pl_writer *w, struct pl_buf_pool *pool,
                     uint32_t out_bytes_max) {
  *w = (struct pl_writer){.file = -1};
  pl__buf_init(&w->out, pool, out_bytes_max);
}

static void writer_close_file(struct pl_writer *w) {
  if (w->file >= 0)
    close(w->file);
  w->file = -1;
  w->file_bytes = 0;
}

void pl__writer_release(struct pl_writer *w) {
  pl__buf_release(&w->out);
  w->out_sent = w->tail_bytes = 0;
  w->pin = NULL;
  w->pin_bytes = 0;
  writer_close_file(w);
}

void pl__writer_pin(struct pl_writer *w, const char *at, size_t bytes,
                    const char *tail, uint32_t tail_bytes) {
  PL_ASSERT(!pl__writer_is_pinned(w) && w->tail_bytes == 0);
  PL_ASSERT(bytes > 0);
  w->pin = at;
  w->pin_bytes = bytes;
  w->tail = tail;
  w->tail_bytes = tail_bytes;
}

void pl__writer_file(struct pl_writer *w, int fd, off_t offset, size_t bytes) {
  PL_ASSERT(!pl__writer_is_pinned(w) && w->tail_bytes == 0);
  w->file = fd;
  w->file_offset = offset;
  w->file_bytes = bytes;
}

/* Takes `n` sent bytes off the pieces, in their order. */
static void writer_advance(struct pl_writer *w, size_t n) {
  size_t out = w->out.bytes - w->out_sent;

  if (n < out) {
    w->out_sent += (uint32_t)n;
    if (w->out_sent >=
        WRITER_COMPACT_BYTES) { /* a peer that never catches up */
      pl__buf_drop(&w->out, w->out_sent);
      w->out_sent = 0;
    }
    return;
  }
  n -= out;
  pl__buf_release(&w->out);
  w->out_sent = 0;
  size_t pinned = n < w->pin_bytes ? n : w->pin_bytes;
  w->pin_bytes -= pinned;
  w->pin = w->pin_bytes ? w->pin + pinned : NULL;
  n -= pinned;
  if (n) {
    w->tail += n;
    w->tail_bytes -= (uint32_t)n;
  }
}

static int writer_pieces(const struct pl_writer *w, struct iovec pieces[3]) {
  int count = 0;

  if (w->out.bytes > w->out_sent)
    pieces[count++] =
        (struct iovec){w->out.at + w->out_sent, w->out.bytes - w->out_sent};
  if (w->pin_bytes)
    pieces[count++] = (struct iovec){(void *)(uintptr_t)w->pin, w->pin_bytes};
  if (w->tail_bytes)
    pieces[count++] = (struct iovec){(void *)(uintptr_t)w->tail, w->tail_bytes};
  return count;
}

static enum pl_write_outcome
writer_flush_file(struct pl_writer *w, struct pl_transport *t, bool *moved) {
  size_t share = WRITER_FILE_BYTES_PER_FLUSH;

  while (w->file_bytes && share) {
    size_t want = w->file_bytes < share ? w->file_bytes : share;
    ssize_t n = t->ops->send_file(t, w->file, &w->file_offset, want);
    if (n == PL_TRANSPORT_AGAIN)
      return PL_WRITE_PENDING;
    if (n <= 0)
      return PL_WRITE_LOST; /* a file cut short can't be completed either */
    w->file_bytes -= (size_t)n;
    share -= (size_t)n;
    *moved = true;
  }
  if (w->file_bytes)
    return PL_WRITE_PENDING;
  writer_close_file(w);
  return PL_WRITE_DONE;
}

enum pl_write_outcome pl__writer_flush(struct pl_writer *w,
                                       struct pl_transport *t, bool *moved) {
  struct iovec pieces[3];
  int count;

  *moved = false;
  while ((count = writer_pieces(w, pieces)) > 0) {
    size_t waiting = pl__writer_waiting(w);
    ssize_t n = t->ops->send(t, pieces, count);
    if (n == PL_TRANSPORT_AGAIN)
      return PL_WRITE_PENDING;
    if (n < 0)
      return PL_WRITE_LOST;
    *moved = true;
    writer_advance(w, (size_t)n);
    if ((size_t)n < waiting)
      return PL_WRITE_PENDING; /* the socket's buffer is full */
  }
  return w->file >= 0 ? writer_flush_file(w, t, moved) : PL_WRITE_DONE;
}
