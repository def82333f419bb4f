/* server/backlog.c - see backlog.h. */
#include "server/backlog.h"

#include <stddef.h>

#include "base/alloc.h"

void pl__backlog_init(struct pl_backlog *b, uint32_t count_max) {
  *b = (struct pl_backlog){.count_max = count_max};
}

static struct pl_backlog_item *line_take(struct pl_backlog_line *line) {
  struct pl_backlog_item *item = line->first;

  if (!item)
    return NULL;
  line->first = item->next;
  if (!line->first)
    line->last = NULL;
  line->count--;
  item->next = NULL;
  return item;
}

void pl__backlog_deinit(struct pl_backlog *b) {
  struct pl_backlog_item *item;

  while ((item = pl__backlog_take(b)))
    pl__free(item);
}

static void line_put(struct pl_backlog_line *line,
                     struct pl_backlog_item *item) {
  if (line->last)
    line->last->next = item;
  else
    line->first = item;
  line->last = item;
  line->count++;
}

uint32_t pl__backlog_push(struct pl_backlog *b, struct pl_slice bytes,
                          bool must_arrive) {
  struct pl_backlog_item *item;
  uint32_t dropped = 0;

  if (pl__backlog_count(b) >= b->count_max) {
    item = must_arrive ? line_take(&b->lines[0]) : NULL;
    if (!item)
      return 1;
    pl__free(item);
    dropped = 1;
  }
  item = pl__alloc(sizeof *item + bytes.bytes);
  if (!item)
    return dropped + 1;
  *item = (struct pl_backlog_item){.must_arrive = must_arrive,
                                   .bytes = bytes.bytes};
  memcpy(item->at, bytes.at, bytes.bytes);
  line_put(&b->lines[must_arrive], item);
  return dropped;
}

struct pl_backlog_item *pl__backlog_take(struct pl_backlog *b) {
  struct pl_backlog_item *item = line_take(&b->lines[1]);

  return item ? item : line_take(&b->lines[0]);
}

void pl__backlog_free(struct pl_backlog_item *item) { pl__free(item); }

void pl__backlog_return(struct pl_backlog *b, struct pl_backlog_item *item) {
  struct pl_backlog_line *line = &b->lines[item->must_arrive];

  item->next = line->first;
  line->first = item;
  if (!line->last)
    line->last = item;
  line->count++;
}
