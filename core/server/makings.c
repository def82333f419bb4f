/* server/makings.c - see makings.h.
 *
 *   asked --> waits --> is made, on the pool --> is taken --> gone
 *               |            |                      |
 *               +------------+--- given up by all --+
 *
 * Given up while it is made, it goes when the thread is through with it.
 */
#include "server/makings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"

enum state { WAITS, RUNS, IS_MADE };

struct pl_making {
  uv_work_t work;
  struct pl_makings *all;
  struct pl_making *next;
  struct pl_slice topic, argument; /* in `text` */
  struct pl_buf out;
  uint32_t tickets;
  int failed;
  enum state state;
  char text[];
};

static void begin_next(struct pl_makings *m);

/* --- a life ----------------------------------------------------------------- */

static void making_free(struct pl_makings *m, struct pl_making *one) {
  struct pl_making **at = &m->first;

  while (*at != one)
    at = &(*at)->next;
  *at = one->next;
  pl__buf_release(&one->out);
  pl__free(one);
}

static struct pl_making *making_new(struct pl_makings *m, struct pl_slice topic,
                                    struct pl_slice argument) {
  struct pl_making *one =
      pl__alloc_zero(sizeof *one + topic.bytes + argument.bytes);
  struct pl_making **at = &m->first;

  if (!one)
    return NULL;
  memcpy(one->text, topic.at, topic.bytes);
  if (argument.bytes)
    memcpy(one->text + topic.bytes, argument.at, argument.bytes);
  one->topic = pl__slice(one->text, topic.bytes);
  one->argument = pl__slice(one->text + topic.bytes, argument.bytes);
  one->work.data = one;
  one->all = m;
  pl__buf_init(&one->out, NULL, PL_MAKINGS_BYTES_MAX);
  while (*at)
    at = &(*at)->next;
  *at = one;
  return one;
}

/* On a thread of the pool. */
static void make(uv_work_t *work) {
  struct pl_making *one = work->data;

  one->failed =
      one->all->make(one->all->fabric, one->topic, one->argument, &one->out);
}

static void after_make(uv_work_t *work, int status) {
  struct pl_making *one = work->data;
  struct pl_makings *m = one->all;

  if (status && !one->failed)
    one->failed = status;
  one->state = IS_MADE;
  m->running = NULL;
  if (one->tickets == 0)
    making_free(m, one);
  begin_next(m);
}

static uint64_t held_bytes(const struct pl_makings *m) {
  uint64_t bytes = 0;

  for (const struct pl_making *one = m->first; one; one = one->next)
    if (one->state == IS_MADE)
      bytes += one->out.cap;
  return bytes;
}

static void begin_next(struct pl_makings *m) {
  struct pl_making *one = m->first;
  int failed;

  while (one && one->state != WAITS)
    one = one->next;
  if (!one || m->running || held_bytes(m) > PL_MAKINGS_HELD_BYTES)
    return;
  one->state = RUNS;
  m->running = one;
  failed = uv_queue_work(m->loop, &one->work, make, after_make);
  if (!failed) /* from now on the rest of it is the thread's */
    return;
  one->failed = failed;
  one->state = IS_MADE;
  m->running = NULL;
}

void pl__makings_init(struct pl_makings *m, uv_loop_t *loop,
                      const struct pl_fabric *fabric, pl_makings_fn make_one) {
  *m = (struct pl_makings){.loop = loop, .fabric = fabric, .make = make_one};
}

bool pl__makings_is_busy(const struct pl_makings *m) { return m->running; }

void pl__makings_deinit(struct pl_makings *m) {
  while (m->first)
    making_free(m, m->first);
  memset(m->tickets, 0, sizeof m->tickets);
}

/* --- tickets ------------------------------------------------------------------ */

static void give_up(struct pl_makings *m, struct pl_makings_ticket *t) {
  struct pl_making *one = t->making;

  *t = (struct pl_makings_ticket){0};
  if (--one->tickets == 0 && one->state != RUNS) {
    making_free(m, one);
    begin_next(m);
  }
}

static void give_up_idle(struct pl_makings *m, int64_t now) {
  for (uint32_t i = 0; i < PL_MAKINGS_MAX; i++)
    if (m->tickets[i].making &&
        now - m->tickets[i].asked_ns > PL_MAKINGS_IDLE_S * (int64_t)PL_NS_PER_S)
      give_up(m, &m->tickets[i]);
}

