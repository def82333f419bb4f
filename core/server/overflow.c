/* server/overflow.c - see overflow.h. */
#include "server/overflow.h"

#include <errno.h>
#include <poll.h>

#include "base/err.h"
#include "server/config.h"

#define LINE_BYTES_MAX                                                         \
  (8u * PL_LIMIT_LOG_RECORD_BYTES + 8u * PL_LIMIT_ROUTES_BYTES)

static enum pl_log_format format_of(const struct pl_config *config,
                                    const struct pl_sink *sink) {
  bool is_console = config->log_format == PL_CONFIG_LOG_AUTO
                        ? pl__sink_is_tty(sink)
                        : config->log_format == PL_CONFIG_LOG_CONSOLE;
  return is_console ? PL_LOG_CONSOLE : PL_LOG_JSON;
}

/* All of it, or what was taken before nothing more was. */
static size_t write_patiently(struct pl_sink *sink, const char *at,
                              size_t bytes) {
  struct pollfd p = {.fd = sink->fd, .events = POLLOUT};
  size_t taken = 0, n;
  int status;

  do {
    status = pl__sink_write(sink, at + taken, bytes - taken, &n);
    taken += n;
  } while (status == -EAGAIN && poll(&p, 1, PL_OVERFLOW_PATIENCE_MS) > 0);
  return taken;
}

static int write_record(void *arg, const void *record, uint32_t bytes) {
  struct pl_overflow *o = arg;
  size_t taken;
  int status = 0;

  o->line.bytes = 0;
  if (o->torn)
    status = pl__buf_append(&o->line, "\n", 1);
  if (!status)
    status = pl__format_record(&o->formatter, record, bytes, &o->line);
  if (status)
    return status;
  taken = write_patiently(&o->sink, o->line.at, o->line.bytes);
  status = taken == o->line.bytes ? 0 : PL_EFULL;
  if (taken)
    o->torn = status != 0;
  o->count += status == 0;
  pl__buf_release(&o->line);
  return status;
}

void pl__overflow_tell(struct pl_overflow *o, struct pl_ring_writer *w,
                       uint16_t worker) {
  _Alignas(8) char memory[256];
  const struct pl_record head = {
      .level = PL_LEVEL_WARN, .worker = worker, .route = PL_RECORD_NO_ROUTE};
  struct pl_record_draft draft;

  if (!o->count)
    return;
  pl__record_begin(
      &draft, memory, sizeof memory, &head,
      PL_SLICE("log records written to stderr: the ring was full"));
  pl__record_num(&draft, PL_SLICE("error"), (double)o->count);
  if (!pl__record_try_end(&draft, w))
    o->count = 0;
}

void pl__overflow_attach(struct pl_overflow *o, struct pl_ring_writer *w,
                         int fd, const struct pl_config *config,
                         const struct pl_routes *routes) {
  *o = (struct pl_overflow){0};
  pl__buf_init(&o->line, NULL, LINE_BYTES_MAX);
  if (pl__sink_open_fd(&o->sink, fd))
    return;
  pl__formatter_init(&o->formatter, format_of(config, &o->sink), false, routes);
  w->overflow = write_record;
  w->overflow_arg = o;
}

void pl__overflow_detach(struct pl_overflow *o, struct pl_ring_writer *w) {
  w->overflow = NULL;
  pl__sink_close(&o->sink);
  pl__buf_release(&o->line);
}
