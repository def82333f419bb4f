/* test/log/test_drain.c - merging, failing outputs, sudden death. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, F_SETPIPE_SZ, pipe2 */
#include "log/drain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RING_COUNT 3
#define RING_BYTES 131072u

static struct pl_ring *rings[RING_COUNT];
static struct pl_ring_writer writers[RING_COUNT];
static struct pl_ledger *ledger;
static int transit[2];
static struct pl_sink sink;
static struct pl_drain drain;
static char path[64], moved[80];
static char text[8 << 20]; /* what was written out */

/* A drain that begins where the one before it was. */
static void begin_drain(void) {
  pl__drain_init(&drain, &sink, ledger, transit, PL_LOG_JSON, false,
                 PL_LEVEL_DEBUG, NULL);
  for (uint16_t i = 0; i < RING_COUNT; i++)
    assert_int_equal(pl__drain_add(&drain, rings[i], i), 0);
  pl__drain_resume(&drain);
}

static void open_drain(void) {
  assert_int_equal(pl__sink_open(&sink, path), 0);
  begin_drain();
}

static void open_drain_on(int fd) {
  assert_int_equal(pl__sink_open_fd(&sink, fd), 0);
  begin_drain();
}

static void close_drain(void) {
  pl__drain_deinit(&drain);
  pl__sink_close(&sink);
}

static int make_all(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  snprintf(path, sizeof path, "/tmp/perilune-drain-XXXXXX");
  int fd = mkstemp(path);
  close(fd);
  snprintf(moved, sizeof moved, "%s.1", path);
  ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (ledger == MAP_FAILED || pipe2(transit, O_NONBLOCK | O_CLOEXEC))
    return -1;
  for (int i = 0; i < RING_COUNT; i++) {
    rings[i] = mmap(NULL, pl__ring_section_bytes(RING_BYTES),
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (rings[i] == MAP_FAILED)
      return -1;
    pl__ring_init(rings[i], RING_BYTES);
    pl__ring_writer_init(&writers[i], rings[i], -1);
  }
  open_drain();
  return 0;
}

static int free_all(void **state) {
  (void)state;
  close_drain();
  for (int i = 0; i < RING_COUNT; i++)
    munmap(rings[i], pl__ring_section_bytes(RING_BYTES));
  munmap(ledger, sizeof *ledger);
  close(transit[0]);
  close(transit[1]);
  unlink(path);
  unlink(moved);
  return 0;
}

/* Another sink in the place of the file. */
static void use_fd(int fd) {
  pl__sink_close(&sink);
  assert_int_equal(pl__sink_open_fd(&sink, fd), 0);
}

static const char *contents(const char *name) {
  int fd = open(name, O_RDONLY);
  assert_true(fd >= 0);
  ssize_t n = 0, got;
  while ((got = read(fd, text + n, sizeof text - 1 - (size_t)n)) > 0)
    n += got;
  close(fd);
  text[n] = 0;
  return text;
}

static unsigned count_of(const char *haystack, const char *needle) {
  unsigned count = 0;
  while ((haystack = strstr(haystack, needle))) {
    haystack += strlen(needle);
    count++;
  }
  return count;
}

/* A record whose message is "nNUMBER."; false when it was dropped. */
static bool say(int ring, uint64_t number, int64_t time_ns,
                enum pl_level level) {
  char message[32];
  struct pl_record head = {.level = (uint8_t)level,
                           .worker = (uint16_t)ring,
                           .route = PL_RECORD_NO_ROUTE,
                           .time_ns = time_ns};
  int n =
      snprintf(message, sizeof message, "n%llu.", (unsigned long long)number);
  return pl__record_text(&writers[ring], &head,
                         pl__slice(message, (size_t)n)) == 0;
}

static uint32_t run(enum pl_drain_outcome expected) {
  enum pl_drain_outcome outcome;
  uint32_t count = pl__drain_run(&drain, &outcome);
  assert_int_equal(outcome, expected);
  return count;
}

static void empty_rings_leave_nothing_to_do(void **state) {
  (void)state;
  uint64_t before = pl__alloc_count();
  assert_int_equal(run(PL_DRAIN_IDLE), 0);
  assert_int_equal(pl__alloc_count(), before);
  assert_string_equal(contents(path), "");
}

static void merges_the_rings_by_time(void **state) {
  (void)state;
  say(0, 1, 100, PL_LEVEL_INFO);
  say(0, 4, 400, PL_LEVEL_INFO);
  say(0, 5, 500, PL_LEVEL_INFO);
  say(1, 2, 200, PL_LEVEL_INFO);
  say(1, 6, 600, PL_LEVEL_INFO);
  say(2, 3, 300, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_IDLE), 6);
  const char *at = contents(path);
  for (int i = 1; i <= 6; i++) {
    char message[16];
    snprintf(message, sizeof message, "n%d.", i);
    at = strstr(at, message);
    assert_non_null(at);
  }
  assert_int_equal(count_of(text, "\n"), 6);
  assert_int_equal(drain.line_count, 6);
  for (int i = 0; i < RING_COUNT; i++)
    assert_int_equal(pl__ring_fill(rings[i]), 0);
}

