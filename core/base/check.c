/* base/check.c - where a failed assertion ends. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void pl__check_failed(const char *what, const char *file, int line) {
  fprintf(stderr, "%s:%d: %s\n", file, line, what);
  fflush(stderr);
  abort();
}
