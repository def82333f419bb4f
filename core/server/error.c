/* server/error.c - sentences for codes, ours and the system's. */
#include "server/error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "base/err.h"
#include "perilune.h"

#define SAME(ours, theirs)                                                     \
  _Static_assert((int)(ours) == (int)(theirs), "perilune.h repeats "           \
                                               "base/err.h")
SAME(PL_ENOMEM, PL_ERROR_MEMORY);
SAME(PL_EINVAL, PL_ERROR_INVALID);
SAME(PL_ESCRIPT, PL_ERROR_SCRIPT);
SAME(PL_ECONFIG, PL_ERROR_CONFIG);
SAME(PL_EBIND, PL_ERROR_BIND);
SAME(PL_ENOTRUNNING, PL_ERROR_NOT_RUNNING);
SAME(PL_ETIMEOUT, PL_ERROR_TIMEOUT);
SAME(PL_EUSAGE, PL_ERROR_USAGE);
SAME(PL_EFAIL, PL_ERROR_FAILED);

/* libuv's codes are negated errno values where the system has one, and have
 * static sentences, which strerror cannot promise. */
static const char *system_text(int code) {
  switch (code) {
#define UV_TEXT(name, text)                                                    \
  case UV_##name:                                                              \
    return text;
    UV_ERRNO_MAP(UV_TEXT)
#undef UV_TEXT
  }
  return "unknown error";
}

const char *pl_strerror(int code) {
  switch (code) {
  case 0:
    return "success";
#define OUR_TEXT(name, number, text)                                           \
  case number:                                                                 \
    return text;
    PL_ERRORS(OUR_TEXT)
#undef OUR_TEXT
  }
  return system_text(code);
}

int pl__error_set(struct pl_error *e, int code, const char *format, ...) {
  va_list args;

  if (!e)
    return code;
  e->code = code;
  if (!format) {
    snprintf(e->text, sizeof(e->text), "%s", pl_strerror(code));
    return code;
  }
  va_start(args, format);
  vsnprintf(e->text, sizeof(e->text), format, args);
  va_end(args);
  return code;
}

int pl__error_clear(struct pl_error *e) {
  if (e) {
    e->code = 0;
    e->text[0] = '\0';
  }
  return 0;
}
