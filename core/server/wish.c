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

static int say_level(int fd, uint32_t number, const char *rest) {
  char name[16];
  int seconds;

  if (sscanf(rest, "%15s %d", name, &seconds) != 2 ||
      pl__wish_level(name) < 0 || seconds < 1 || seconds > PL_WISH_SECONDS_MAX)
    return PL_EINVAL;
  return pl__channel_say(fd, PL_NEWS_WISH, pl__wish_word(PL_WISH_LEVEL, number),
                         seconds, name);
}

int pl__wish_say(int channel_fd, uint32_t number, struct pl_slice line) {
  char text[LINE_BYTES], *rest;
  enum pl_wish which;
  int code = 0;

  if (line.bytes >= sizeof text)
    return PL_EINVAL;
  memcpy(text, line.at, line.bytes);
  text[line.bytes] = '\0';
  rest = text + strcspn(text, " ");
  if (*rest)
    *rest++ = '\0';
  if (strcmp(text, "level") == 0)
    return say_level(channel_fd, number, rest);
  if (strcmp(text, "worker") == 0)
    which = PL_WISH_WORKER, code = (int)strtol(rest, NULL, 10);
  else if (strcmp(text, "collect") == 0)
    which = PL_WISH_COLLECT;
  else if (strcmp(text, "record") == 0)
    which = PL_WISH_RECORD;
  else
    return PL_EINVAL;
  return pl__channel_say(channel_fd, PL_NEWS_WISH, pl__wish_word(which, number),
                         code, rest);
}
