/* http/response_parser.c - see response_parser.h. */
#include "http/response_parser.h"

#include <llhttp/llhttp.h>
#include <stddef.h>
#include <string.h>

#include "base/text.h"
#include "http/date.h"

#define STATUS_MAX 999u
#define RETRY_SECONDS_MAX 86400u

_Static_assert(sizeof(llhttp_t) <= PL_RESPONSE_PARSER_BYTES,
               "llhttp's state fits its room");

static llhttp_t *llhttp_of(struct pl_response_parser *p) {
  return (llhttp_t *)(void *)p->room.bytes;
}

static void keep(char *to, uint32_t *used, uint32_t cap, const char *at,
                 size_t bytes) {
  size_t free = cap - *used;

  if (bytes > free)
    bytes = free;
  memcpy(to + *used, at, bytes);
  *used += (uint32_t)bytes;
}

/* --- callbacks of llhttp ------------------------------------------------- */

static int on_begin(llhttp_t *l) {
  struct pl_response_parser *p = l->data;

  p->name_bytes = p->value_bytes = 0;
  p->retry = PL_RESPONSE_RETRY_NONE;
  return 0;
}

static int on_field(llhttp_t *l, const char *at, size_t bytes) {
  struct pl_response_parser *p = l->data;

  keep(p->name, &p->name_bytes, sizeof p->name, at, bytes);
  return 0;
}

static int on_value(llhttp_t *l, const char *at, size_t bytes) {
  struct pl_response_parser *p = l->data;

  keep(p->value, &p->value_bytes, sizeof p->value, at, bytes);
  return 0;
}

static int on_value_complete(llhttp_t *l) {
  struct pl_response_parser *p = l->data;
  struct pl_slice name = pl__slice(p->name, p->name_bytes);
  struct pl_slice value = pl__slice(p->value, p->value_bytes);
  uint64_t seconds;
  int64_t date;

  p->name_bytes = p->value_bytes = 0;
  if (!pl__slice_equal_nocase(name, PL_SLICE("retry-after")))
    return 0;
  while (value.bytes && value.at[value.bytes - 1] == ' ')
    value.bytes--;
  if (!pl__text_number(value, RETRY_SECONDS_MAX, &seconds)) {
    p->retry = (int64_t)seconds;
    p->retry_is_at = false;
  } else if (!pl__date_parse(value, &date)) {
    p->retry = date;
    p->retry_is_at = true;
  }
  return 0;
}

static int on_head(llhttp_t *l) {
  struct pl_response_parser *p = l->data;

  if (l->status_code < 100 || l->status_code > STATUS_MAX)
    return HPE_USER;
  p->is_interim = l->status_code < 200;
  if (p->is_interim)
    return 0;
  p->status = (uint16_t)l->status_code;
  p->has_head = true;
  return 0;
}

static int on_body(llhttp_t *l, const char *at, size_t bytes) {
  struct pl_response_parser *p = l->data;

  keep(p->body, &p->body_bytes, sizeof p->body, at, bytes);
  return 0;
}

static int on_complete(llhttp_t *l) {
  struct pl_response_parser *p = l->data;

  if (p->is_interim)
    return 0;
  p->keep_alive = llhttp_should_keep_alive(l) != 0;
  p->is_done = true;
  return HPE_PAUSED;
}

static const llhttp_settings_t SETTINGS = {
    .on_message_begin = on_begin,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/* --- a life ---------------------------------------------------------------- */

void pl__response_parser_init(struct pl_response_parser *p) {
  memset(p, 0, offsetof(struct pl_response_parser, body));
  p->retry = PL_RESPONSE_RETRY_NONE;
  llhttp_init(llhttp_of(p), HTTP_RESPONSE, &SETTINGS);
  llhttp_of(p)->data = p;
}

enum pl_response_outcome pl__response_parser_run(struct pl_response_parser *p,
                                                 struct pl_slice bytes) {
  llhttp_errno_t error;

  if (p->bytes + bytes.bytes > PL_RESPONSE_BYTES_MAX)
    return PL_RESPONSE_BAD;
  p->bytes += bytes.bytes;
  error = llhttp_execute(llhttp_of(p), bytes.at, bytes.bytes);
  if (p->is_done) {
    /* What follows an answer was not asked for. */
    if (llhttp_get_error_pos(llhttp_of(p)) != bytes.at + bytes.bytes)
      p->keep_alive = false;
    return PL_RESPONSE_DONE;
  }
  if (error != HPE_OK ||
      (!p->has_head && p->bytes > PL_RESPONSE_HEAD_BYTES_MAX))
    return PL_RESPONSE_BAD;
  return PL_RESPONSE_MORE;
}

enum pl_response_outcome
pl__response_parser_finish(struct pl_response_parser *p) {
  if (!p->is_done && p->has_head)
    llhttp_finish(llhttp_of(p));
  p->keep_alive = false;
  return p->is_done ? PL_RESPONSE_DONE : PL_RESPONSE_BAD;
}
