/* test/log/test_sink.c - files, pipes and sockets that resist. */
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#include "log/sink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[64], moved[80];
static char large[200000];

static int make_path(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  snprintf(path, sizeof path, "/tmp/perilune-sink-XXXXXX");
  int fd = mkstemp(path);
  if (fd < 0)
    return -1;
  close(fd);
  snprintf(moved, sizeof moved, "%s.1", path);
  for (size_t i = 0; i < sizeof large; i++)
    large[i] = (char)('a' + i % 26);
  return 0;
}

static int remove_path(void **state) {
  (void)state;
  unlink(path);
  unlink(moved);
  return 0;
}

static void assert_file(const char *name, const char *text) {
  char bytes[100] = {0};
  int fd = open(name, O_RDONLY);
  assert_true(fd >= 0);
  assert_true(read(fd, bytes, sizeof bytes - 1) >= 0);
  close(fd);
  assert_string_equal(bytes, text);
}

static void appends_to_a_file(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(pl__sink_open(&s, path), 0);
    assert_int_equal(pl__sink_write(&s, "line\n", 5, &taken), 0);
    assert_int_equal(taken, 5);
    assert_false(pl__sink_is_tty(&s));
    pl__sink_close(&s);
  }
  assert_file(path, "line\nline\n");
}

static void goes_on_in_a_new_file_after_it_was_moved(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  assert_int_equal(pl__sink_open(&s, path), 0);
  pl__sink_write(&s, "1", 1, &taken);
  assert_int_equal(rename(path, moved), 0);
  pl__sink_write(&s, "2", 1, &taken);
  assert_int_equal(pl__sink_reopen(&s), 0);
  pl__sink_write(&s, "3", 1, &taken);
  assert_file(moved, "12");
  assert_file(path, "3");
  pl__sink_close(&s);
}

static void keeps_the_old_file_when_the_new_one_cannot_be_had(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  assert_int_equal(pl__sink_open(&s, path), 0);
  assert_int_equal(rename(path, moved), 0);
  assert_int_equal(mkdir(path, 0700), 0);
  assert_int_equal(pl__sink_reopen(&s), -EISDIR);
  assert_int_equal(pl__sink_write(&s, "1", 1, &taken), 0);
  assert_file(moved, "1");
  pl__sink_close(&s);
  rmdir(path);
}

static void refuses_what_cannot_be_opened(void **state) {
  (void)state;
  struct pl_sink s;
  memset(large, 'x', PL_SINK_PATH_BYTES);
  large[PL_SINK_PATH_BYTES] = 0;
  assert_int_equal(pl__sink_open(&s, ""), PL_EINVAL);
  assert_int_equal(pl__sink_open(&s, large), PL_EINVAL);
  assert_int_equal(pl__sink_open(&s, "/nonexistent/log"), -ENOENT);
  assert_int_equal(pl__sink_open_fd(&s, -1), -EBADF);
  size_t taken;
  assert_int_equal(pl__sink_write(&s, "1", 1, &taken), -EBADF);
  pl__sink_close(&s);
}

static void a_full_disk_is_an_error_and_takes_nothing(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken = 9;
  assert_int_equal(pl__sink_open(&s, "/dev/full"), 0);
  assert_int_equal(pl__sink_write(&s, "line\n", 5, &taken), -ENOSPC);
  assert_int_equal(taken, 0);
  pl__sink_close(&s);
}

static void a_closed_pipe_is_an_error(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  int fds[2];
  assert_int_equal(pipe(fds), 0);
  assert_int_equal(pl__sink_open_fd(&s, fds[1]), 0);
  close(fds[0]);
  assert_int_equal(pl__sink_write(&s, "1", 1, &taken), -EPIPE);
  pl__sink_close(&s);
  assert_int_equal(close(fds[1]), 0); /* still the caller's */
}

/* Writes all of `large` while the other end reads a little at a time. */
static void write_slowly(struct pl_sink *s, int reader) {
  size_t written = 0, got = 0, taken;
  char bytes[7001];
  int refused = 0;
  while (got < sizeof large) {
    int status =
        pl__sink_write(s, large + written, sizeof large - written, &taken);
    assert_true(status == 0 || status == -EAGAIN);
    refused += status != 0;
    written += taken;
    ssize_t n = read(reader, bytes, sizeof bytes);
    assert_true(n > 0);
    assert_memory_equal(bytes, large + got, (size_t)n);
    got += (size_t)n;
  }
  assert_int_equal(written, sizeof large);
  assert_true(refused > 5);
}

static void a_slow_pipe_gets_every_byte_and_never_blocks(void **state) {
  (void)state;
  struct pl_sink s;
  int fds[2];
  assert_int_equal(pipe(fds), 0);
  fcntl(fds[1], F_SETPIPE_SZ, 8192);
  assert_int_equal(pl__sink_open_fd(&s, fds[1]), 0);
  assert_int_equal(s.kind, PL_SINK_NOBLOCK);
  write_slowly(&s, fds[0]);
  /* the pipe of those who started us is as it was */
  assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
  pl__sink_close(&s);
  close(fds[0]);
  close(fds[1]);
}

