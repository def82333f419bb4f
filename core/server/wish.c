/* server/wish.c - see wish.h. */
#include "server/wish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "fabric/record.h"
#include "server/channel.h"

#define LINE_BYTES 128u

int pl__wish_level(const char *name) {
  for (int level = PL_LEVEL_DEBUG; level <= PL_LEVEL_ERROR; level++)
    if (strcmp(pl__level_name((unsigned)level), name) == 0)
      return level;
  return -1;
}

static int say_level(int fd, const char *rest) {
  char name[16];
  int seconds;

  if (sscanf(rest, "%15s %d", name, &seconds) != 2 ||
      pl__wish_level(name) < 0 || seconds < 1 || seconds > PL_WISH_SECONDS_MAX)
    return PL_EINVAL;
  return pl__channel_say(fd, PL_NEWS_WISH, PL_WISH_LEVEL, seconds, name);
}

int pl__wish_say(int channel_fd, struct pl_slice line) {
  char text[LINE_BYTES], *rest;

  if (line.bytes >= sizeof text)
    return PL_EINVAL;
  memcpy(text, line.at, line.bytes);
  text[line.bytes] = '\0';
  rest = text + strcspn(text, " ");
  if (*rest)
    *rest++ = '\0';
  if (strcmp(text, "worker") == 0)
    return pl__channel_say(channel_fd, PL_NEWS_WISH, PL_WISH_WORKER,
                           (int)strtol(rest, NULL, 10), NULL);
  if (strcmp(text, "collect") == 0)
    return pl__channel_say(channel_fd, PL_NEWS_WISH, PL_WISH_COLLECT, 0, NULL);
  if (strcmp(text, "record") == 0)
    return pl__channel_say(channel_fd, PL_NEWS_WISH, PL_WISH_RECORD, 0, rest);
  return strcmp(text, "level") == 0 ? say_level(channel_fd, rest) : PL_EINVAL;
}
