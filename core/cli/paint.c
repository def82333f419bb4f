/* cli/paint.c - decides on colour. */
#include "cli/paint.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_set(const char *name) {
  const char *value = getenv(name);
  return value && *value;
}

static bool is_painted(int fd) {
  const char *term = getenv("TERM");

  if (is_set("NO_COLOR"))
    return false;
  if (is_set("FORCE_COLOR"))
    return true;
  return isatty(fd) && !(term && strcmp(term, "dumb") == 0);
}

const char *pl__cli_paint(int fd, enum paint paint) {
  static const char *const begin[] = {[PAINT_BOLD] = "\033[1m",
                                      [PAINT_ERROR] = "\033[1;31m",
                                      [PAINT_DIM] = "\033[2m"};
  return is_painted(fd) ? begin[paint] : "";
}

const char *pl__cli_paint_end(int fd) {
  return is_painted(fd) ? "\033[0m" : "";
}
