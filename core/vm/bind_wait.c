/* vm/bind_wait.c - the waits of vm/ffi.h. */
#include "vm/coro.h"

#include <math.h>

const struct pl_clock *pl_clock(void) { return &pl__vm_running->clock; }

/* The coroutine that runs now. Lua code of an app may call these while it is
 * being loaded, when there is none: such a wait can't be, and boot.lua says so
 * before it comes here. */
static struct pl_coro *current(void) { return pl__vm_running->current; }

void pl_wait_timer(double seconds) {
  struct pl_coro *c = current();

  if (!c)
    return;
  if (!(seconds > 0))
    seconds = 0;
  pl__coro_wait(c, PL_WAIT_TIMER, c->vm->clock.monotonic + seconds);
}

void pl_wait_body(struct pl_req *req) {
  struct pl_coro *c = current();

  if (!c)
    return;
  if (req->body.bytes || req->body_status || (req->flags & PL_REQ_BODY_DONE)) {
    pl__coro_ready(c, PL_WAKE_OK);
    return;
  }
  pl__coro_wait(c, PL_WAIT_BODY, HUGE_VAL);
  c->vm->options.host.await_body(c->vm->options.host.arg, req);
}

void pl_wait_write(struct pl_req *req) {
  struct pl_coro *c = current();

  if (!c)
    return;
  if (c->vm->options.host.has_room(c->vm->options.host.arg, req))
    pl__coro_ready(c, PL_WAKE_OK);
  else
    pl__coro_wait(c, PL_WAIT_WRITE, HUGE_VAL);
}

void pl_wait_tasks(struct pl_req *req) {
  struct pl_coro *c = current();

  if (!c)
    return;
  if (req->task_count == 0)
    pl__coro_ready(c, PL_WAKE_OK);
  else
    pl__coro_wait(c, PL_WAIT_TASKS, HUGE_VAL);
}

void pl_wait_event(int reason, double watch, double object, double seconds) {
  struct pl_coro *c = current();

  if (!c)
    return;
  c->event_reason = (uint8_t)reason;
  c->event_watch = watch;
  c->event_object = object > 0 ? (uint64_t)object : 0;
  if (c->has_event) {
    c->has_event = false;
    pl__coro_ready(c, PL_WAKE_OK);
    return;
  }
  pl__coro_wait(c, PL_WAIT_EVENT,
                seconds >= 0 ? c->vm->clock.monotonic + seconds : HUGE_VAL);
}

double pl_coro_id(void) {
  struct pl_coro *c = current();

  return c ? pl__coro_id(c) : -1;
}

int pl_wake(double id) {
  struct pl_coro *c = pl__coro_find(pl__vm_running, id);

  if (!c)
    return 0;
  if (c->wait == PL_WAIT_EVENT)
    pl__coro_wake(c, PL_WAKE_OK);
  else
    c->has_event = true;
  return 1;
}

int pl_cancel(double id) {
  struct pl_coro *c = pl__coro_find(pl__vm_running, id);

  if (!c)
    return 0;
  pl__coro_cancel(c);
  return 1;
}

void pl_cancel_tasks(struct pl_req *req) {
  struct pl_list *link, *after,
      *tasks = &pl__vm_running->slots[req->slot].tasks;

  pl__vm_running->slots[req->slot].is_ending = req->task_count > 0;
  PL_LIST_EACH(link, after, tasks)
  pl__coro_cancel(PL_LIST_ENTRY(link, struct pl_coro, task_link));
}

void pl_hold(void) {
  struct pl_coro *c = current();

  if (c)
    c->holds++;
}

void pl_release(void) {
  struct pl_coro *c = current();

  if (c && c->holds)
    c->holds--;
}

void pl_settle(void) {
  struct pl_coro *c = current();

  if (!c)
    return;
  if (c->is_condemned)
    pl__shed_begin_again(c->vm);
  c->is_settled = true;
  c->is_condemned = false;
  c->has_overstayed = false;
  c->holds = 0;
  c->span_depth = 0; /* an error may have come between a span and its end */
}

void pl_begin(void) {
  struct pl_coro *c = current();

  if (c)
    pl__coro_begin(c);
}

void pl_req_set_timeout(struct pl_req *req, double seconds) {
  struct pl_coro *c = current();

  if (c) {
    c->is_settled = false;
    c->raises = 0;
  }
  req->deadline = pl__vm_running->clock.monotonic + seconds;
}
