/* log/syslog.c - addresses of daemons, and heads before lines. */
#define _GNU_SOURCE /* IP_MTU_DISCOVER */
#include "log/syslog.h"

#include "base/err.h"
#include "log/digits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCAL_DAEMON "/dev/log"
#define SEQUENCE_MAX 2147483647u
/* The head, its longest names and numbers included. */
#define HEAD_BYTES (PL_SYSLOG_HOST_BYTES + PL_SYSLOG_APP_BYTES + 160u)

/* Memory for a record that is made smaller.  What has little fits whatever
 * stands in it: a byte becomes six at most. */
#define MEMORY_BYTES 4096u
#define MEMORY_BYTES_LEAST 1024u

/* --- addresses ----------------------------------------------------------- */

bool pl__syslog_is_meant(const char *output) {
  return strcmp(output, "syslog") == 0 || strncmp(output, "syslog:", 7) == 0;
}

static int local_address(const char *path, struct sockaddr_storage *to,
                         socklen_t *bytes) {
  struct sockaddr_un *un = (void *)to;
  size_t length = strlen(path);
  if (path[0] != '/' || length >= sizeof un->sun_path)
    return PL_EINVAL;
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, path, length + 1);
  *bytes = sizeof *un;
  return 0;
}

static int port_of(const char *text, in_port_t *port) {
  char *end;
  long number = strtol(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || number < 1 || number > 65535)
    return PL_EINVAL;
  *port = htons((uint16_t)number);
  return 0;
}

static int udp_address(const char *text, struct sockaddr_storage *to,
                       socklen_t *bytes) {
  struct sockaddr_in *v4 = (void *)to;
  struct sockaddr_in6 *v6 = (void *)to;
  const char *colon = strrchr(text, ':');
  char host[INET6_ADDRSTRLEN + 1];
  bool is_v6 = text[0] == '[';
  const char *from = text + is_v6, *end = colon - is_v6;
  if (!colon || end <= from || (size_t)(end - from) >= sizeof host ||
      (is_v6 && *end != ']'))
    return PL_EINVAL;
  memcpy(host, from, (size_t)(end - from));
  host[end - from] = '\0';
  to->ss_family = is_v6 ? AF_INET6 : AF_INET;
  *bytes = is_v6 ? sizeof *v6 : sizeof *v4;
  if (port_of(colon + 1, is_v6 ? &v6->sin6_port : &v4->sin_port))
    return PL_EINVAL;
  return inet_pton(to->ss_family, host,
                   is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr) == 1
             ? 0
             : PL_EINVAL;
}

int pl__syslog_address(const char *output, struct sockaddr_storage *to,
                       socklen_t *bytes) {
  memset(to, 0, sizeof *to);
  if (strcmp(output, "syslog") == 0)
    return local_address(LOCAL_DAEMON, to, bytes);
  if (strncmp(output, "syslog:udp://", 13) == 0)
    return udp_address(output + 13, to, bytes);
  return local_address(output + 7, to, bytes);
}

int pl__syslog_connect(const struct sockaddr_storage *to, socklen_t bytes) {
  int fragment = IP_PMTUDISC_DONT;
  int fd = socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  if (to->ss_family == AF_INET)
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &fragment, sizeof fragment);
  if (connect(fd, (const void *)to, bytes)) {
    int status = -errno;
    close(fd);
    return status;
  }
  return fd;
}

/* --- messages ------------------------------------------------------------ */

/* Names are of printable ASCII without spaces, "-" for none. */
static void name_set(char *out, size_t room, const char *name) {
  size_t n = 0;
  for (; name[n] && n + 1 < room; n++)
    out[n] = name[n] > ' ' && name[n] <= '~' ? name[n] : '_';
  if (n == 0)
    out[n++] = '-';
  out[n] = '\0';
}

void pl__syslog_init(struct pl_syslog *s, unsigned facility, const char *app,
                     int pid) {
  char host[PL_SYSLOG_HOST_BYTES] = "";
  gethostname(host, sizeof host - 1);
  *s = (struct pl_syslog){.facility = facility % 24, .pid = pid};
  pl__formatter_init(&s->stamp, PL_LOG_JSON, false, NULL);
  name_set(s->app, sizeof s->app, app);
  name_set(s->host, sizeof s->host, host);
}

static unsigned severity(unsigned level) {
  static const unsigned severities[] = {7, 6, 4, 3};
  return severities[level & 3];
}

static char *put_text(char *at, const char *text) {
  size_t bytes = strlen(text);
  memcpy(at, text, bytes);
  return at + bytes;
}

