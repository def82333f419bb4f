/* test/net/h2_client.h - an HTTP/2 client for tests.
 *
 * A client session of nghttp2 whose bytes go to a pl_h2 and back, in pieces if
 * wanted, or to a socket that does not block.  What comes is kept per stream: fields as "name: value\n", the body,
 * how it ended.  Time is the test's.
 */
#ifndef PL_TEST_NET_H2_CLIENT_H
#define PL_TEST_NET_H2_CLIENT_H

#include "net/h2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define H2_CLIENT_ANSWERS 256u /* by the order of requests */

struct h2_answer {
  int32_t id;
  char fields[1024]; /* trailers too, behind a line "--" */
  char body[16384];
  uint32_t body_bytes;
  bool closed;
  uint32_t code; /* of the reset that closed it; 0: none */
};

/* A body being sent; what `bytes` lacks of `total` is zeros. */
struct h2_upload {
  const char *at;
  uint32_t bytes;
  uint32_t total;
  uint32_t sent;
  bool open; /* never ends the stream */
};

struct h2_client {
  nghttp2_session *session;
  struct pl_h2 *server; /* NULL: there is a socket */
  int fd;
  bool is_closed; /* the socket, by the other side */
  struct h2_answer answers[H2_CLIENT_ANSWERS];
  struct h2_upload uploads[H2_CLIENT_ANSWERS];
  uint32_t count;
  uint32_t piece; /* bytes fed at once; 0: all */
  int64_t now_ms;
  int status; /* of the last pl__h2_feed */
  bool told_goaway;
  uint32_t goaway_code;
};

static inline struct h2_answer *h2_client_answer(struct h2_client *c,
                                                 int32_t id) {
  for (uint32_t i = 0; i < c->count; i++)
    if (c->answers[i].id == id)
      return &c->answers[i];
  return NULL;
}

static inline int h2_client_on_header(nghttp2_session *session,
                                      const nghttp2_frame *frame,
                                      const uint8_t *name, size_t name_bytes,
                                      const uint8_t *value, size_t value_bytes,
                                      uint8_t flags, void *arg) {
  struct h2_answer *a = h2_client_answer(arg, frame->hd.stream_id);
  size_t used = strlen(a->fields);

  (void)session, (void)flags;
  snprintf(a->fields + used, sizeof a->fields - used, "%.*s: %.*s\n",
           (int)name_bytes, (const char *)name, (int)value_bytes,
           (const char *)value);
  return 0;
}

static inline int h2_client_on_begin(nghttp2_session *session,
                                     const nghttp2_frame *frame, void *arg) {
  struct h2_answer *a = h2_client_answer(arg, frame->hd.stream_id);
  size_t used = strlen(a->fields);

  (void)session;
  if (used)
    snprintf(a->fields + used, sizeof a->fields - used, "--\n");
  return 0;
}

static inline int h2_client_on_data(nghttp2_session *session, uint8_t flags,
                                    int32_t id, const uint8_t *at, size_t bytes,
                                    void *arg) {
  struct h2_answer *a = h2_client_answer(arg, id);

  (void)session, (void)flags;
  assert_true(bytes <= sizeof a->body - a->body_bytes);
  memcpy(a->body + a->body_bytes, at, bytes);
  a->body_bytes += (uint32_t)bytes;
  return 0;
}

static inline int h2_client_on_frame(nghttp2_session *session,
                                     const nghttp2_frame *frame, void *arg) {
  struct h2_client *c = arg;

  (void)session;
  if (frame->hd.type == NGHTTP2_GOAWAY) {
    c->told_goaway = true;
    c->goaway_code = frame->goaway.error_code;
  }
  return 0;
}

static inline int h2_client_on_close(nghttp2_session *session, int32_t id,
                                     uint32_t code, void *arg) {
  struct h2_answer *a = h2_client_answer(arg, id);

  (void)session;
  a->closed = true;
  a->code = code;
  return 0;
}

static inline ssize_t h2_client_read(nghttp2_session *session, int32_t id,
                                     uint8_t *to, size_t bytes_max,
                                     uint32_t *flags,
                                     nghttp2_data_source *source, void *arg) {
  struct h2_upload *u = source->ptr;
  uint32_t left = u->total - u->sent, n = 0;

  (void)session, (void)id, (void)arg;
  for (; n < left && n < bytes_max; n++)
    to[n] = u->sent + n < u->bytes ? (uint8_t)u->at[u->sent + n] : 0;
  u->sent += n;
  if (u->sent == u->total && !u->open)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  else if (!n)
    return NGHTTP2_ERR_DEFERRED;
  return (ssize_t)n;
}