static void the_last_ring_may_have_the_oldest_record(void **state) {
  (void)state;
  say(0, 2, 200, PL_LEVEL_INFO);
  say(2, 1, 100, PL_LEVEL_INFO);
  say(2, 3, 300, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_IDLE), 3);
  const char *second = strstr(contents(path), "n2.");
  assert_non_null(second);
  assert_true(strstr(text, "n1.") < second);
  assert_non_null(strstr(second, "n3."));
}

static void records_below_the_level_are_passed_over(void **state) {
  (void)state;
  drain.level = PL_LEVEL_WARN;
  say(0, 1, 1, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_IDLE), 1);
  say(0, 2, 2, PL_LEVEL_DEBUG);
  say(0, 3, 3, PL_LEVEL_WARN);
  assert_int_equal(run(PL_DRAIN_IDLE), 2);
  contents(path);
  assert_int_equal(count_of(text, "\n"), 1);
  assert_non_null(strstr(text, "n3."));
  assert_int_equal(pl__ring_fill(rings[0]), 0);
}

static void writes_batch_after_batch_until_all_is_out(void **state) {
  (void)state;
  unsigned count = 0, runs = 0;
  enum pl_drain_outcome outcome;
  while (say(0, count, count + 1, PL_LEVEL_ERROR))
    count++;
  do {
    pl__drain_run(&drain, &outcome);
    runs++;
  } while (outcome == PL_DRAIN_MORE);
  assert_int_equal(outcome, PL_DRAIN_IDLE);
  assert_true(runs > 1);
  contents(path);
  assert_int_equal(count_of(text, "\"msg\":\"n"), count);
}

static void drops_are_told_once_with_their_counts(void **state) {
  (void)state;
  while (say(1, 1, 1, PL_LEVEL_DEBUG))
    ;
  say(1, 1, 1, PL_LEVEL_DEBUG);
  for (int i = 0; i < 5; i++)
    pl__ring_drop(&writers[1], PL_LEVEL_INFO);
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_int_equal(count_of(text, "log records dropped"), 1);
  assert_non_null(strstr(text, "\"worker\":1,\"debug\":2,\"info\":5}"));
  close_drain();
  open_drain(); /* another process takes over */
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_int_equal(count_of(text, "log records dropped"), 1);
}

static void a_drain_that_dies_with_a_batch_leaves_it_to_the_next(void **state) {
  (void)state;
  int full = open("/dev/full", O_WRONLY);
  use_fd(full);
  say(0, 1, 1, PL_LEVEL_INFO);
  pl__ring_drop(&writers[0], PL_LEVEL_WARN);
  assert_int_equal(run(PL_DRAIN_BLOCKED), 1);
  close_drain();
  close(full);
  open_drain();
  assert_int_equal(run(PL_DRAIN_MORE), 0);
  assert_int_equal(run(PL_DRAIN_IDLE), 0);
  contents(path);
  assert_int_equal(count_of(text, "n1."), 1);
  assert_int_equal(count_of(text, "\"warn\":1}"), 1);
}

/* One that takes a page, and the drain that fills it. */
static void begin_a_line(int fds[2]) {
  assert_int_equal(pipe(fds), 0);
  fcntl(fds[1], F_SETPIPE_SZ, 4096);
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  use_fd(fds[1]);
  for (uint64_t i = 0; i < 100; i++)
    say(0, i, (int64_t)i, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_BLOCKED), 100);
}

/* Takes all that comes until the drain has nothing left; text is the whole. */
static void read_until_idle(int fd, ssize_t n) {
  enum pl_drain_outcome outcome;
  do {
    pl__drain_run(&drain, &outcome);
    ssize_t more = read(fd, text + n, sizeof text - 1 - (size_t)n);
    n += more > 0 ? more : 0;
  } while (outcome != PL_DRAIN_IDLE);
  ssize_t rest = read(fd, text + n, sizeof text - 1 - (size_t)n);
  text[n + (rest > 0 ? rest : 0)] = 0;
}

