/* test/server/test_master.c - the life of processes, with workers made here:
 * no Lua and no HTTP, one answers with its pid and closes.
 */
#include "server/master.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "fabric/map.h"
#include "fabric/record.h"
#include "perilune.h"
#include "server/channel.h"
#include "server/config.h"
#include "server/edition.h"
#include "server/keys.h"
#include "server/layout.h"
#include "server/trial.h"
#include "server/worker.h"

#define PATIENCE_MS 10000
#define TEXT_BYTES 4096

static struct pl_config config;
static char folder[64];
static char log_path[128];

/* ---- workers ------------------------------------------------------------- */

static volatile sig_atomic_t told_to_end;

static void on_term(int number) {
  (void)number;
  told_to_end = 1;
}

static void worker_accept(int fd) {
  char text[32];
  int client = accept(fd, NULL, NULL);
  int n = snprintf(text, sizeof(text), "%ld", (long)getpid());

  if (client < 0)
    return;
  if (write(client, text, (size_t)n) < 0)
    _exit(9);
  close(client);
}

static void worker_log(const struct pl_worker_args *args, const char *text) {
  struct pl_record head = {.level = PL_LEVEL_INFO,
                           .worker = (uint16_t)args->index,
                           .route = PL_RECORD_NO_ROUTE};
  struct pl_ring *ring;
  struct pl_ring_writer writer;

  if (pl__layout_ring(args->fabric, args->index, &ring))
    _exit(8);
  pl__ring_writer_init(&writer, ring, -1); /* nobody is woken: the worst case */
  pl__record_text(&writer, &head, pl__slice(text, strlen(text)));
}

static bool beats; /* serve shows life */

static int serve(const struct pl_worker_args *args) {
  struct pl_beat *beat;

  signal(SIGTERM, on_term);
  if (pl__layout_beat(args->fabric, args->index, &beat))
    return 7;
  atomic_store(&beat->request_count, 3);
  pl__channel_say(args->channel_fd, PL_NEWS_STARTED, 1, 0, NULL);
  while (!told_to_end) {
    if (beats)
      atomic_store(&beat->at_ns, pl__clock_monotonic_ns());
    struct pollfd p = {.fd = args->listen_fds[0], .events = POLLIN};
    if (poll(&p, 1, 10) > 0)
      worker_accept(p.fd);
  }
  return 0;
}

_Noreturn static void stay_for_ever(void) {
  for (;;)
    pause();
}

static int stay(const struct pl_worker_args *args) {
  signal(SIGTERM, SIG_IGN);
  pl__channel_say(args->channel_fd, PL_NEWS_STARTED, 1, 0, NULL);
  stay_for_ever();
}

/* Serves with a heart that beats once. */
static int beat_once(const struct pl_worker_args *args) {
  struct pl_beat *beat;

  if (pl__layout_beat(args->fabric, args->index, &beat))
    return 7;
  atomic_store(&beat->at_ns, pl__clock_monotonic_ns());
  return serve(args);
}

static int beat_on(const struct pl_worker_args *args) {
  beats = true;
  return serve(args);
}

/* Leaves a process behind that ends a little later. */
static int leave_orphan(const struct pl_worker_args *args) {
  pid_t pid = fork();

  if (pid == 0) {
    if (fork() == 0)
      poll(NULL, 0, 500);
    _exit(0);
  }
  waitpid(pid, NULL, 0);
  return serve(args);
}

static int fail_second(const struct pl_worker_args *args) {
  if (args->index != 1)
    return serve(args);
  pl__channel_say(args->channel_fd, PL_NEWS_STARTED, 1, PL_ESCRIPT,
                  "app.lua:3: no such luck");
  return 1;
}

_Noreturn static int crash_at_start(const struct pl_worker_args *args) {
  (void)args;
  abort();
}

static int log_and_die(const struct pl_worker_args *args) {
  static const char text[] = "last words";
  struct pl_beat *beat;

  if (pl__layout_beat(args->fabric, args->index, &beat))
    return 7;
  worker_log(args, text);
  pl__channel_say(args->channel_fd, PL_NEWS_STARTED, 1, 0, NULL);
  poll(NULL, 0, 100); /* who dies before all are ready fails the start */
  kill(getpid(), SIGKILL);
  return 0;
}