/* server: NULL if the caller sets `fd`. */
static inline void h2_client_open(struct h2_client *c, struct pl_h2 *server) {
  nghttp2_session_callbacks *callbacks;

  memset(c, 0, sizeof *c);
  c->server = server;
  c->now_ms = 1000;
  assert_int_equal(0, nghttp2_session_callbacks_new(&callbacks));
  nghttp2_session_callbacks_set_on_header_callback(callbacks,
                                                   h2_client_on_header);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks,
                                                          h2_client_on_begin);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                            h2_client_on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                         h2_client_on_close);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks,
                                                       h2_client_on_frame);
  assert_int_equal(0, nghttp2_session_client_new(&c->session, callbacks, c));
  nghttp2_session_callbacks_del(callbacks);
  assert_int_equal(0, nghttp2_submit_settings(c->session, 0, NULL, 0));
}

static inline void h2_client_close(struct h2_client *c) {
  nghttp2_session_del(c->session);
}

/* Feeds bytes to the server, in pieces. */
static inline void h2_client_feed(struct h2_client *c, const void *at,
                                  size_t bytes) {
  const char *from = at;

  while (bytes && !c->status) {
    size_t n = c->piece && c->piece < bytes ? c->piece : bytes;
    c->status = pl__h2_feed(c->server, pl__slice(from, n), c->now_ms);
    from += n;
    bytes -= n;
  }
}

/* What has come by the socket. */
static inline bool h2_client_receive(struct h2_client *c) {
  uint8_t room[16384];
  ssize_t n = recv(c->fd, room, sizeof room, 0);

  if (n > 0)
    assert_int_equal(n, nghttp2_session_mem_recv(c->session, room, (size_t)n));
  else if (n == 0 || errno != EAGAIN)
    c->is_closed = true;
  return n > 0;
}

/* What the server has to say, a frame.  GOAWAY is read here, as a client that
 * has been made to break the rules may have given up by itself. */
static inline bool h2_client_hear(struct h2_client *c) {
  struct pl_slice s;

  if (!c->server)
    return h2_client_receive(c);
  s = pl__h2_take(c->server);
  if (!s.bytes)
    return false;
  if (s.bytes >= 17 && s.at[3] == NGHTTP2_GOAWAY) {
    c->told_goaway = true;
    c->goaway_code = (uint8_t)s.at[16];
  }
  assert_int_equal(s.bytes, nghttp2_session_mem_recv(
                                c->session, (const uint8_t *)s.at, s.bytes));
  return true;
}

/* What the client has to say. */
static inline bool h2_client_say(struct h2_client *c) {
  const uint8_t *at;
  ssize_t n = nghttp2_session_mem_send(c->session, &at);

  assert_true(n >= 0);
  if (c->server)
    h2_client_feed(c, at, (size_t)n);
  else if (n)
    send(c->fd, at, (size_t)n, MSG_NOSIGNAL); /* small: it fits */
  return n > 0;
}

/* Until nobody has anything to say. */
static inline void h2_client_pump(struct h2_client *c) {
  bool moved = true;

  while (moved) {
    moved = false;
    while (h2_client_say(c))
      moved = true;
    while (h2_client_hear(c))
      moved = true;
  }
}

/* Submits a request with these fields ("name", "value", ..., NULL) behind
 * `:path`, and a body of u.total bytes. Returns its index in answers. */
static inline uint32_t h2_client_submit(struct h2_client *c, const char *path,
                                        const char *const *fields,
                                        struct h2_upload u) {
  uint32_t i = c->count++;
  nghttp2_nv nvs[32];
  size_t n = 0;
  nghttp2_data_provider provider = {.source.ptr = &c->uploads[i],
                                    .read_callback = h2_client_read};

  assert_true(i < H2_CLIENT_ANSWERS);
  c->uploads[i] = u;
  const char *const head[] = {":method", "POST",       ":scheme",
                              "http",    ":authority", "test",
                              ":path",   path,         NULL};
  for (const char *const *from = head; *from; from += 2, n++)
    nvs[n] = (nghttp2_nv){(uint8_t *)(uintptr_t)from[0],
                          (uint8_t *)(uintptr_t)from[1], strlen(from[0]),
                          strlen(from[1]), 0};
  for (const char *const *from = fields; *from; from += 2) {
    nghttp2_nv nv = {(uint8_t *)(uintptr_t)from[0],
                     (uint8_t *)(uintptr_t)from[1], strlen(from[0]),
                     strlen(from[1]), 0};
    if (from[0][0] == ':')
      nvs[0] = nv; /* another method */
    else
      nvs[n++] = nv;
  }
  int32_t id = nghttp2_submit_request(c->session, NULL, nvs, n,
                                      u.total || u.open ? &provider : NULL, c);
  assert_true(id > 0);
  c->answers[i].id = id;
  return i;
}

#endif /* PL_TEST_NET_H2_CLIENT_H */