/* Each of the numbers stands there once, on a line of its own. */
static void assert_once(uint64_t count) {
  unsigned lines = 0;
  static unsigned char seen[40 * 400];
  memset(seen, 0, sizeof seen);
  for (char *at = text, *end; *at; at = end + 1) {
    end = strchr(at, '\n');
    assert_non_null(end);
    *end = 0;
    assert_memory_equal(at, "{\"time\":", 8);
    assert_int_equal(end[-1], '}');
    char *message = strstr(at, "\"msg\":\"n");
    if (!message) /* one about records that found no room, and came later */
      continue;
    unsigned long long n = strtoull(message + 8, NULL, 10);
    assert_true(n < count);
    seen[n]++;
    lines++;
  }
  assert_int_equal(lines, count);
  for (uint64_t i = 0; i < count; i++)
    assert_int_equal(seen[i], 1);
}

static void
a_line_cut_by_death_is_gone_on_with_by_the_next_drain(void **state) {
  (void)state;
  int fds[2];
  begin_a_line(fds);
  ssize_t n = read(fds[0], text, sizeof text);
  assert_true(n > 0 && text[n - 1] != '\n');
  close_drain();
  open_drain_on(fds[1]);
  read_until_idle(fds[0], n);
  assert_once(100);
  close(fds[0]);
  close(fds[1]);
}

static void no_line_is_ended_that_was_not_begun(void **state) {
  (void)state;
  say(0, 1, 1, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_IDLE), 1);
  close_drain();
  open_drain();
  say(0, 2, 2, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_IDLE), 1);
  contents(path);
  assert_int_equal(text[0], '{');
  assert_null(strstr(text, "\n\n"));
}

/* Ten lines, of which some bytes are in the file and the ledger still says that
 * they are on their way: as a kill within the write leaves it. */
static void be_killed_within_a_write(void) {
  struct rlimit room, old;
  struct stat st;
  struct pl_ledger_note note;
  assert_int_equal(fstat(sink.fd, &st), 0);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  room = old;
  room.rlim_cur = (rlim_t)st.st_size + 500;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &room), 0);
  for (uint64_t i = 0; i < 10; i++)
    say(0, i, (int64_t)i, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_BLOCKED), 10);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  assert_int_equal(drain.failing, -EFBIG);
  note = pl__ledger_note(ledger);
  assert_int_equal(note.from, 500);
  note.phase = PL_LEDGER_FILE;
  note.from = 0;
  note.size = (uint64_t)st.st_size;
  note.device = (uint64_t)st.st_dev;
  note.inode = (uint64_t)st.st_ino;
  pl__ledger_put(ledger, &note);
  close_drain();
}

static void append(const char *name, const char *line) {
  int fd = open(name, O_WRONLY | O_APPEND);
  assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
  close(fd);
}

static void a_write_cut_by_death_is_found_in_the_file(void **state) {
  (void)state;
  append(path, "{\"time\":\"of another\"}\n");
  be_killed_within_a_write();
  open_drain();
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_once(10);
}

/* Two logs in one file: theirs came first, then ours. */
static void it_is_found_behind_what_others_have_appended(void **state) {
  (void)state;
  struct pl_ledger_note note;
  append(path, "{\"time\":\"of another\"}\n");
  be_killed_within_a_write();
  note = pl__ledger_note(ledger);
  note.size = 0;
  pl__ledger_put(ledger, &note);
  open_drain();
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_once(10);
}

static void it_is_found_in_a_file_that_was_moved(void **state) {
  (void)state;
  be_killed_within_a_write();
  assert_int_equal(rename(path, moved), 0);
  open_drain();
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  /* the line that was cut is whole in the new file */
  contents(moved);
  char *end = strrchr(text, '\n');
  assert_non_null(end);
  size_t whole = (size_t)(end + 1 - text);
  static char first[1024];
  memcpy(first, text, whole);
  first[whole] = 0;
  contents(path);
  memmove(text + whole, text, strlen(text) + 1);
  memcpy(text, first, whole);
  assert_once(10);
}

static void it_is_begun_again_when_the_file_was_cut(void **state) {
  (void)state;
  be_killed_within_a_write();
  assert_int_equal(truncate(path, 0), 0);
  open_drain();
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_once(10);
}

