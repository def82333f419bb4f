/* test/log/test_syslog.c - addresses, messages, and daemons that come and go. */
#include "log/syslog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "log/sink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static struct pl_syslog syslog;
static struct pl_formatter formatter;
static struct pl_buf out;
static char path[64];
static char got[65536];
static _Alignas(128) char ring_memory[sizeof(struct pl_ring) + 65536];

static int make_all(void **state) {
  (void)state;
  pl__syslog_init(&syslog, 3, "notes", 4711);
  pl__formatter_init(&formatter, PL_LOG_JSON, false, NULL);
  pl__buf_init(&out, NULL, 1 << 20);
  snprintf(path, sizeof path, "/tmp/perilune-syslog-XXXXXX");
  close(mkstemp(path));
  unlink(path);
  return 0;
}

static int free_all(void **state) {
  (void)state;
  pl__buf_release(&out);
  unlink(path);
  return 0;
}

/* A daemon at `path`. */
static int listen_here(void) {
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
  assert_int_equal(bind(fd, (void *)&un, sizeof un), 0);
  return fd;
}

static const char *receive(int fd) {
  ssize_t n = recv(fd, got, sizeof got - 1, 0);
  got[n > 0 ? n : 0] = 0;
  return got;
}

static int open_here(struct pl_sink *s) {
  char text[128];
  snprintf(text, sizeof text, "syslog:%s", path);
  return pl__sink_open(s, text);
}

static void put(enum pl_level level, const char *message) {
  _Alignas(8) char memory[32768];
  struct pl_record_draft draft;
  struct pl_record head = {.level = (uint8_t)level,
                           .route = PL_RECORD_NO_ROUTE,
                           .time_ns = 1065910455003000000};
  pl__record_begin(&draft, memory, sizeof memory, &head,
                   pl__slice(message, strlen(message)));
  pl__record_num(&draft, PL_SLICE("answer"), 42);
  ((struct pl_record *)(void *)memory)->kind = PL_RECORD_LOG;
  struct pl_ring *ring = (void *)ring_memory;
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  uint32_t bytes;
  pl__ring_init(ring, 65536);
  pl__ring_writer_init(&w, ring, -1);
  assert_int_equal(pl__record_end(&draft, &w), 0);
  pl__ring_reader_init(&r, ring);
  const void *record = pl__ring_peek(&r, &bytes);
  assert_int_equal(pl__syslog_record(&syslog, &formatter, record, bytes, &out),
                   0);
}

static void understands_addresses(void **state) {
  (void)state;
  struct sockaddr_storage to;
  socklen_t bytes;
  const struct sockaddr_un *un = (void *)&to;
  const struct sockaddr_in *v4 = (void *)&to;
  const struct sockaddr_in6 *v6 = (void *)&to;
  assert_int_equal(pl__syslog_address("syslog", &to, &bytes), 0);
  assert_string_equal(un->sun_path, "/dev/log");
  assert_int_equal(pl__syslog_address("syslog:/run/log", &to, &bytes), 0);
  assert_string_equal(un->sun_path, "/run/log");
  assert_int_equal(
      pl__syslog_address("syslog:udp://127.0.0.1:514", &to, &bytes), 0);
  assert_int_equal(ntohs(v4->sin_port), 514);
  assert_int_equal(ntohl(v4->sin_addr.s_addr), 0x7f000001);
  assert_int_equal(pl__syslog_address("syslog:udp://[::1]:1514", &to, &bytes),
                   0);
  assert_int_equal(v6->sin6_family, AF_INET6);
  assert_int_equal(ntohs(v6->sin6_port), 1514);
}

static void refuses_what_is_no_address(void **state) {
  (void)state;
  static const char *const bad[] = {
      "syslog:",
      "syslog:relative/path",
      "syslog:udp://",
      "syslog:udp://127.0.0.1",
      "syslog:udp://127.0.0.1:",
      "syslog:udp://127.0.0.1:0",
      "syslog:udp://127.0.0.1:65536",
      "syslog:udp://127.0.0.1:5x",
      "syslog:udp://:514",
      "syslog:udp://[::1:514",
      "syslog:udp://[]:514",
      "syslog:udp://localhost:514",
      "syslog:tcp://127.0.0.1:514",
  };
  struct pl_sink s;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (pl__sink_open(&s, bad[i]) != PL_EINVAL)
      fail_msg("%s was taken", bad[i]);
  assert_false(pl__syslog_is_meant("syslog.txt"));
  assert_false(pl__syslog_is_meant("/var/log/syslog"));
}

static void makes_messages_by_rfc_5424(void **state) {
  (void)state;
  char host[PL_SYSLOG_HOST_BYTES] = "", expected[1024];
  gethostname(host, sizeof host - 1);
  put(PL_LEVEL_WARN, "a \"b\"\nc");
  snprintf(expected, sizeof expected,
           "<28>1 2003-10-11T22:14:15.003Z %s notes 4711 log "
           "[meta sequenceId=\"1\"] "
           "{\"time\":\"2003-10-11T22:14:15.003Z\",\"level\":\"warn\","
           "\"msg\":\"a \\\"b\\\"\\nc\",\"worker\":0,\"answer\":42}",
           host);
  assert_string_equal(out.at, expected);
  assert_int_equal(out.bytes, strlen(expected) + 1);
}

static void the_level_is_the_severity(void **state) {
  (void)state;
  static const char *const heads[] = {"<191>1 ", "<190>1 ", "<188>1 ",
                                      "<187>1 "};
  syslog.facility = 23;
  for (unsigned level = 0; level < 4; level++) {
    out.bytes = 0;
    put(level, "x");
    assert_memory_equal(out.at, heads[level], strlen(heads[level]));
  }
}

