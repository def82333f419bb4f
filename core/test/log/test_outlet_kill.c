/* test/log/test_outlet_kill.c - a drain that is killed at any instruction.
 *
 * A child drains, one machine instruction at a time (ptrace).  After each of
 * them that has changed anything, rings, ledger, transit and output are copied,
 * as kill -9 would have left them, and a drain that takes over from the copy
 * gets the rest out: each line is there once.
 */
#define _GNU_SOURCE /* tee, MAP_ANONYMOUS, F_SETPIPE_SZ, RLIMIT */
#include "log/drain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RING_COUNT 2
#define RING_BYTES 16384u
#define RECORD_COUNT 14
#define STEPS_MAX 2000000u
#define TEXT_BYTES 65536

/* All that outlives a drain, but for files and pipes. */
struct world {
  _Alignas(128) char rings[RING_COUNT][sizeof(struct pl_ring) + RING_BYTES];
  struct pl_ledger ledger;
};

static struct world *ours, *left; /* the child's, and what it would leave */
static int transit[2], left_transit[2];
static int output[2], left_output[2]; /* pipes */
static char path[64], left_path[80];
static struct pl_sink sink;
static struct pl_drain drain;
static char text[TEXT_BYTES];

static struct pl_ring *ring_of(struct world *w, int i) {
  return (void *)w->rings[i];
}

static int make_pipe(int fds[2], int bytes) {
  return pipe2(fds, O_NONBLOCK | O_CLOEXEC) ||
         fcntl(fds[1], F_SETPIPE_SZ, bytes) < 0;
}

static void say_all(int padding) {
  for (int i = 0; i < RING_COUNT; i++) {
    struct pl_ring_writer w;
    pl__ring_init(ring_of(ours, i), RING_BYTES);
    pl__ring_writer_init(&w, ring_of(ours, i), -1);
    for (int n = i; n < RECORD_COUNT; n += RING_COUNT) {
      struct pl_record head = {.level = PL_LEVEL_INFO,
                               .route = PL_RECORD_NO_ROUTE,
                               .time_ns = n + 1};
      char message[400];
      int bytes = snprintf(message, sizeof message, "n%d.%0*d", n, padding, n);
      pl__record_text(&w, &head, pl__slice(message, (size_t)bytes));
    }
    pl__ring_drop(&w, PL_LEVEL_DEBUG);
  }
}