/* The app loads: there is none. */
static int try_nothing(const struct pl_trial_args *args) {
  struct pl_bundle *bundle;

  if (pl__layout_bundle(args->fabric, args->generation, &bundle) ||
      pl__edition_write(bundle, args->config))
    return 1;
  pl__bundle_publish(bundle);
  pl__channel_say(args->channel_fd, PL_NEWS_TRIED, args->generation, 0, "");
  return 0;
}

/* ---- a master in a process of its own ------------------------------------ */

struct run {
  pid_t pid;
  int messages; /* what it says, then "result CODE TEXT" */
  char text[TEXT_BYTES];
  size_t bytes;
};

static void message_write(void *arg, const char *text, size_t bytes) {
  if (write(*(int *)arg, text, bytes) < 0)
    _exit(6);
}

#define MASTERS_MAX 2
static pid_t masters[MASTERS_MAX]; /* that run; a failed test leaves them */

static void masters_note(pid_t old, pid_t new) {
  for (size_t i = 0; i < MASTERS_MAX; i++) {
    if (masters[i] == old) {
      masters[i] = new;
      return;
    }
  }
}

static uint64_t failing_allocation; /* the n-th in the master; 0: none */

static void master_start(struct run *r,
                         int (*worker)(const struct pl_worker_args *)) {
  int fds[2];

  memset(r, 0, sizeof(*r));
  assert_int_equal(0, pipe(fds));
  assert_int_equal(0, fcntl(fds[1], F_SETFD, FD_CLOEXEC));
  r->pid = fork();
  assert_true(r->pid >= 0);
  if (r->pid == 0) {
    struct pl_master_options options = {.config = &config,
                                        .worker_main = worker,
                                        .trial_main = try_nothing,
                                        .on_message = message_write,
                                        .arg = &fds[1]};
    struct pl_error error;
    char line[sizeof(error.text) + 32];
    int code, n;

    close(fds[0]);
    pl__alloc_fail_after(failing_allocation, false);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* as the first process of a container */
    code = pl__master_run(&options, &error);
    n = snprintf(line, sizeof(line), "result %d %s\n", code, error.text);
    message_write(&fds[1], line, (size_t)n);
    _exit(0);
  }
  close(fds[1]);
  masters_note(0, r->pid);
  r->messages = fds[0];
}

/* Reads what the master says until `part` is in it, or it says no more. */
static void wait_for(struct run *r, const char *part) {
  int64_t due = pl__clock_monotonic_ns() + (int64_t)PATIENCE_MS * PL_NS_PER_MS;

  while (!strstr(r->text, part)) {
    struct pollfd p = {.fd = r->messages, .events = POLLIN};
    ssize_t n;

    if (pl__clock_monotonic_ns() > due)
      fail_msg("waited for \"%s\", got \"%s\"", part, r->text);
    if (poll(&p, 1, 100) <= 0)
      continue;
    n = read(r->messages, r->text + r->bytes, sizeof(r->text) - 1 - r->bytes);
    if (n <= 0)
      fail_msg("\"%s\" was never said, but \"%s\"", part, r->text);
    r->bytes += (size_t)n;
  }
}

static void master_end(struct run *r, const char *result) {
  char expected[64];

  snprintf(expected, sizeof(expected), "result %s", result);
  wait_for(r, expected);
  assert_int_equal(r->pid, waitpid(r->pid, NULL, 0));
  masters_note(r->pid, 0);
  close(r->messages);
}

static int port_of(const struct run *r) {
  const char *at = strstr(r->text, "http://127.0.0.1:");
  assert_non_null(at);
  return (int)strtol(at + strlen("http://127.0.0.1:"), NULL, 10);
}

/* The pid of the worker that answers; 0 when it closes without a word, -1 when
 * the connection is refused. */
static long ask(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct pollfd p = {.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN};
  char text[32] = "";
  long pid = 0;

  assert_true(p.fd >= 0);
  if (connect(p.fd, (struct sockaddr *)&to, sizeof(to)))
    pid = -1;
  else if (poll(&p, 1, PATIENCE_MS) == 1 &&
           read(p.fd, text, sizeof(text) - 1) > 0)
    pid = strtol(text, NULL, 10);
  close(p.fd);
  return pid;
}

/* How many processes of this run are left; as their subreaper the test gets
 * those whose parent has gone. */