static void a_ledger_without_sense_is_begun_anew(void **state) {
  (void)state;
  be_killed_within_a_write();
  struct pl_ledger_note note = pl__ledger_note(ledger);
  note.batch = sizeof ledger->data + 1;
  pl__ledger_put(ledger, &note);
  assert_int_equal(truncate(path, 0), 0);
  open_drain();
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_once(10);
}

/* A file that is appended to is what splice refuses. */
static void what_splice_refuses_is_written_to_directly(void **state) {
  (void)state;
  sink.medium = PL_MEDIUM_PIPE;
  for (uint64_t i = 0; i < 10; i++)
    say(0, i, (int64_t)i, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_IDLE), 10);
  contents(path);
  assert_once(10);
}

static void syslog_messages_go_on_being_numbered(void **state) {
  (void)state;
  struct pl_syslog syslog;
  for (uint64_t i = 0; i < 2; i++) {
    close_drain();
    assert_int_equal(pl__sink_open(&sink, path), 0);
    pl__drain_init(&drain, &sink, ledger, transit, PL_LOG_JSON, false,
                   PL_LEVEL_DEBUG, NULL);
    pl__syslog_init(&syslog, 3, "x", 1);
    drain.syslog = &syslog;
    for (uint16_t r = 0; r < RING_COUNT; r++)
      assert_int_equal(pl__drain_add(&drain, rings[r], r), 0);
    pl__drain_resume(&drain);
    say(0, i, 1, PL_LEVEL_INFO);
    assert_int_equal(run(PL_DRAIN_IDLE), 1);
  }
  int fd = open(path, O_RDONLY);
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  assert_true(n > 0 && text[n - 1] == 0);
  assert_non_null(strstr(text, "sequenceId=\"1\"] {"));
  assert_non_null(strstr(text + strlen(text) + 1, "sequenceId=\"2\"] {"));
}

static void
a_full_disk_loses_nothing_and_is_told_when_it_is_over(void **state) {
  (void)state;
  int full = open("/dev/full", O_WRONLY);
  use_fd(full);
  say(0, 1, 1, PL_LEVEL_INFO);
  assert_int_equal(run(PL_DRAIN_BLOCKED), 1);
  assert_int_equal(run(PL_DRAIN_BLOCKED), 0);
  assert_int_equal(drain.failing, -ENOSPC);
  say(0, 2, 2, PL_LEVEL_INFO);
  pl__ring_drop(&writers[1], PL_LEVEL_INFO);
  assert_int_equal(pl__drain_finish(&drain, 30), PL_ETIMEOUT);
  assert_int_equal(pl__drain_left(&drain), 3);
  pl__sink_close(&sink);
  assert_int_equal(pl__sink_open(&sink, path), 0);
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_int_equal(count_of(text, "n1."), 1);
  assert_int_equal(count_of(text, "n2."), 1);
  assert_int_equal(count_of(text, "log output had failed"), 1);
  assert_non_null(strstr(text, "\"error\":\"No space left on device\""));
  assert_int_equal(drain.failing, 0);
  close(full);
}

static void nobody_waits_for_a_pipe_that_is_closed(void **state) {
  (void)state;
  int fds[2];
  assert_int_equal(pipe(fds), 0);
  use_fd(fds[1]);
  close(fds[0]);
  say(0, 1, 1, PL_LEVEL_INFO);
  assert_int_equal(pl__drain_finish(&drain, 60000), PL_EGONE);
  close(fds[1]);
}

/* The pipe takes a little at a time; what comes out must be whole lines, each
 * number once, in order. */
static void a_slow_pipe_gets_whole_lines_once(void **state) {
  (void)state;
  int fds[2];
  unsigned count = 0, got = 0;
  enum pl_drain_outcome outcome = PL_DRAIN_MORE;
  assert_int_equal(pipe(fds), 0);
  fcntl(fds[1], F_SETPIPE_SZ, 4096);
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  use_fd(fds[1]);
  while (say(0, count, count + 1, PL_LEVEL_ERROR))
    count++;
  uint64_t told = pl__ring_fill(rings[0]);
  size_t bytes = 0;
  int blocked = 0;
  while (outcome != PL_DRAIN_IDLE || bytes == 0) {
    pl__drain_run(&drain, &outcome);
    blocked += outcome == PL_DRAIN_BLOCKED;
    ssize_t n;
    while ((n = read(fds[0], text + bytes, 1000)) > 0)
      bytes += (size_t)n;
  }
  text[bytes] = 0;
  for (const char *at = text; (at = strstr(at, "\"msg\":\"n")); at++) {
    char message[16];
    snprintf(message, sizeof message, "\"n%u.\"", got++);
    assert_memory_equal(at + 6, message, strlen(message));
  }
  assert_int_equal(got, count);
  assert_true(blocked > 10);
  assert_true(told > 0);
  assert_int_equal(drain.failing, 0);
  close(fds[0]);
  close(fds[1]);
}