static struct pl_makings_ticket *ticket_free(struct pl_makings *m) {
  for (uint32_t i = 0; i < PL_MAKINGS_MAX; i++)
    if (!m->tickets[i].making)
      return &m->tickets[i];
  return NULL;
}

/* Of arguments, which may be as long as what is made of them. */
static uint64_t asked_bytes(const struct pl_makings *m) {
  uint64_t bytes = 0;

  for (const struct pl_making *one = m->first; one; one = one->next)
    bytes += one->argument.bytes;
  return bytes;
}

static struct pl_making *waiting_find(struct pl_makings *m,
                                      struct pl_slice topic,
                                      struct pl_slice argument) {
  struct pl_making *one = m->first;

  while (one && (one->state != WAITS || !pl__slice_equal(one->topic, topic) ||
                 !pl__slice_equal(one->argument, argument)))
    one = one->next;
  return one;
}

static int put_number(struct pl_buf *out, uint32_t number) {
  char text[16];
  int bytes = snprintf(text, sizeof text, "%u", number);

  return pl__buf_append(out, text, (uint32_t)bytes);
}

static int answer_open(struct pl_makings *m, struct pl_slice topic,
                       struct pl_slice argument, struct pl_buf *out) {
  int64_t now = pl__clock_monotonic_ns();
  struct pl_makings_ticket *t;
  struct pl_making *one;

  give_up_idle(m, now);
  t = ticket_free(m);
  if (!t || asked_bytes(m) + argument.bytes > PL_MAKINGS_HELD_BYTES)
    return PL_EFULL;
  one = waiting_find(m, topic, argument);
  one = one ? one : making_new(m, topic, argument);
  if (!one)
    return PL_ENOMEM;
  one->tickets++;
  *t = (struct pl_makings_ticket){
      .making = one, .number = ++m->number, .asked_ns = now};
  begin_next(m);
  return put_number(out, t->number);
}

static int answer_next(struct pl_makings *m, struct pl_makings_ticket *t,
                       struct pl_buf *out) {
  const struct pl_buf *made = &t->making->out;
  uint32_t bytes = made->bytes - t->taken;
  int failed;

  if (bytes > PL_MAKINGS_PIECE_BYTES)
    bytes = PL_MAKINGS_PIECE_BYTES;
  if (bytes == 0) {
    give_up(m, t);
    return 0;
  }
  failed = pl__buf_append(out, made->at + t->taken, bytes);
  t->taken += failed ? 0 : bytes;
  return failed;
}

static int answer_one(struct pl_makings *m, struct pl_makings_ticket *t,
                      struct pl_slice verb, struct pl_buf *out) {
  bool is_made = t->making->state == IS_MADE;
  int failed = is_made ? t->making->failed : 0;

  t->asked_ns = pl__clock_monotonic_ns();
  if (!is_made) /* it may wait for what nobody takes */
    give_up_idle(m, t->asked_ns);
  if (failed || pl__slice_equal(verb, PL_SLICE("drop"))) {
    give_up(m, t);
    return failed;
  }
  if (pl__slice_equal(verb, PL_SLICE("look")))
    return is_made ? put_number(out, t->making->out.bytes) : 0;
  if (pl__slice_equal(verb, PL_SLICE("next")) && is_made)
    return answer_next(m, t, out);
  return PL_EINVAL;
}

/* Up to the next space, which is taken as well. */
static struct pl_slice word_take(struct pl_slice *rest) {
  const char *end = rest->bytes ? memchr(rest->at, ' ', rest->bytes) : NULL;
  struct pl_slice word =
      end ? pl__slice(rest->at, (size_t)(end - rest->at)) : *rest;

  *rest = end ? pl__slice(end + 1, rest->bytes - word.bytes - 1) : PL_SLICE("");
  return word;
}

int pl__makings_answer(struct pl_makings *m, struct pl_slice line,
                       struct pl_buf *out) {
  struct pl_slice verb = word_take(&line), word = word_take(&line);
  uint64_t number;

  if (pl__slice_equal(verb, PL_SLICE("open")))
    return answer_open(m, word, line, out);
  if (pl__text_number(word, UINT32_MAX, &number))
    return PL_EINVAL;
  for (uint32_t i = 0; i < PL_MAKINGS_MAX; i++)
    if (m->tickets[i].making && m->tickets[i].number == number)
      return answer_one(m, &m->tickets[i], verb, out);
  return PL_EINVAL;
}
