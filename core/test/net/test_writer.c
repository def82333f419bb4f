/* test/net/test_writer.c - bytes leave in order, however few the peer takes. */
#include "net/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Takes `share` bytes a call, and nothing in every call after one that took
 * some. */
struct drip {
  struct pl_transport transport;
  size_t share;
  bool rest; /* take nothing next time */
  int fails; /* this code, when not 0 */
  int calls;
  size_t bytes;
  char text[4096];
};

static struct drip *drip_of(struct pl_transport *t) { return (struct drip *)t; }

static bool refuses(struct drip *d) {
  d->calls++;
  d->rest = !d->rest;
  return !d->rest;
}

static ssize_t drip_send(struct pl_transport *t, const struct iovec *pieces,
                         int piece_count) {
  struct drip *d = drip_of(t);
  size_t room = d->share, sent = 0;

  if (d->fails)
    return d->fails;
  if (refuses(d))
    return PL_TRANSPORT_AGAIN;
  for (int i = 0; i < piece_count && room; i++) {
    size_t n = pieces[i].iov_len < room ? pieces[i].iov_len : room;
    assert_true(d->bytes + n <= sizeof d->text);
    memcpy(d->text + d->bytes, pieces[i].iov_base, n);
    d->bytes += n;
    room -= n;
    sent += n;
  }
  return (ssize_t)sent;
}

static ssize_t drip_send_file(struct pl_transport *t, int fd, off_t *offset,
                              size_t bytes) {
  struct drip *d = drip_of(t);
  size_t n = bytes < d->share ? bytes : d->share;

  if (d->fails)
    return d->fails;
  if (refuses(d))
    return PL_TRANSPORT_AGAIN;
  ssize_t got = pread(fd, d->text + d->bytes, n, *offset);
  assert_true(got >= 0);
  d->bytes += (size_t)got;
  *offset += got;
  return got;
}

static const struct pl_transport_ops drip_ops = {
    .send = drip_send,
    .send_file = drip_send_file,
};

static struct drip drip(size_t share) {
  return (struct drip){.transport = {.ops = &drip_ops}, .share = share};
}

/* Flushes until done; gives how often that took. */
static int flush_all(struct pl_writer *w, struct drip *d) {
  for (int i = 1; i < 10000; i++) {
    bool moved;
    size_t before = d->bytes;
    enum pl_write_outcome outcome = pl__writer_flush(w, &d->transport, &moved);
    assert_int_equal(moved, d->bytes > before);
    if (outcome == PL_WRITE_DONE)
      return i;
    assert_int_equal(outcome, PL_WRITE_PENDING);
    assert_false(pl__writer_is_empty(w));
  }
  fail_msg("it never ends");
  return 0;
}

static void sends_output_pin_and_tail_in_order_at_any_pace(void **state) {
  char pin[300], expected[400];

  (void)state;
  memset(pin, 'p', sizeof pin);
  memcpy(expected, "head", 4);
  memcpy(expected + 4, pin, 300);
  memcpy(expected + 304, "\r\n", 3);
  for (size_t share = 1; share < 320; share++) {
    struct drip d = drip(share);
    struct pl_writer w;
    pl__writer_init(&w, NULL, 1000);
    pl__buf_append(&w.out, "head", 4);
    pl__writer_pin(&w, pin, sizeof pin, "\r\n", 2);
    assert_int_equal(pl__writer_waiting(&w), 306);
    flush_all(&w, &d);
    assert_true(pl__writer_is_empty(&w));
    assert_false(pl__writer_is_pinned(&w));
    assert_int_equal(d.bytes, 306);
    assert_memory_equal(d.text, expected, 306);
    pl__writer_release(&w);
  }
}

static void sends_all_in_one_call_when_the_peer_takes_it(void **state) {
  struct drip d = drip(1000);
  struct pl_writer w;
  bool moved;

  (void)state;
  pl__writer_init(&w, NULL, 1000);
  pl__buf_append(&w.out, "head", 4);
  pl__writer_pin(&w, "body", 4, "tail", 4);
  assert_int_equal(pl__writer_flush(&w, &d.transport, &moved), PL_WRITE_DONE);
  assert_int_equal(d.calls, 1);
  assert_memory_equal(d.text, "headbodytail", 12);
  pl__writer_release(&w);
}

