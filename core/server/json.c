/* server/json.c - see json.h. */
#include "server/json.h"

#include <stdarg.h>
#include <stdio.h>

#include "log/digits.h"

void pl__json_put(struct pl_json *j, const char *format, ...) {
  va_list args;

  va_start(args, format);
  if (!j->failed)
    j->failed = pl__buf_format(j->out, format, args);
  va_end(args);
}

void pl__json_string(struct pl_json *j, struct pl_slice text) {
  char *at;

  pl__json_put(j, "\"");
  if (!j->failed)
    j->failed = pl__buf_reserve(j->out, text.bytes * PL_DIGITS_JSON_FACTOR);
  if (j->failed)
    return;
  at = pl__put_json(j->out->at + j->out->bytes, text);
  j->out->bytes = (uint32_t)(at - j->out->at);
  pl__json_put(j, "\"");
}