static void a_pipe_that_cannot_be_opened_anew_is_polled(void **state) {
  (void)state;
  struct pl_sink s;
  int fds[2];
  assert_int_equal(pipe(fds), 0);
  fcntl(fds[1], F_SETPIPE_SZ, 8192);
  /* as it is where /proc is not there */
  s = (struct pl_sink){.fd = fds[1], .kind = PL_SINK_POLLED};
  write_slowly(&s, fds[0]);
  pl__sink_close(&s);
  close(fds[0]);
  close(fds[1]);
}

static void a_slow_socket_gets_every_byte_and_never_blocks(void **state) {
  (void)state;
  struct pl_sink s;
  int fds[2], bytes = 4096;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  assert_int_equal(pl__sink_open_fd(&s, fds[1]), 0);
  write_slowly(&s, fds[0]);
  close(fds[0]);
  size_t taken;
  assert_int_equal(pl__sink_write(&s, "1", 1, &taken), -EPIPE);
  pl__sink_close(&s);
  close(fds[1]);
}

/* --- rotation -------------------------------------------------------------- */

static void remove_old_ones(void) {
  char name[80];
  for (int i = 1; i < 6; i++) {
    snprintf(name, sizeof name, "%s.%d", path, i);
    unlink(name);
  }
}

static void assert_old(int number, const char *contents) {
  char name[80];
  snprintf(name, sizeof name, "%s.%d", path, number);
  if (contents)
    assert_file(name, contents);
  else
    assert_int_equal(access(name, F_OK), -1);
}

static void rotate_and_write(struct pl_sink *s, const char *text) {
  size_t taken;
  assert_int_equal(pl__sink_rotate(s, 3), 0);
  assert_int_equal(pl__sink_write(s, text, strlen(text), &taken), 0);
}

static void rotation_keeps_the_newest_ones_in_order(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  struct stat st;
  assert_int_equal(pl__sink_open(&s, path), 0);
  assert_int_equal(fchmod(s.fd, 0604), 0);
  pl__sink_write(&s, "1", 1, &taken);
  assert_int_equal(pl__sink_bytes(&s), 1);
  rotate_and_write(&s, "2");
  rotate_and_write(&s, "3");
  assert_old(1, "2");
  assert_old(2, "1");
  assert_old(3, NULL);
  rotate_and_write(&s, "4");
  rotate_and_write(&s, "5");
  assert_file(path, "5");
  assert_old(1, "4");
  assert_old(2, "3");
  assert_old(3, "2");
  assert_old(4, NULL);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0604);
  pl__sink_close(&s);
  remove_old_ones();
}

/* Which leaves a gap. */
static void rotation_goes_on_where_it_was_killed(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  char third[80];
  assert_int_equal(pl__sink_open(&s, path), 0);
  pl__sink_write(&s, "1", 1, &taken);
  rotate_and_write(&s, "2");
  snprintf(third, sizeof third, "%s.2", path);
  assert_int_equal(rename(moved, third), 0); /* and then it was killed */
  rotate_and_write(&s, "3");
  assert_old(1, "2");
  assert_old(2, "1");
  assert_old(3, NULL);
  pl__sink_close(&s);
  remove_old_ones();
}

static void rotation_leaves_alone_what_somebody_else_has_moved(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  int fd;
  assert_int_equal(pl__sink_open(&s, path), 0);
  pl__sink_write(&s, "1", 1, &taken);
  assert_int_equal(rename(path, moved), 0);
  fd = open(path, O_WRONLY | O_CREAT, 0600);
  assert_int_equal(write(fd, "theirs", 6), 6);
  close(fd);
  rotate_and_write(&s, "2");
  assert_file(path, "theirs2");
  assert_old(1, "1");
  assert_old(2, NULL);
  pl__sink_close(&s);
  remove_old_ones();
}

static void a_file_that_cannot_be_rotated_goes_on(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  char inner[100];
  assert_int_equal(mkdir(moved, 0700), 0); /* nothing is renamed over that */
  snprintf(inner, sizeof inner, "%s/x", moved);
  close(open(inner, O_WRONLY | O_CREAT, 0600));
  assert_int_equal(pl__sink_open(&s, path), 0);
  assert_int_equal(pl__sink_rotate(&s, 1), -EISDIR);
  assert_int_equal(pl__sink_write(&s, "1", 1, &taken), 0);
  assert_file(path, "1");
  pl__sink_close(&s);
  unlink(inner);
  rmdir(moved);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_path, remove_path)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(appends_to_a_file),
      FACT(goes_on_in_a_new_file_after_it_was_moved),
      FACT(keeps_the_old_file_when_the_new_one_cannot_be_had),
      FACT(refuses_what_cannot_be_opened),
      FACT(a_full_disk_is_an_error_and_takes_nothing),
      FACT(a_closed_pipe_is_an_error),
      FACT(a_slow_pipe_gets_every_byte_and_never_blocks),
      FACT(a_pipe_that_cannot_be_opened_anew_is_polled),
      FACT(a_slow_socket_gets_every_byte_and_never_blocks),
      FACT(rotation_keeps_the_newest_ones_in_order),
      FACT(rotation_goes_on_where_it_was_killed),
      FACT(rotation_leaves_alone_what_somebody_else_has_moved),
      FACT(a_file_that_cannot_be_rotated_goes_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
