/* server/modules.c - see modules.h. */
#include "server/modules.h"
#include "base/err.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int pl__modules_folder(char *out, size_t bytes) {
  char program[PATH_MAX], probe[PATH_MAX + 64];
  ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
  char *slash;

  snprintf(out, bytes, "/proc/self/exe");
  if (n < 0)
    return PL_EFAIL;
  program[n] = '\0';
  for (int up = 0; up < 2; up++) {
    slash = strrchr(program, '/');
    if (slash)
      *slash = '\0';
  }
  if ((size_t)snprintf(out, bytes, "%s/share/lua/5.1", program) >= bytes)
    return PL_EFAIL;
  snprintf(probe, sizeof probe, "%s/perilune/init.lua", out);
  return access(probe, R_OK) ? PL_EFAIL : 0;
}
