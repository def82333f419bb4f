/* test/server/test_worker.c - a worker in a process of its own, over real
 * sockets: serving, draining, and starts that fail.
 */
#define _GNU_SOURCE /* SOCK_NONBLOCK */
#include "base/alloc.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "fabric/map.h"
#include "server/channel.h"
#include "server/config.h"
#include "server/edition.h"
#include "server/layout.h"
#include "server/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 10000

struct fixture {
  char folder[64];
  struct pl_config config;
  struct pl_fabric fabric;
  struct pl_message status; /* what it has said */
  struct sockaddr_in address;
  int listen_fd, wake_fd;
  pid_t pid;
};

static const char app[] =
    "local P = require 'perilune'\n"
    "local app = P.app()\n"
    "app:get('/', function() return 'hello' end)\n"
    "app:get('/slow', function() P.sleep(0.3) return 'slow' end)\n"
    "app:get('/stuck', { timeout = '100s' }, function()\n"
    "  P.sleep(100) return 'never'\n"
    "end)\n"
    "return app\n";

static void write_app(const struct fixture *f, const char *text) {
  char path[128];
  FILE *file;

  snprintf(path, sizeof path, "%s/app.lua", f->folder);
  file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static void open_socket(struct fixture *f) {
  socklen_t bytes = sizeof f->address;

  f->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  f->address = (struct sockaddr_in){.sin_family = AF_INET};
  f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  assert_int_equal(bind(f->listen_fd, (struct sockaddr *)&f->address, bytes),
                   0);
  assert_int_equal(
      getsockname(f->listen_fd, (struct sockaddr *)&f->address, &bytes), 0);
  assert_int_equal(listen(f->listen_fd, 64), 0);
}

/* The first generation: the configuration; its files are not in the bundle, so
 * that they come from the disk. */
static void commit_generation(struct fixture *f) {
  struct pl_server_state *state;
  struct pl_bundle *bundle;

  assert_int_equal(pl__layout_begin(&f->fabric, 1), 0);
  assert_int_equal(pl__layout_bundle(&f->fabric, 1, &bundle), 0);
  assert_int_equal(pl__edition_write(bundle, &f->config), 0);
  pl__bundle_publish(bundle);
  assert_int_equal(pl__layout_state(&f->fabric, &state), 0);
  atomic_store(&state->generation, 1);
}

/* Starts a worker and waits for what it says. */
static void start(struct fixture *f, const char *text) {
  static const char *const overrides[] = {"workers=1", "timeouts.drain=1s",
                                          "limits.connections=64"};
  struct pl_config_input input = {
      .app = f->folder, .overrides = overrides, .override_count = 3};
  char err[PL_CONFIG_ERROR_BYTES], fabric_err[PL_FABRIC_ERROR_BYTES];
  struct pollfd ready;
  int ends[2];

  write_app(f, text);
  if (pl__config_resolve(&input, &f->config, err))
    fail_msg("%s", err);
  assert_int_equal(
      pl__layout_open(&f->fabric, &f->config, f->config.workers, fabric_err),
      0);
  commit_generation(f);
  open_socket(f);
  f->wake_fd = eventfd(0, EFD_NONBLOCK);
  assert_int_equal(pl__channel_open(ends), 0);
  f->pid = fork();
  if (f->pid == 0) {
    struct pl_worker_args args = {.config = &f->config,
                                  .fabric = &f->fabric,
                                  .listen_fds = &f->listen_fd,
                                  .listen_count = 1,
                                  .channel_fd = ends[1],
                                  .log_wake_fd = f->wake_fd};
    close(ends[0]);
    _exit(pl__worker_main(&args));
  }
  close(ends[1]);
  close(f->listen_fd);
  ready = (struct pollfd){.fd = ends[0], .events = POLLIN};
  assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
  assert_int_equal(pl__channel_read(ends[0], &f->status), 0);
  close(ends[0]);
}

static int set_up(void **state) {
  struct fixture *f = pl__alloc_zero(sizeof *f);

  assert_non_null(f);
  snprintf(f->folder, sizeof f->folder, "/tmp/perilune-worker-XXXXXX");
  assert_non_null(mkdtemp(f->folder));
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;
  char path[128];

  if (f->pid > 0) {
    kill(f->pid, SIGKILL);
    waitpid(f->pid, NULL, 0);
  }
  close(f->wake_fd);
  pl__fabric_close(&f->fabric);
  pl__config_deinit(&f->config);
  snprintf(path, sizeof path, "%s/app.lua", f->folder);
  unlink(path);
  rmdir(f->folder);
  pl__free(f);
  return 0;
}

/* Its exit code, once it has ended. */
static int ended(struct fixture *f) {
  int status = 0;

  for (int i = 0; i < WAIT_MS; i++) {
    if (waitpid(f->pid, &status, WNOHANG) == f->pid) {
      f->pid = 0;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
    }
    usleep(1000);
  }
  fail_msg("it does not end");
  return -1;
}

static int ask(struct fixture *f, const char *target) {
  struct timeval limit = {.tv_sec = WAIT_MS / 1000};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char text[128];
  int n =
      snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target);

  assert_true(fd >= 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  assert_int_equal(
      connect(fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
  assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
  return fd;
}

/* Everything up to `what`, or to the end when that is NULL; closes. */
static void hear(int fd, const char *what) {
  static char text[4096];
  size_t got = 0;

  for (;;) {
    ssize_t n = recv(fd, text + got, sizeof text - 1 - got, 0);
    if (n <= 0)
      break;
    got += (size_t)n;
    text[got] = '\0';
    if (what && strstr(text, what))
      break;
  }
  text[got] = '\0';
  close(fd);
  if (what && !strstr(text, what))
    fail_msg("%s\ndoes not contain %s", text, what);
}

static void serves_and_ends_when_it_is_told(void **state) {
  struct fixture *f = *state;

  start(f, app);
  assert_int_equal(f->status.code, 0);
  hear(ask(f, "/"), "hello");
  kill(f->pid, SIGTERM);
  assert_int_equal(ended(f), 0);
}

static void finishes_running_requests_before_it_ends(void **state) {
  struct fixture *f = *state;
  int fd;

  start(f, app);
  fd = ask(f, "/slow");
  usleep(100000);
  kill(f->pid, SIGTERM);
  hear(fd, "slow");
  assert_int_equal(ended(f), 0);
}

static void answers_what_was_queued_when_it_is_told_to_end(void **state) {
  struct fixture *f = *state;
  int fds[8];

  start(f, app);
  kill(f->pid, SIGSTOP); /* so that they wait in the kernel */
  for (int i = 0; i < 8; i++)
    fds[i] = ask(f, "/");
  kill(f->pid, SIGTERM);
  kill(f->pid, SIGCONT);
  for (int i = 0; i < 8; i++)
    hear(fds[i], "hello");
  assert_int_equal(ended(f), 0);
}

static void cuts_what_takes_longer_than_the_drain_may(void **state) {
  struct fixture *f = *state;
  int fd;

  start(f, app);
  fd = ask(f, "/stuck");
  usleep(100000);
  kill(f->pid, SIGTERM);
  hear(fd, NULL); /* closed without an answer */
  assert_int_equal(ended(f), 0);
}

static void says_why_its_app_does_not_load(void **state) {
  struct fixture *f = *state;

  start(f, "\nerror('why not')\n");
  assert_int_equal(f->status.code, PL_ESCRIPT);
  assert_non_null(strstr(f->status.text, "app.lua:2: why not"));
  assert_int_equal(ended(f), 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(serves_and_ends_when_it_is_told),
      CASE(finishes_running_requests_before_it_ends),
      CASE(answers_what_was_queued_when_it_is_told_to_end),
      CASE(cuts_what_takes_longer_than_the_drain_may),
      CASE(says_why_its_app_does_not_load),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