static void a_line_cut_by_reopening_is_written_again_whole(void **state) {
  (void)state;
  int fds[2];
  char bytes[8192];
  for (unsigned i = 0; i < 100; i++)
    say(0, i, i + 1, PL_LEVEL_INFO);
  /* a pipe under the name of the file, which takes one page */
  unlink(path);
  assert_int_equal(pipe(fds), 0);
  fcntl(fds[1], F_SETPIPE_SZ, 4096);
  use_fd(fds[1]);
  assert_int_equal(run(PL_DRAIN_BLOCKED), 100);
  memcpy(sink.path, path, strlen(path) + 1);
  assert_int_equal(pl__drain_reopen(&drain), 0);
  ssize_t n = read(fds[0], bytes, sizeof bytes - 1);
  assert_true(n > 0 && bytes[n - 1] != '\n');
  bytes[n] = 0;
  unsigned before = count_of(bytes, "\n");
  assert_int_equal(run(PL_DRAIN_MORE), 0);
  contents(path);
  assert_memory_equal(text, "{\"time\"", 7);
  assert_int_equal(before + count_of(text, "\n"), 100);
  close(fds[0]);
  close(fds[1]);
}

static void waits_with_its_records_when_there_is_no_memory(void **state) {
  (void)state;
  say(0, 1, 1, PL_LEVEL_INFO);
  pl__alloc_fail_after(1, true);
  assert_int_equal(run(PL_DRAIN_BLOCKED), 0);
  pl__alloc_fail_after(0, false);
  assert_int_equal(run(PL_DRAIN_IDLE), 1);
  assert_int_equal(count_of(contents(path), "n1."), 1);
}

static void records_without_sense_are_counted_and_passed_over(void **state) {
  (void)state;
  void *at = pl__ring_reserve(&writers[0], 100, RING_BYTES);
  memset(at, 0xff, 100);
  pl__ring_push(&writers[0], 100);
  pl__ring_reserve(&writers[0], 0, RING_BYTES);
  pl__ring_push(&writers[0], 0);
  pl__ring_publish(&writers[0]);
  say(0, 1, 1, PL_LEVEL_INFO);
  run(PL_DRAIN_IDLE);
  assert_int_equal(drain.bad_count, 2);
  assert_int_equal(count_of(contents(path), "n1."), 1);
}

static void a_damaged_ring_is_told(void **state) {
  (void)state;
  say(0, 1, 1, PL_LEVEL_INFO);
  memset(rings[0]->data, 0x77, 64);
  run(PL_DRAIN_IDLE);
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  assert_int_equal(count_of(contents(path), "log ring was damaged"), 1);
  assert_true(say(0, 2, 2, PL_LEVEL_INFO));
  run(PL_DRAIN_IDLE);
  assert_int_equal(count_of(contents(path), "n2."), 1);
}

static void sleeps_only_while_every_ring_is_empty(void **state) {
  (void)state;
  int fd = eventfd(0, EFD_NONBLOCK);
  uint64_t value;
  for (int i = 0; i < RING_COUNT; i++)
    pl__ring_writer_init(&writers[i], rings[i], fd);
  say(2, 1, 1, PL_LEVEL_INFO);
  assert_false(pl__drain_sleep(&drain, 1));
  pl__ring_wake(&writers[2]);
  assert_int_equal(read(fd, &value, 8), -1);
  run(PL_DRAIN_IDLE);
  assert_true(pl__drain_sleep(&drain, 1));
  say(1, 2, 2, PL_LEVEL_INFO);
  pl__ring_wake(&writers[1]);
  assert_int_equal(read(fd, &value, 8), 8);
  close(fd);
}

static void takes_no_more_rings_than_its_limit(void **state) {
  (void)state;
  for (unsigned i = RING_COUNT; i < PL_DRAIN_RINGS_MAX; i++)
    assert_int_equal(pl__drain_add(&drain, rings[0], 0), 0);
  assert_int_equal(pl__drain_add(&drain, rings[0], 0), PL_EFULL);
  drain.ring_count = RING_COUNT;
}