static void numbers_messages_and_begins_again_at_one(void **state) {
  (void)state;
  syslog.sequence = 2147483646;
  put(PL_LEVEL_INFO, "x");
  assert_non_null(strstr(out.at, "sequenceId=\"2147483647\""));
  out.bytes = 0;
  put(PL_LEVEL_INFO, "x");
  assert_non_null(strstr(out.at, "sequenceId=\"1\""));
}

static void names_are_printable_and_of_limited_length(void **state) {
  (void)state;
  char name[100];
  memset(name, 'n', sizeof name - 1);
  name[99] = 0;
  name[2] = ' ';
  pl__syslog_init(&syslog, 3, name, 1);
  assert_int_equal(strlen(syslog.app), 48);
  assert_int_equal(syslog.app[2], '_');
  pl__syslog_init(&syslog, 3, "", 1);
  assert_string_equal(syslog.app, "-");
}

static void a_long_record_is_cut_and_says_so(void **state) {
  (void)state;
  static char message[16001];
  memset(message, '\1', 16000); /* six bytes each in JSON */
  put(PL_LEVEL_ERROR, message);
  assert_true(out.bytes <= PL_LIMIT_LOG_SYSLOG_BYTES);
  assert_non_null(strstr(out.at, "\"cut\":true"));
  assert_non_null(strstr(out.at, "\"answer\":42}"));
  assert_int_equal(out.at[out.bytes - 2], '}');
}

static void each_message_is_a_datagram(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  int fd = listen_here();
  assert_int_equal(open_here(&s), 0);
  assert_int_equal(s.medium, PL_MEDIUM_MESSAGES);
  put(PL_LEVEL_INFO, "one");
  put(PL_LEVEL_INFO, "two");
  assert_int_equal(pl__sink_write(&s, out.at, out.bytes, &taken), 0);
  assert_int_equal(taken, out.bytes);
  assert_non_null(strstr(receive(fd), "\"msg\":\"one\""));
  assert_int_equal(got[strlen(got) - 1], '}');
  assert_non_null(strstr(receive(fd), "\"msg\":\"two\""));
  assert_string_equal(receive(fd), "");
  pl__sink_close(&s);
  close(fd);
}

static void a_daemon_may_come_later_go_and_come_back(void **state) {
  (void)state;
  struct pl_sink s;
  size_t taken;
  assert_int_equal(open_here(&s), 0);
  assert_int_equal(pl__sink_write(&s, "1", 2, &taken), -ENOENT);
  assert_int_equal(taken, 0);
  for (int i = 0; i < 3; i++) {
    int fd = listen_here();
    assert_int_equal(pl__sink_write(&s, "1", 2, &taken), 0);
    assert_string_equal(receive(fd), "1");
    close(fd);
    assert_int_equal(pl__sink_write(&s, "2", 2, &taken), -ECONNREFUSED);
    unlink(path);
  }
  pl__sink_close(&s);
}

static void a_daemon_that_reads_nothing_blocks_nobody(void **state) {
  (void)state;
  static char message[4096];
  struct pl_sink s;
  size_t taken;
  int fd = listen_here(), sent = 0, received = 0;
  memset(message, 'x', sizeof message - 1);
  assert_int_equal(open_here(&s), 0);
  while (pl__sink_write(&s, message, sizeof message, &taken) == 0)
    sent++;
  assert_int_equal(taken, 0);
  assert_int_equal(pl__sink_write(&s, message, sizeof message, &taken),
                   -EAGAIN);
  while (receive(fd)[0])
    received++;
  assert_int_equal(sent, received);
  assert_int_equal(pl__sink_write(&s, message, sizeof message, &taken), 0);
  pl__sink_close(&s);
  close(fd);
}

static void what_udp_tells_to_be_refused_is_counted(void **state) {
  (void)state;
  struct sockaddr_in in = {.sin_family = AF_INET,
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t bytes = sizeof in;
  struct pl_sink s;
  size_t taken;
  char text[64];
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  assert_int_equal(bind(fd, (void *)&in, bytes), 0);
  assert_int_equal(getsockname(fd, (void *)&in, &bytes), 0);
  snprintf(text, sizeof text, "syslog:udp://127.0.0.1:%u",
           (unsigned)ntohs(in.sin_port));
  assert_int_equal(pl__sink_open(&s, text), 0);
  assert_int_equal(pl__sink_write(&s, "1", 2, &taken), 0);
  assert_string_equal(receive(fd), "1");
  assert_int_equal(s.refused_count, 0);
  close(fd);
  for (int i = 0; i < 5; i++)
    assert_int_equal(pl__sink_write(&s, "2", 2, &taken), 0);
  assert_in_range(s.refused_count, 1, 5);
  pl__sink_close(&s);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_all, free_all)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(understands_addresses),
      FACT(refuses_what_is_no_address),
      FACT(makes_messages_by_rfc_5424),
      FACT(the_level_is_the_severity),
      FACT(numbers_messages_and_begins_again_at_one),
      FACT(names_are_printable_and_of_limited_length),
      FACT(a_long_record_is_cut_and_says_so),
      FACT(each_message_is_a_datagram),
      FACT(a_daemon_may_come_later_go_and_come_back),
      FACT(a_daemon_that_reads_nothing_blocks_nobody),
      FACT(what_udp_tells_to_be_refused_is_counted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
