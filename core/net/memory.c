/* net/memory.c - see memory.h. */
#include "net/memory.h"

#include <errno.h>
#include <unistd.h>

static struct pl_memory *memory_of(struct pl_transport *t) {
  return (struct pl_memory *)t;
}

static ssize_t memory_receive(struct pl_transport *t, char *to, size_t bytes) {
  struct pl_memory *m = memory_of(t);
  uint32_t n = m->in.bytes < bytes ? m->in.bytes : (uint32_t)bytes;

  if (m->lost)
    return -ECONNRESET;
  if (n == 0)
    return m->eof ? 0 : PL_TRANSPORT_AGAIN;
  memcpy(to, m->in.at, n);
  pl__buf_drop(&m->in, n);
  return (ssize_t)n;
}

/* Room for the next send: a stalled peer takes nothing. */
static uint32_t memory_room(const struct pl_memory *m) {
  return m->stalled ? 0 : PL_MEMORY_WINDOW_BYTES;
}

static ssize_t memory_send(struct pl_transport *t, const struct iovec *pieces,
                           int piece_count) {
  struct pl_memory *m = memory_of(t);
  uint32_t room = memory_room(m), sent = 0;

  if (m->lost || m->shut)
    return -EPIPE;
  if (room == 0)
    return PL_TRANSPORT_AGAIN;
  for (int i = 0; i < piece_count && sent < room; i++) {
    uint32_t n = pieces[i].iov_len < room - sent ? (uint32_t)pieces[i].iov_len
                                                 : room - sent;
    if (pl__buf_append(&m->out, pieces[i].iov_base, n))
      return -ENOMEM;
    sent += n;
  }
  return (ssize_t)sent;
}

static ssize_t memory_send_file(struct pl_transport *t, int fd, off_t *offset,
                                size_t bytes) {
  struct pl_memory *m = memory_of(t);
  uint32_t room = memory_room(m);

  if (m->lost || m->shut)
    return -EPIPE;
  if (room == 0)
    return PL_TRANSPORT_AGAIN;
  if (bytes < room)
    room = (uint32_t)bytes;
  if (pl__buf_reserve(&m->out, room))
    return -ENOMEM;
  ssize_t n = pread(fd, m->out.at + m->out.bytes, room, *offset);
  if (n < 0)
    return -errno;
  m->out.bytes += (uint32_t)n;
  *offset += n;
  return n;
}

static void memory_watch(struct pl_transport *t, bool readable, bool writable) {
  struct pl_memory *m = memory_of(t);

  m->want_read = readable;
  m->want_write = writable;
}

static void memory_shut_down(struct pl_transport *t) {
  memory_of(t)->shut = true;
}

static void memory_close(struct pl_transport *t, bool reset) {
  struct pl_memory *m = memory_of(t);

  (void)reset;
  m->closed = true;
  m->want_read = m->want_write = false;
}

static const struct pl_transport_ops memory_ops = {
    .receive = memory_receive,
    .send = memory_send,
    .send_file = memory_send_file,
    .watch = memory_watch,
    .shut_down = memory_shut_down,
    .close = memory_close,
};

void pl__memory_open(struct pl_memory *m) {
  pl__buf_init(&m->in, NULL, PL_MEMORY_BYTES_MAX);
  pl__buf_init(&m->out, NULL, PL_MEMORY_BYTES_MAX);
  m->transport.ops = &memory_ops;
  m->want_read = true;
  m->want_write = m->eof = m->lost = m->stalled = false;
  m->shut = m->closed = m->told = false;
}

void pl__memory_deinit(struct pl_memory *m) {
  pl__buf_release(&m->in);
  pl__buf_release(&m->out);
}

int pl__memory_feed(struct pl_memory *m, const char *at, uint32_t n) {
  return pl__buf_append(&m->in, at, n);
}

bool pl__memory_turn(struct pl_memory *m) {
  if (m->told)
    return false;
  if (m->closed) {
    m->told = true;
    m->transport.events->on_closed(&m->transport);
    return true;
  }
  bool readable = m->want_read && (m->in.bytes > 0 || m->eof || m->lost);
  bool writable = m->want_write && (!m->stalled || m->lost);
  if (!readable && !writable)
    return false;
  m->transport.events->on_ready(&m->transport, readable, writable);
  return true;
}