static int orphans_wait(int wait_ms) {
  for (int i = 0; i < wait_ms / 10; i++) {
    while (waitpid(-1, NULL, WNOHANG) > 0)
      ;
    if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
      return 0;
    poll(NULL, 0, 10);
  }
  return 1;
}

static bool log_has(const char *part) {
  char text[TEXT_BYTES * 4];
  int fd = open(log_path, O_RDONLY);
  ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

  if (fd >= 0)
    close(fd);
  text[n > 0 ? n : 0] = '\0';
  return strstr(text, part) != NULL;
}

/* ---- tests --------------------------------------------------------------- */

static void serves_until_term_and_ends_well(void **state) {
  struct run r;

  (void)state;
  master_start(&r, serve);
  wait_for(&r, "serving test on http://127.0.0.1:");
  wait_for(&r, "(2 workers, pid ");
  assert_true(ask(port_of(&r)) > 0);
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
  assert_int_equal(-1, ask(port_of(&r)));
  assert_true(log_has("stopping"));
}

static void stays_when_signals_come_that_ask_for_something_else(void **state) {
  static const int signals[] = {SIGHUP, SIGUSR1, SIGPIPE};
  struct run r;

  (void)state;
  master_start(&r, serve);
  wait_for(&r, "serving");
  for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
    kill(r.pid, signals[i]);
  poll(NULL, 0, 50);
  assert_true(ask(port_of(&r)) > 0);
  kill(r.pid, SIGINT);
  master_end(&r, "0 ");
}

static void replaces_a_worker_that_dies(void **state) {
  struct run r;
  long first, next;

  (void)state;
  config.workers = 1;
  master_start(&r, serve);
  wait_for(&r, "serving");
  first = ask(port_of(&r));
  assert_true(first > 0);
  kill((pid_t)first, SIGKILL);
  do /* what it had accepted is lost with it, nothing else */
    next = ask(port_of(&r));
  while (next == 0 || next == first);
  assert_true(next > 0);
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
  assert_true(log_has("a worker was killed"));
  assert_true(log_has("SIGKILL"));
}

static void refuses_nobody_while_workers_die(void **state) {
  struct run r;

  (void)state;
  config.workers = 1;
  master_start(&r, serve);
  wait_for(&r, "serving");
  for (int i = 0; i < 6; i++) {
    long pid = ask(port_of(&r));
    assert_true(pid >= 0);
    if (pid > 0)
      kill((pid_t)pid, SIGKILL);
  }
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
}

static void waits_longer_when_workers_keep_dying(void **state) {
  struct run r;
  size_t deaths = 0;
  char text[TEXT_BYTES * 4];
  int fd;
  ssize_t n;

  (void)state;
  config.workers = 1;
  master_start(&r, log_and_die);
  wait_for(&r, "serving");
  poll(NULL, 0, 1500); /* each lives 100 ms; 100, 200, 400 ms lie between */
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
  fd = open(log_path, O_RDONLY);
  n = read(fd, text, sizeof(text) - 1);
  close(fd);
  assert_true(n > 0);
  text[n] = '\0';
  for (const char *p = text; (p = strstr(p, "a worker was killed")); p++)
    deaths++;
  assert_in_range(deaths, 3, 5);
}

static void writes_what_a_killed_worker_had_logged(void **state) {
  struct run r;

  (void)state;
  config.workers = 1;
  master_start(&r, log_and_die);
  wait_for(&r, "serving");
  poll(NULL, 0, 150);
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
  assert_true(log_has("a worker was killed"));
  assert_true(log_has("SIGKILL"));
  assert_true(log_has("last words"));
}

static void tells_once_why_a_worker_does_not_start(void **state) {
  struct run r;

  (void)state;
  master_start(&r, fail_second);
  master_end(&r, "-20005 app.lua:3: no such luck");
  assert_null(strstr(r.text, "serving"));
  assert_int_equal(0, orphans_wait(PATIENCE_MS));
}

static void tells_that_a_worker_crashed_at_the_start(void **state) {
  struct run r;

  (void)state;
  config.workers = 1;
  master_start(&r, crash_at_start);
  master_end(&r, "-20013 worker 0 was ended by signal 6");
}