/* What a drain in a process of its own does until it is killed. */
static void drain_for_ever(void) {
  enum pl_drain_outcome outcome;
  open_drain();
  for (;;)
    pl__drain_run(&drain, &outcome);
}

/* Takes what there is, so that the drain's output has room. */
static void read_some(int fd, ssize_t *got) {
  if (fd < 0)
    return;
  ssize_t n = read(fd, text + *got, sizeof text - 1 - (size_t)*got);
  *got += n > 0 ? n : 0;
}

/* Kills drains again and again while records are written.  `reader` is read
 * meanwhile, as far as it is not -1. */
static uint64_t write_and_kill(void (*drain_child)(void), int reader,
                               ssize_t *got) {
  uint64_t number = 0;
  for (int round = 0; round < 40; round++) {
    pid_t child = fork();
    if (child == 0) {
      signal(SIGSEGV, SIG_DFL); /* cmocka's would go on with the tests */
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      drain_child();
    }
    for (int i = 0; i < 100 + round * 61 % 300; i++) {
      read_some(reader, got);
      while (!say(0, number, 1, PL_LEVEL_ERROR)) {
        poll(NULL, 0, 1);
        read_some(reader, got);
      }
      number++;
    }
    int status;
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WTERMSIG(status), SIGKILL);
  }
  return number;
}

static void
each_line_is_in_the_file_once_whenever_drains_are_killed(void **state) {
  (void)state;
  uint64_t count = write_and_kill(drain_for_ever, -1, NULL);
  open_drain();
  assert_int_equal(pl__drain_finish(&drain, 1000), 0);
  contents(path);
  assert_once(count);
}

static int writer; /* of the pipe or socket below */

static void drain_to_writer(void) {
  enum pl_drain_outcome outcome;
  open_drain_on(writer);
  for (;;)
    pl__drain_run(&drain, &outcome);
}

static void assert_once_through(int reader) {
  ssize_t got = 0;
  fcntl(reader, F_SETFL, O_NONBLOCK);
  uint64_t count = write_and_kill(drain_to_writer, reader, &got);
  open_drain_on(writer);
  read_until_idle(reader, got);
  assert_once(count);
  close(reader);
  close(writer);
}

static void
each_line_goes_through_a_pipe_once_whenever_drains_are_killed(void **state) {
  (void)state;
  int fds[2];
  assert_int_equal(pipe(fds), 0);
  writer = fds[1];
  assert_once_through(fds[0]);
}

static void
each_line_goes_through_a_socket_once_whenever_drains_are_killed(void **state) {
  (void)state;
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  writer = fds[1];
  assert_once_through(fds[0]);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_all, free_all)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(empty_rings_leave_nothing_to_do),
      FACT(merges_the_rings_by_time),
      FACT(the_last_ring_may_have_the_oldest_record),
      FACT(records_below_the_level_are_passed_over),
      FACT(writes_batch_after_batch_until_all_is_out),
      FACT(drops_are_told_once_with_their_counts),
      FACT(a_drain_that_dies_with_a_batch_leaves_it_to_the_next),
      FACT(a_full_disk_loses_nothing_and_is_told_when_it_is_over),
      FACT(a_line_cut_by_death_is_gone_on_with_by_the_next_drain),
      FACT(no_line_is_ended_that_was_not_begun),
      FACT(a_write_cut_by_death_is_found_in_the_file),
      FACT(it_is_found_behind_what_others_have_appended),
      FACT(it_is_found_in_a_file_that_was_moved),
      FACT(it_is_begun_again_when_the_file_was_cut),
      FACT(a_ledger_without_sense_is_begun_anew),
      FACT(what_splice_refuses_is_written_to_directly),
      FACT(syslog_messages_go_on_being_numbered),
      FACT(nobody_waits_for_a_pipe_that_is_closed),
      FACT(a_slow_pipe_gets_whole_lines_once),
      FACT(a_line_cut_by_reopening_is_written_again_whole),
      FACT(waits_with_its_records_when_there_is_no_memory),
      FACT(records_without_sense_are_counted_and_passed_over),
      FACT(a_damaged_ring_is_told),
      FACT(sleeps_only_while_every_ring_is_empty),
      FACT(takes_no_more_rings_than_its_limit),
      FACT(each_line_is_in_the_file_once_whenever_drains_are_killed),
      FACT(each_line_goes_through_a_pipe_once_whenever_drains_are_killed),
      FACT(each_line_goes_through_a_socket_once_whenever_drains_are_killed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