static int make_all(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  ours = mmap(NULL, sizeof *ours, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  left = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  snprintf(path, sizeof path, "/tmp/perilune-outlet-XXXXXX");
  int fd = mkstemp(path);
  close(fd);
  snprintf(left_path, sizeof left_path, "%s-left", path);
  if (ours == MAP_FAILED || left == MAP_FAILED || fd < 0 ||
      make_pipe(transit, 65536) || make_pipe(left_transit, 65536) ||
      make_pipe(output, 65536) || make_pipe(left_output, 65536))
    return -1;
  return 0;
}

static int free_all(void **state) {
  int *const pipes[] = {transit, left_transit, output, left_output};
  (void)state;
  for (int i = 0; i < 4; i++) {
    close(pipes[i][0]);
    close(pipes[i][1]);
  }
  munmap(ours, sizeof *ours);
  munmap(left, sizeof *left);
  unlink(path);
  unlink(left_path);
  return 0;
}

/* Drains a world until nothing is left, or nothing moves. */
static void drain_all(struct world *w, const int *through) {
  enum pl_drain_outcome outcome = PL_DRAIN_MORE;
  pl__drain_init(&drain, &sink, &w->ledger, through, PL_LOG_JSON, false,
                 PL_LEVEL_DEBUG, NULL);
  for (uint16_t i = 0; i < RING_COUNT; i++)
    pl__drain_add(&drain, ring_of(w, i), i);
  pl__drain_resume(&drain);
  while (outcome == PL_DRAIN_MORE)
    pl__drain_run(&drain, &outcome);
  pl__drain_deinit(&drain);
}

/* --- what is left ------------------------------------------------------- */

static size_t take(int fd, size_t at) {
  ssize_t n;
  while ((n = read(fd, text + at, sizeof text - 1 - at)) > 0)
    at += (size_t)n;
  text[at] = 0;
  return at;
}

static void copy_pipe(const int from[2], const int to[2]) {
  take(to[0], 0);
  tee(from[0], to[1], TEXT_BYTES, SPLICE_F_NONBLOCK);
}

/* A file of the same contents, which the ledger takes for the noted one. */
static void copy_file(void) {
  struct stat st, copy;
  int from = open(path, O_RDONLY), to = open(left_path, O_RDWR | O_CREAT, 0600);
  size_t bytes = take(from, 0);
  assert_int_equal(write(to, text, bytes), (ssize_t)bytes);
  assert_int_equal(ftruncate(to, (off_t)bytes), 0);
  assert_int_equal(fstat(from, &st) | fstat(to, &copy), 0);
  for (int i = 0; i < 2; i++)
    if (left->ledger.notes[i].inode == st.st_ino)
      left->ledger.notes[i].inode = copy.st_ino;
  close(from);
  close(to);
}

static void assert_once(uint32_t step) {
  unsigned seen[RECORD_COUNT] = {0}, drops = 0, lines = 0;
  for (char *at = text, *end; *at; at = end + 1, lines++) {
    end = strchr(at, '\n');
    if (!end || end == at || strncmp(at, "{\"time\":", 8) || end[-1] != '}')
      fail_msg("a torn line after %u instructions: %.200s", step, at);
    *end = 0;
    char *number = strstr(at, "\"msg\":\"n");
    drops += strstr(at, "records dropped") != NULL;
    unsigned long n = number ? strtoul(number + 8, NULL, 10) : RECORD_COUNT;
    if (n < RECORD_COUNT)
      seen[n]++;
  }
  for (unsigned i = 0; i < RECORD_COUNT; i++)
    if (seen[i] != 1)
      fail_msg("line %u came %u times after %u instructions", i, seen[i], step);
  if (drops != RING_COUNT)
    fail_msg("drops told %u times after %u instructions", drops, step);
}

struct scenario {
  bool is_file;
  int room;    /* of the output, while the child writes; 0: enough */
  int padding; /* of each message */
};

static void assert_survives(const struct scenario *s, uint32_t step) {
  memcpy(left, ours, sizeof *left);
  if (s->is_file) {
    copy_file();
    assert_int_equal(pl__sink_open(&sink, left_path), 0);
    drain_all(left, NULL);
    int fd = open(left_path, O_RDONLY);
    take(fd, 0);
    close(fd);
  } else {
    copy_pipe(transit, left_transit);
    copy_pipe(output, left_output);
    assert_int_equal(pl__sink_open_fd(&sink, left_output[1]), 0);
    size_t at = take(left_output[0], 0);
    drain_all(left, left_transit);
    take(left_output[0], at);
  }
  pl__sink_close(&sink);
  assert_once(step);
}

/* --- the kill ----------------------------------------------------------- */

static void be_drained(const struct scenario *s) {
  struct rlimit room = {(rlim_t)s->room, (rlim_t)s->room};
  if (s->is_file && (pl__sink_open(&sink, path) ||
                     (s->room && setrlimit(RLIMIT_FSIZE, &room))))
    _exit(1);
  if (!s->is_file && pl__sink_open_fd(&sink, output[1]))
    _exit(1);
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
    _exit(1);
  raise(SIGSTOP);
  drain_all(ours, s->is_file ? NULL : transit);
  _exit(0);
}

/* What can be told from outside. */
struct look {
  struct pl_ledger_note notes[2];
  uint32_t turn;
  int bytes[2];
  off_t size;
  uint64_t heads[RING_COUNT], told[RING_COUNT];
};

static struct look look_at(void) {
  struct stat st = {0};
  struct look l;
  memset(&l, 0, sizeof l);
  memcpy(l.notes, ours->ledger.notes, sizeof l.notes);
  l.turn = ours->ledger.turn;
  ioctl(transit[0], FIONREAD, &l.bytes[0]);
  ioctl(output[0], FIONREAD, &l.bytes[1]);
  stat(path, &st);
  l.size = st.st_size;
  for (int i = 0; i < RING_COUNT; i++) {
    l.heads[i] = ring_of(ours, i)->head;
    l.told[i] = ring_of(ours, i)->drops_told[PL_LEVEL_DEBUG];
  }
  return l;
}

static void step_through(const struct scenario *s) {
  uint32_t steps = 0, looks = 0;
  struct look before, now;
  int status;
  say_all(s->padding);
  if (!s->is_file && s->room)
    assert_true(fcntl(output[1], F_SETPIPE_SZ, s->room) >= 0);
  pid_t child = fork();
  if (child == 0)
    be_drained(s);
  waitpid(child, &status, 0);
  if (!WIFSTOPPED(status))
    skip(); /* no ptrace here */
  ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL);
  memset(&before, 0xff, sizeof before);
  for (; steps < STEPS_MAX; steps++) {
    now = look_at();
    if (memcmp(&before, &now, sizeof now) != 0) {
      before = now;
      assert_survives(s, steps);
      looks++;
    }
    if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL))
      break;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) || WIFSIGNALED(status))
      break;
  }
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  assert_true(looks > 5);
  print_message("%u instructions, %u states\n", steps, looks);
}

static void a_file_has_each_line_once(void **state) {
  (void)state;
  step_through(&(struct scenario){.is_file = true});
}

/* It takes a part of the batch, and ends within a line. */
static void a_file_on_a_full_disk_has_each_line_once(void **state) {
  (void)state;
  step_through(&(struct scenario){.is_file = true, .room = 700});
}

static void a_pipe_gets_each_line_once(void **state) {
  (void)state;
  step_through(&(struct scenario){0});
}

static void a_pipe_that_is_full_gets_each_line_once(void **state) {
  (void)state;
  step_through(&(struct scenario){.room = 4096, .padding = 300});
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_all, free_all)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(a_file_has_each_line_once),
      FACT(a_file_on_a_full_disk_has_each_line_once),
      FACT(a_pipe_gets_each_line_once),
      FACT(a_pipe_that_is_full_gets_each_line_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
