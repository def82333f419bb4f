/* server/replay.c - see replay.h. */
#include "server/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "server/config.h"
#include "server/recording.h"

#define LINE_BYTES 64u

static void close_one(struct pl_replay_one *one) {
  pl__timeline_close(one->timeline);
  *one = (struct pl_replay_one){0};
}

static struct pl_replay_one *find_free(struct pl_replay *r, int64_t now) {
  for (uint32_t i = 0; i < PL_REPLAYS_MAX; i++) {
    struct pl_replay_one *one = &r->all[i];
    if (one->timeline &&
        now - one->asked_ns > PL_REPLAY_IDLE_S * (int64_t)PL_NS_PER_S)
      close_one(one);
    if (!one->timeline)
      return one;
  }
  return NULL;
}

static int answer_open(struct pl_replay *r, double ago, struct pl_buf *out) {
  int64_t now = pl__clock_monotonic_ns();
  struct pl_replay_one *one = find_free(r, now);
  char text[16];
  int failed;

  if (!one)
    return PL_EFULL;
  failed = pl__recording_open(&one->timeline, r->fabric, r->config->name,
                              (int)getppid(), ago);
  if (failed)
    return failed;
  one->number = ++r->number;
  one->asked_ns = now;
  snprintf(text, sizeof text, "%u", one->number);
  return pl__buf_append(out, text, (uint32_t)strlen(text));
}

static int answer_end(struct pl_replay_one *one, struct pl_buf *out) {
  int status;

  if (one->has_ended) {
    close_one(one);
    return 0;
  }
  status = pl__timeline_end(one->timeline, PL_TIMELINE_PIECE_BYTES, out);
  one->has_ended = status == 0;
  return status < 0 ? status : 0;
}

static int answer_one(struct pl_replay_one *one, const char *verb,
                      struct pl_buf *out) {
  int status = 0;

  one->asked_ns = pl__clock_monotonic_ns();
  if (strcmp(verb, "look") == 0)
    pl__timeline_look(one->timeline);
  else if (strcmp(verb, "next") == 0)
    status = pl__timeline_write(one->timeline, PL_TIMELINE_PIECE_BYTES, out);
  else if (strcmp(verb, "end") == 0)
    status = answer_end(one, out);
  else if (strcmp(verb, "close") == 0)
    close_one(one);
  else
    return PL_EINVAL;
  return status < 0 ? status : 0;
}

int pl__replay_answer(struct pl_replay *r, struct pl_slice line,
                      struct pl_buf *out) {
  char text[LINE_BYTES], *number;

  if (line.bytes >= sizeof text)
    return PL_EINVAL;
  memcpy(text, line.at, line.bytes);
  text[line.bytes] = '\0';
  number = strchr(text, ' ');
  if (!number)
    return PL_EINVAL;
  *number++ = '\0';
  if (strcmp(text, "open") == 0)
    return answer_open(r, strtod(number, NULL), out);
  for (uint32_t i = 0; i < PL_REPLAYS_MAX; i++)
    if (r->all[i].timeline && r->all[i].number == strtoul(number, NULL, 10))
      return answer_one(&r->all[i], text, out);
  return PL_EINVAL;
}

void pl__replay_init(struct pl_replay *r, const struct pl_fabric *fabric,
                     const struct pl_config *config) {
  *r = (struct pl_replay){.fabric = fabric, .config = config};
}

void pl__replay_deinit(struct pl_replay *r) {
  for (uint32_t i = 0; i < PL_REPLAYS_MAX; i++)
    close_one(&r->all[i]);
}