static void stops_at_once_on_a_second_signal(void **state) {
  struct run r;
  int64_t begun = pl__clock_monotonic_ns();

  (void)state;
  config.timeout_drain_s = 60;
  master_start(&r, stay);
  wait_for(&r, "serving");
  kill(r.pid, SIGINT);
  wait_for(&r, "stopping");
  kill(r.pid, SIGINT);
  master_end(&r, "-20013 stopped at once");
  assert_true(pl__clock_monotonic_ns() - begun < 30ll * PL_NS_PER_S);
  assert_int_equal(0, orphans_wait(PATIENCE_MS));
}

static void cuts_a_drain_that_takes_too_long_and_counts(void **state) {
  struct run r;

  (void)state;
  config.timeout_drain_s = 0.05;
  master_start(&r, stay);
  wait_for(&r, "serving");
  kill(r.pid, SIGTERM);
  wait_for(&r, "2 workers with 0 requests are stopped");
  master_end(&r, "0 ");
}

static void serves_on_during_pre_drain(void **state) {
  struct run r;

  (void)state;
  config.timeout_pre_drain_s = 0.5;
  master_start(&r, serve);
  wait_for(&r, "serving");
  kill(r.pid, SIGTERM);
  wait_for(&r, "stopping");
  assert_true(ask(port_of(&r)) > 0);
  master_end(&r, "0 ");
}

static size_t children_count(pid_t pid) {
  char path[64], text[256];
  size_t count = 0;
  ssize_t n;
  int fd;

  snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children", (long)pid,
           (long)pid);
  fd = open(path, O_RDONLY);
  assert_true(fd >= 0);
  n = read(fd, text, sizeof(text));
  close(fd);
  for (ssize_t i = 0; i < n; i++)
    count += text[i] == ' '; /* one behind each */
  return count;
}

static void reaps_children_it_does_not_know(void **state) {
  struct run r;
  size_t count = 0;

  (void)state;
  config.workers = 1;
  master_start(&r, leave_orphan);
  wait_for(&r, "serving");
  assert_int_equal(3, children_count(r.pid)); /* control, worker, orphan */
  for (int i = 0; i < PATIENCE_MS / 10 && count != 2; i++) {
    poll(NULL, 0, 10);
    count = children_count(r.pid);
  }
  assert_int_equal(2, count);
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
}

static void forgives_workers_when_it_stood_still_itself(void **state) {
  struct run r;
  long pid;

  (void)state;
  config.workers = 1;
  config.vm_stuck_timeout_s = 0.4;
  master_start(&r, beat_on);
  wait_for(&r, "serving");
  pid = ask(port_of(&r));
  assert_true(pid > 0);
  kill(r.pid, SIGSTOP);
  kill((pid_t)pid, SIGSTOP);
  poll(NULL, 0, 700);
  kill(r.pid, SIGCONT);
  poll(NULL, 0, 100);
  kill((pid_t)pid, SIGCONT);
  poll(NULL, 0, 200);
  assert_int_equal(pid, ask(port_of(&r)));
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
}

static void replaces_a_worker_whose_heart_stops(void **state) {
  struct run r;
  long first, next = 0;

  (void)state;
  config.workers = 1;
  config.vm_stuck_timeout_s = 0.3;
  master_start(&r, beat_once);
  wait_for(&r, "serving");
  first = ask(port_of(&r));
  for (int i = 0; i < 200 && (next <= 0 || next == first); i++) {
    poll(NULL, 0, 20);
    next = ask(port_of(&r));
  }
  assert_true(first > 0 && next > 0 && next != first);
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
  assert_true(log_has("a worker stood still and was killed"));
}

static void leaves_nobody_behind_when_it_is_killed(void **state) {
  struct run r;

  (void)state;
  master_start(&r, stay);
  wait_for(&r, "serving");
  kill(r.pid, SIGKILL);
  masters_note(r.pid, 0);
  assert_int_equal(0, orphans_wait(PATIENCE_MS));
  close(r.messages);
}

static void refuses_a_port_that_is_taken(void **state) {
  struct run one, two;
  char address[64];

  (void)state;
  master_start(&one, serve);
  wait_for(&one, "serving");
  snprintf(address, sizeof(address), "127.0.0.1:%d", port_of(&one));
  assert_int_equal(0, pl__address_parse(address, &config.listen[0]));
  snprintf(config.pid_file, sizeof(config.pid_file), "%s/other.pid", folder);
  master_start(&two, serve);
  master_end(&two, "-20007 cannot listen on 127.0.0.1");
  kill(one.pid, SIGTERM);
  master_end(&one, "0 ");
}