static int put_head(struct pl_syslog *s, const struct pl_record *head,
                    struct pl_buf *out) {
  int status = pl__buf_reserve(out, HEAD_BYTES);
  if (status)
    return status;
  char *at = put_text(out->at + out->bytes, "<");
  at = pl__put_u64(at, s->facility * 8 + severity(head->level));
  at = put_text(at, ">1 ");
  at = pl__format_time(&s->stamp, at, head->time_ns);
  *at++ = ' ';
  at = put_text(at, s->host);
  *at++ = ' ';
  at = put_text(at, s->app);
  *at++ = ' ';
  at = pl__put_u64(at, (uint64_t)s->pid);
  at = put_text(at, head->kind == PL_RECORD_ACCESS ? " request " : " log ");
  at = put_text(at, "[meta sequenceId=\"");
  at = pl__put_u64(at, s->sequence % SEQUENCE_MAX + 1);
  at = put_text(at, "\"] ");
  out->bytes = (uint32_t)(at - out->at);
  return 0;
}

static struct pl_slice cut(struct pl_slice text, uint32_t max) {
  return pl__slice(text.at, text.bytes < max ? text.bytes : max);
}

/* The same LOG record in less memory: its texts are cut, fields that find no
 * room left out. */
static int make_smaller(const void *record, uint32_t bytes, char *memory,
                        uint32_t room, struct pl_record_draft *draft) {
  struct pl_record head;
  struct pl_record_log_view view;
  struct pl_field field;
  int status = pl__record_read(record, bytes, &head);
  status = status ? status : pl__record_read_log(record, bytes, &view);
  if (status)
    return status;
  pl__record_begin(draft, memory, room, &head, cut(view.message, room / 2));
  pl__record_bool(draft, PL_SLICE("cut"), 1);
  while ((status = pl__record_field(&view, &field)) == 1) {
    if (field.type == PL_FIELD_STRING)
      pl__record_str(draft, field.key, cut(field.text, room / 8));
    else if (field.type == PL_FIELD_NUMBER)
      pl__record_num(draft, field.key, field.number);
    else
      pl__record_bool(draft, field.key, field.number != 0);
  }
  return status;
}

/* Appends one message; PL_EFULL when it is too long. */
static int put_message(struct pl_syslog *s, struct pl_formatter *f,
                       const void *record, uint32_t bytes, struct pl_buf *out) {
  uint32_t start = out->bytes;
  struct pl_record head;
  int status = pl__record_read(record, bytes, &head);
  status = status ? status : put_head(s, &head, out);
  status = status ? status : pl__format_record(f, record, bytes, out);
  if (!status && out->bytes - start > PL_LIMIT_LOG_SYSLOG_BYTES)
    status = PL_EFULL;
  if (status)
    out->bytes = start;
  else
    out->at[out->bytes - 1] = '\0'; /* where the line had its end */
  return status;
}

/* What is too long for a message, in one that is not.  `memory` holds the
 * result; the last thing to go is the route's pattern. */
static int put_smaller(struct pl_syslog *s, struct pl_formatter *f,
                       const void *record, uint32_t bytes, struct pl_buf *out) {
  static const uint32_t rooms[] = {MEMORY_BYTES, MEMORY_BYTES_LEAST};
  _Alignas(8) char memory[MEMORY_BYTES];
  struct pl_record_draft draft = {.at = memory, .bytes = bytes};
  struct pl_record head;
  int status = pl__record_read(record, bytes, &head);
  for (unsigned i = 0; !status && head.kind == PL_RECORD_LOG && i < 2; i++) {
    status = make_smaller(record, bytes, memory, rooms[i], &draft);
    status = status ? status : put_message(s, f, memory, draft.bytes, out);
    if (status != PL_EFULL)
      return status;
    status = 0;
  }
  if (status || draft.bytes > sizeof memory)
    return status ? status : PL_EFULL;
  if (head.kind == PL_RECORD_ACCESS)
    memcpy(memory, record, bytes);
  ((struct pl_record *)(void *)memory)->route = PL_RECORD_NO_ROUTE;
  return put_message(s, f, memory, draft.bytes, out);
}

int pl__syslog_record(struct pl_syslog *s, struct pl_formatter *f,
                      const void *record, uint32_t bytes, struct pl_buf *out) {
  int status = put_message(s, f, record, bytes, out);
  if (status == PL_EFULL)
    status = put_smaller(s, f, record, bytes, out);
  if (status == 0)
    s->sequence = s->sequence % SEQUENCE_MAX + 1;
  return status;
}
