/* log/syslog.h - one record becomes one syslog message (RFC 5424).
 *
 *   <PRI>1 TIME HOST APP PID MSGID [meta sequenceId="N"] MSG
 *
 * MSG is the line that a file would get, JSON or console: values keep their
 * types, and receivers that know nothing of structured data lose nothing.
 * MSGID is "request" or "log".  The sequence id (7.3.1) is what a message is
 * known by that came twice.  In a buffer each message ends with a NUL, which a
 * line never has.
 *
 * A message is at most PL_LIMIT_LOG_SYSLOG_BYTES long: a record that does not
 * fit has its texts cut, and says so.
 */
#ifndef PL_LOG_SYSLOG_H
#define PL_LOG_SYSLOG_H

#include "log/format.h"

#include <sys/socket.h>

#define PL_SYSLOG_APP_BYTES 49u   /* APP-NAME, NUL included */
#define PL_SYSLOG_HOST_BYTES 256u /* HOSTNAME, the same */

struct pl_syslog {
  unsigned facility; /* 0 to 23 */
  int pid;           /* of the server */
  uint32_t sequence; /* of the last message */
  struct pl_formatter stamp;
  char app[PL_SYSLOG_APP_BYTES];
  char host[PL_SYSLOG_HOST_BYTES];
};

/* True for what begins with "syslog" as no path would: "syslog", "syslog:...".
 */
bool pl__syslog_is_meant(const char *output);

/* "syslog" (/dev/log), "syslog:/path", "syslog:udp://192.0.2.1:514" or
 * "syslog:udp://[::1]:514": numbers only, as looking up names makes one wait.
 * Returns 0 or PL_EINVAL. */
int pl__syslog_address(const char *output, struct sockaddr_storage *to,
                       socklen_t *bytes);

/* A socket that sends there, or a negated errno. */
int pl__syslog_connect(const struct sockaddr_storage *to, socklen_t bytes);

/* What RFC 5424 knows a name of these for: "daemon", "local0", ...  All of
 * them, separated by spaces, in the order of their numbers. */
#define PL_SYSLOG_FACILITIES                                                   \
  "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp "     \
  "audit alert clock local0 local1 local2 local3 local4 local5 local6 local7"

/* Takes the host's name; `app` is cut to what is allowed. */
void pl__syslog_init(struct pl_syslog *s, unsigned facility, const char *app,
                     int pid);

/* Appends the message for the record, and a NUL.  Returns as pl__format_record;
 * `f` must not colour. */
int pl__syslog_record(struct pl_syslog *s, struct pl_formatter *f,
                      const void *record, uint32_t bytes, struct pl_buf *out);

#endif /* PL_LOG_SYSLOG_H */