static void makes_no_call_for_nothing(void **state) {
  struct drip d = drip(1000);
  struct pl_writer w;
  bool moved;

  (void)state;
  pl__writer_init(&w, NULL, 1000);
  assert_int_equal(pl__writer_flush(&w, &d.transport, &moved), PL_WRITE_DONE);
  assert_int_equal(d.calls, 0);
  assert_false(moved);
}

static int file_with(const char *text) {
  char name[] = "/tmp/perilune-writer-XXXXXX";
  int fd = mkstemp(name);

  assert_true(fd >= 0);
  unlink(name);
  assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
  return fd;
}

static void sends_a_part_of_a_file_behind_the_output(void **state) {
  (void)state;
  for (size_t share = 1; share < 12; share++) {
    struct drip d = drip(share);
    struct pl_writer w;
    int fd = file_with("0123456789");
    pl__writer_init(&w, NULL, 1000);
    pl__buf_append(&w.out, "head", 4);
    pl__writer_file(&w, fd, 2, 7);
    assert_true(pl__writer_is_pinned(&w));
    flush_all(&w, &d);
    assert_int_equal(d.bytes, 11);
    assert_memory_equal(d.text, "head2345678", 11);
    assert_false(pl__writer_is_pinned(&w));
    assert_int_equal(lseek(fd, 0, SEEK_CUR), -1); /* closed */
    pl__writer_release(&w);
  }
}

static void calls_a_file_that_ends_early_a_loss(void **state) {
  struct drip d = drip(100);
  struct pl_writer w;
  bool moved;

  (void)state;
  pl__writer_init(&w, NULL, 1000);
  pl__writer_file(&w, file_with("01234"), 0, 7);
  assert_int_equal(pl__writer_flush(&w, &d.transport, &moved),
                   PL_WRITE_PENDING);
  d.rest = false;
  assert_int_equal(pl__writer_flush(&w, &d.transport, &moved), PL_WRITE_LOST);
  pl__writer_release(&w);
  assert_int_equal(w.file, -1);
}

static void tells_a_loss_and_drops_everything_at_release(void **state) {
  struct drip d = drip(100);
  struct pl_writer w;
  int fd = file_with("01234");
  bool moved;

  (void)state;
  d.fails = -EPIPE;
  pl__writer_init(&w, NULL, 1000);
  pl__buf_append(&w.out, "head", 4);
  pl__writer_file(&w, fd, 0, 5);
  assert_int_equal(pl__writer_flush(&w, &d.transport, &moved), PL_WRITE_LOST);
  assert_false(moved);
  pl__writer_release(&w);
  assert_true(pl__writer_is_empty(&w));
  assert_int_equal(lseek(fd, 0, SEEK_CUR), -1);
}

/* More may be appended between partial sends; what was sent is moved out. */
static void keeps_its_order_while_output_is_added(void **state) {
  static char sink[300000];
  struct pl_writer w;
  size_t taken = 0, fed = 0;
  struct drip d;

  (void)state;
  pl__writer_init(&w, NULL, 400000);
  while (fed < 290000) {
    char piece[1000];
    for (size_t i = 0; i < sizeof piece; i++)
      piece[i] = (char)('a' + (fed + i) % 23);
    assert_int_equal(pl__buf_append(&w.out, piece, sizeof piece), 0);
    fed += sizeof piece;
    d = drip(700);
    bool moved;
    pl__writer_flush(&w, &d.transport, &moved);
    memcpy(sink + taken, d.text, d.bytes);
    taken += d.bytes;
    assert_int_equal(pl__writer_waiting(&w), fed - taken);
  }
  assert_true(w.out_sent < 65536);
  for (size_t i = 0; i < taken; i++)
    assert_int_equal(sink[i], 'a' + (int)(i % 23));
  pl__writer_release(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sends_output_pin_and_tail_in_order_at_any_pace),
      cmocka_unit_test(sends_all_in_one_call_when_the_peer_takes_it),
      cmocka_unit_test(makes_no_call_for_nothing),
      cmocka_unit_test(sends_a_part_of_a_file_behind_the_output),
      cmocka_unit_test(calls_a_file_that_ends_early_a_loss),
      cmocka_unit_test(tells_a_loss_and_drops_everything_at_release),
      cmocka_unit_test(keeps_its_order_while_output_is_added),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