static void refuses_a_second_server_of_its_name(void **state) {
  struct run one, two;

  (void)state;
  master_start(&one, serve);
  wait_for(&one, "serving");
  master_start(&two, serve);
  master_end(&two, "-20013 a server named test runs already");
  kill(one.pid, SIGTERM);
  master_end(&one, "0 ");
  master_start(&two, serve); /* the name is free again */
  wait_for(&two, "serving");
  kill(two.pid, SIGTERM);
  master_end(&two, "0 ");
}

static void tells_that_the_log_cannot_be_opened(void **state) {
  struct run r;

  (void)state;
  snprintf(config.log_output, sizeof(config.log_output), "/nonexistent/log");
  master_start(&r, serve);
  master_end(&r, "-20006 log.output: cannot open /nonexistent/log");
}

static void tells_that_there_is_no_shared_memory(void **state) {
  struct run r;

  (void)state;
  config.workers = 2000; /* more sections than a fabric has */
  master_start(&r, serve);
  master_end(&r, "-20000 no shared memory");
  assert_int_equal(0, orphans_wait(PATIENCE_MS));
}

static void ends_well_whichever_allocation_fails(void **state) {
  struct run r;

  (void)state;
  for (uint64_t n = 1;; n++) {
    failing_allocation = n;
    master_start(&r, serve);
    wait_for(&r, "\n");
    if (strstr(r.text, "serving"))
      break;
    master_end(&r, "-200"); /* a code of ours, with a sentence */
    assert_non_null(strpbrk(strstr(r.text, "-200"), " ") + 1);
    assert_int_equal(0, orphans_wait(PATIENCE_MS));
    assert_true(n < 1000);
  }
  kill(r.pid, SIGTERM);
  master_end(&r, "0 ");
  assert_true(failing_allocation > 4);
  failing_allocation = 0;
}

/* ---- each on its own ----------------------------------------------------- */

static int setup(void **state) {
  struct pl_config_input in = {.app = NULL};
  char err[PL_CONFIG_ERROR_BYTES];

  (void)state;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  snprintf(folder, sizeof(folder), "/tmp/pl-master-XXXXXX");
  if (!mkdtemp(folder) || pl__config_resolve(&in, &config, err))
    return -1;
  config.workers = 2;
  snprintf(config.name, sizeof(config.name), "test");
  snprintf(config.pid_file, sizeof(config.pid_file), "%s/test.pid", folder);
  snprintf(log_path, sizeof(log_path), "%s/log", folder);
  snprintf(config.log_output, sizeof(config.log_output), "%s", log_path);
  return pl__address_parse("127.0.0.1:0", &config.listen[0]);
}

static int teardown(void **state) {
  char path[128];

  (void)state;
  for (size_t i = 0; i < MASTERS_MAX; i++)
    if (masters[i])
      kill(masters[i], SIGKILL);
  memset(masters, 0, sizeof(masters));
  orphans_wait(PATIENCE_MS);
  failing_allocation = 0;
  pl__config_deinit(&config);
  unlink(log_path);
  snprintf(path, sizeof(path), "%s/test.pid", folder);
  unlink(path);
  snprintf(path, sizeof(path), "%s/test.sock", folder);
  unlink(path);
  return rmdir(folder);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      CASE(serves_until_term_and_ends_well),
      CASE(stays_when_signals_come_that_ask_for_something_else),
      CASE(replaces_a_worker_that_dies),
      CASE(refuses_nobody_while_workers_die),
      CASE(waits_longer_when_workers_keep_dying),
      CASE(writes_what_a_killed_worker_had_logged),
      CASE(tells_once_why_a_worker_does_not_start),
      CASE(tells_that_a_worker_crashed_at_the_start),
      CASE(stops_at_once_on_a_second_signal),
      CASE(cuts_a_drain_that_takes_too_long_and_counts),
      CASE(serves_on_during_pre_drain),
      CASE(replaces_a_worker_whose_heart_stops),
      CASE(forgives_workers_when_it_stood_still_itself),
      CASE(reaps_children_it_does_not_know),
      CASE(leaves_nobody_behind_when_it_is_killed),
      CASE(refuses_a_port_that_is_taken),
      CASE(refuses_a_second_server_of_its_name),
      CASE(tells_that_the_log_cannot_be_opened),
      CASE(tells_that_there_is_no_shared_memory),
      CASE(ends_well_whichever_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
