/* log/timeline.c - see timeline.h. */
#include "log/timeline.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/record.h"
#include "fabric/routes.h"
#include "log/digits.h"

#define EVENT_BYTES_MAX 8192u /* of one in JSON, with what ends by it */
#define ROUTE_BYTES_MAX 200u  /* of a pattern; cut past it */
#define NAME_BYTES_MAX 64u
#define NS_PER_S_D 1e9
#define AHEAD_S 1.0 /* of our clock, that the clock of an event may be */

/* Of a request that has begun and not ended. */
struct open_request {
  uint64_t id; /* 0: none */
  uint64_t trace[2];
  uint32_t route;
  uint8_t generation;
};

/* What runs. */
struct stretch {
  bool is_open;
  bool is_shown; /* its B was written */
  bool is_task;
  uint8_t generation;
  uint32_t route;
  uint64_t request;
};

/* What is told of all open requests at once; in pieces, as there may be many. */
enum sweep {
  SWEEP_NONE,
  SWEEP_ENTER, /* the window begins: they are shown from here */
  SWEEP_BURY,  /* their worker is gone */
  SWEEP_END    /* so is the record */
};

struct lane {
  struct pl_timeline_source source;
  uint64_t next[PL_EVENTS_LANES], end[PL_EVENTS_LANES];
  uint64_t lost; /* overwritten before they were read */
  uint64_t last_ns;
  double until_s;    /* what is later was written by a process gone wild */
  uint64_t trace[2]; /* of the request that begins or ends next; 0: unknown */
  struct stretch stretch;
  struct open_request *open; /* by slot; NULL: there was none yet */
  char mark[PL_EVENT_MARKS_MAX * PL_EVENT_MARK_BYTES];
  uint32_t mark_bytes;
  bool is_inside; /* behind from_s */
  bool is_named;
  bool has_ended;
  uint8_t sweep;             /* enum sweep, under way */
  uint32_t swept, slot_end;  /* slots; none is open behind the last */
  struct pl_event_said held; /* told behind the sweep */
};

struct pl_timeline {
  const struct pl_routes *routes;
  double from_s;
  int pid;
  char name[NAME_BYTES_MAX];
  bool has_begun;
  uint64_t looked_ns; /* when it was looked at what there is */
  uint32_t lane_count;
  struct lane lanes[];
};

/* One event in the making. */
struct pen {
  struct pl_timeline *t;
  char *at;
};

/* --- pieces of JSON ---------------------------------------------------- */

static void put(struct pen *p, const char *text) {
  size_t bytes = strlen(text);

  memcpy(p->at, text, bytes);
  p->at += bytes;
}

static void put_text(struct pen *p, struct pl_slice text, uint32_t most) {
  if (text.bytes > most)
    text.bytes = most;
  p->at = pl__put_json(p->at, text);
}

static void put_number(struct pen *p, const char *key, uint64_t n) {
  put(p, key);
  p->at = pl__put_u64(p->at, n);
}

static void put_us(struct pen *p, const char *key, uint64_t ns) {
  put_number(p, key, ns / 1000);
  *p->at++ = '.';
  p->at = pl__put_padded(p->at, ns % 1000, 3);
}

static void put_hex(struct pen *p, const char *key, uint64_t n) {
  put(p, key);
  p->at = pl__put_hex(p->at, n);
  *p->at++ = '"';
}

static void put_trace(struct pen *p, const uint64_t *trace) {
  if (!trace[0] && !trace[1])
    return;
  put(p, ",\"trace\":\"");
  p->at = pl__put_hex(p->at, trace[0]);
  p->at = pl__put_hex(p->at, trace[1]);
  *p->at++ = '"';
}

/* Events know the low bits of their generation only. */
static struct pl_slice pattern_of(const struct pl_timeline *t,
                                  uint8_t generation, uint32_t route) {
  if (!t->routes || route == PL_EVENT_NO_ROUTE)
    return pl__slice("", 0);
  for (uint32_t i = 0; i < PL_ROUTES_TABLES; i++)
    if ((t->routes[i].generation & 0xff) == generation)
      return pl__routes_find(&t->routes[i], route);
  return pl__slice("", 0);
}

static void put_route(struct pen *p, uint8_t generation, uint32_t route) {
  struct pl_slice pattern = pattern_of(p->t, generation, route);

  if (pattern.bytes)
    put_text(p, pattern, ROUTE_BYTES_MAX);
  else
    put(p, route == PL_EVENT_NO_ROUTE ? "no route" : "a route");
}

/* `ph` and where: the beginning of each event. */
static void begin(struct pen *p, const struct lane *l, const char *phase,
                  uint64_t ns) {
  put(p, ",\n{\"ph\":\"");
  put(p, phase);
  put_us(p, "\",\"ts\":", ns);
  put_number(p, ",\"pid\":", (uint64_t)p->t->pid);
  put_number(p, ",\"tid\":", l->source.tid);
}

static uint64_t ns_of(double seconds) {
  return (uint64_t)(seconds * NS_PER_S_D);
}

static uint64_t clamp(struct lane *l, uint64_t ns) {
  l->last_ns = ns > l->last_ns ? ns : l->last_ns;
  return l->last_ns;
}

/* --- requests ------------------------------------------------------------- */

static struct open_request *slot_of(struct lane *l, uint64_t slot) {
  if (slot >= PL_TIMELINE_SLOTS_MAX)
    return NULL;
  if (!l->open)
    l->open = pl__alloc_zero(PL_TIMELINE_SLOTS_MAX * sizeof *l->open);
  if (!l->open)
    return NULL;
  if (slot >= l->slot_end)
    l->slot_end = (uint32_t)slot + 1;
  return &l->open[slot];
}

static void put_request(struct pen *p, struct lane *l,
                        const struct open_request *r, const char *phase,
                        uint64_t ns) {
  begin(p, l, phase, ns);
  put(p, ",\"cat\":\"request\",\"id\":\"");
  p->at = pl__put_hex(p->at, r->id);
  put(p, "\",\"name\":\"");
  put_route(p, r->generation, r->route);
  put_hex(p, "\",\"args\":{\"request\":\"", r->id);
  put_trace(p, r->trace);
}

static void request_show(struct pen *p, struct lane *l,
                         const struct open_request *r, uint64_t ns) {
  put_request(p, l, r, "b", ns);
  put(p, "}}");
}

/* `status` 0: it has none, as its worker is gone, or has not ended it yet. */
static void request_end(struct pen *p, struct lane *l, struct open_request *r,
                        unsigned status, const char *why, uint64_t ns) {
  put_request(p, l, r, "e", ns);
  if (status)
    put_number(p, ",\"status\":", status);
  if (why) {
    put(p, ",\"end\":\"");
    put(p, why);
    put(p, "\"");
  }
  put(p, "}}");
  r->id = 0;
}

/* --- stretches ------------------------------------------------------------ */

/* Both ends have the name: there are viewers that find them by it. */
static void stretch_name(struct pen *p, const struct stretch *s) {
  put(p, ",\"cat\":\"run\",\"name\":\"");
  if (s->is_task)
    put(p, "task");
  else
    put_route(p, s->generation, s->route);
  put(p, "\"");
}

/* The inside of `args` follows. */
static void stretch_show(struct pen *p, const struct lane *l, uint64_t ns) {
  begin(p, l, "B", ns);
  stretch_name(p, &l->stretch);
  put(p, ",\"args\":{");
}

/* Likewise, if it is shown. */
static void stretch_begin(struct pen *p, struct lane *l,
                          const struct pl_event_said *e, bool is_task,
                          uint64_t ns) {
  l->stretch = (struct stretch){.is_open = true,
                                .is_shown = l->is_inside,
                                .is_task = is_task,
                                .generation = e->generation,
                                .route = e->route,
                                .request = e->id};
  if (l->is_inside)
    stretch_show(p, l, ns);
}

/* One that has begun before the window is shown from there. */
static void stretch_enter(struct pen *p, struct lane *l) {
  if (!l->stretch.is_open)
    return;
  l->stretch.is_shown = true;
  stretch_show(p, l, l->last_ns);
  if (l->stretch.request)
    put_hex(p, "\"request\":\"", l->stretch.request);
  put(p, "}}");
}

static void stretch_end(struct pen *p, struct lane *l, const char *why,
                        unsigned status, uint64_t ns) {
  if (l->stretch.is_open && l->stretch.is_shown) {
    begin(p, l, "E", ns);
    stretch_name(p, &l->stretch);
    put(p, ",\"args\":{\"end\":\"");
    put(p, why);
    put(p, "\"");
    if (status)
      put_number(p, ",\"status\":", status);
    put(p, "}}");
  }
  l->stretch.is_open = false;
}

/* --- events --------------------------------------------------------------- */

static void trace_take(struct lane *l, struct open_request *r) {
  if (l->trace[0] || l->trace[1])
    memcpy(r->trace, l->trace, sizeof r->trace);
  memset(l->trace, 0, sizeof l->trace);
}

static void tell_begin(struct pen *p, struct lane *l,
                       const struct pl_event_said *e, uint64_t ns) {
  struct open_request *r = slot_of(l, e->value);

  stretch_end(p, l, "unknown", 0, ns);
  if (!r || !e->id)
    return;
  if (r->id && l->is_inside)
    request_end(p, l, r, 0, "unknown", ns);
  *r = (struct open_request){
      .id = e->id, .route = e->route, .generation = e->generation};
  trace_take(l, r);
  if (l->is_inside)
    request_show(p, l, r, ns);
  stretch_begin(p, l, e, false, ns);
  if (!l->is_inside)
    return;
  put_hex(p, "\"request\":\"", e->id);
  put_trace(p, r->trace);
  put(p, "}}");
}

static void tell_end(struct pen *p, struct lane *l,
                     const struct pl_event_said *e, uint64_t ns) {
  struct open_request *r = slot_of(l, e->value);

  if (l->stretch.is_open && l->stretch.request == e->id)
    stretch_end(p, l, "answered", e->code, ns);
  if (!r || r->id != e->id)
    return;
  trace_take(l, r);
  if (l->is_inside)
    request_end(p, l, r, e->code, NULL, ns);
  r->id = 0;
}

static void tell_run(struct pen *p, struct lane *l,
                     const struct pl_event_said *e, uint64_t ns) {
  static const char *const how[] = {
      [PL_EVENT_RUN_BEGUN] = "begun",
      [PL_EVENT_RUN_WOKEN] = "woken",
      [PL_EVENT_RUN_ENDING] = "woken to end",
      [PL_EVENT_RUN_PREEMPTED] = "its next slice",
  };
  unsigned detail = e->detail & (PL_EVENT_RUN_TASK - 1u);

  stretch_end(p, l, "unknown", 0, ns);
  stretch_begin(p, l, e, e->detail & PL_EVENT_RUN_TASK, ns);
  if (!l->is_inside)
    return;
  put_number(p, "\"coroutine\":", e->value & UINT32_MAX);
  if (e->id)
    put_hex(p, ",\"request\":\"", e->id);
  put(p, ",\"why\":\"");
  put(p, detail < sizeof how / sizeof *how ? how[detail] : "unknown");
  put(p, "\"}}");
}

static void tell_park(struct pen *p, struct lane *l,
                      const struct pl_event_said *e, uint64_t ns) {
  static const char *const why[PL_EVENT_PARKS] = {
      [PL_EVENT_PARK_READY] = "yielded",
      [PL_EVENT_PARK_TIMER] = "sleeps",
      [PL_EVENT_PARK_BODY] = "waits for the body",
      [PL_EVENT_PARK_WRITE] = "waits for the client to read",
      [PL_EVENT_PARK_TASKS] = "waits for its tasks",
      [PL_EVENT_PARK_EVENT] = "waits for an event",
      [PL_EVENT_PARK_INJECTED] = "waits for a connection",
      [PL_EVENT_PARK_PREEMPTED] = "preempted",
      [PL_EVENT_PARK_ENDED] = "ended",
      [PL_EVENT_PARK_FAILED] = "failed",
  };
  unsigned detail = e->detail & (PL_EVENT_PARK_TASK - 1u);

  stretch_end(p, l, detail < PL_EVENT_PARKS ? why[detail] : "unknown", 0, ns);
}

static void tell_collect(struct pen *p, struct lane *l,
                         const struct pl_event_said *e, uint64_t ns) {
  static const char *const phases[] = {"busy", "idle", "whole"};
  uint64_t at = ns > e->value ? ns - e->value : 0;

  at = at < l->last_ns ? l->last_ns : at;
  ns = clamp(l, ns);
  begin(p, l, "X", at);
  put_us(p, ",\"dur\":", ns - at);
  put(p, ",\"cat\":\"collect\",\"name\":\"collect\",\"args\":{\"phase\":\"");
  put(p, e->detail < 3 ? phases[e->detail] : "unknown");
  put_number(p, "\",\"heap_bytes\":", e->id);
  put(p, "}}");
}

/* A point in time; the name follows, and then the inside of `args`. */
static void instant(struct pen *p, struct lane *l, const char *category,
                    uint64_t ns) {
  begin(p, l, "i", ns);
  put(p, ",\"s\":\"t\",\"cat\":\"");
  put(p, category);
  put(p, "\",\"name\":\"");
}

static void tell_of_request(struct pen *p, struct lane *l, const char *name,
                            const struct pl_event_said *e, uint64_t ns) {
  instant(p, l, name, ns);
  put(p, name);
  put(p, "\",\"args\":{\"route\":\"");
  put_route(p, e->generation, e->route);
  if (e->id)
    put_hex(p, "\",\"request\":\"", e->id);
  else
    put(p, "\"");
  put(p, "}}");
}

static void tell_number(struct pen *p, struct lane *l, const char *name,
                        const char *key, uint64_t n, uint64_t ns) {
  instant(p, l, name, ns);
  put(p, name);
  put(p, "\",\"args\":{\"");
  put(p, key);
  put_number(p, "\":", n);
  put(p, "}}");
}

static void tell_reload(struct pen *p, struct lane *l,
                        const struct pl_event_said *e, uint64_t ns) {
  static const char *const steps[PL_EVENT_RELOADS] = {
      [PL_EVENT_RELOAD_BEGUN] = "reload begun",
      [PL_EVENT_RELOAD_PREPARE] = "reload: loads",
      [PL_EVENT_RELOAD_PREPARED] = "reload: loaded",
      [PL_EVENT_RELOAD_FAILED] = "reload: not loaded",
      [PL_EVENT_RELOAD_SERVES] = "reload: serves",
      [PL_EVENT_RELOAD_RETIRED] = "reload: the one before is closed",
      [PL_EVENT_RELOAD_COMMITTED] = "reload committed",
      [PL_EVENT_RELOAD_REJECTED] = "reload rejected",
  };

  instant(p, l, "reload", ns);
  put(p, e->detail < PL_EVENT_RELOADS ? steps[e->detail] : "reload");
  put_number(p, "\",\"args\":{\"generation\":", e->value);
  put(p, "}}");
}

static void tell_process(struct pen *p, struct lane *l,
                         const struct pl_event_said *e, uint64_t ns) {
  static const char *const steps[PL_EVENT_PROCESSES] = {
      [PL_EVENT_PROCESS_STARTED] = "a worker is started",
      [PL_EVENT_PROCESS_SILENT] = "a worker does not answer",
      [PL_EVENT_PROCESS_STUCK] = "a worker is stuck",
      [PL_EVENT_PROCESS_KILLED] = "a worker was ended by a signal",
      [PL_EVENT_PROCESS_ENDED] = "a worker has ended",
  };

  instant(p, l, "process", ns);
  put(p, e->detail < PL_EVENT_PROCESSES ? steps[e->detail] : "a process");
  put_number(p, "\",\"args\":{\"worker\":", e->id);
  put_number(p, ",\"pid\":", e->value);
  if (e->detail == PL_EVENT_PROCESS_KILLED)
    put_number(p, ",\"signal\":", e->code);
  if (e->detail == PL_EVENT_PROCESS_ENDED)
    put_number(p, ",\"code\":", e->code);
  put(p, "}}");
}

/* A text comes in pieces; `code` of each says how much is left with it. */
static void tell_mark(struct pen *p, struct lane *l,
                      const struct pl_event_said *e, uint64_t ns) {
  uint64_t words[2] = {e->id, e->value};
  uint32_t bytes =
      e->code < PL_EVENT_MARK_BYTES ? e->code : PL_EVENT_MARK_BYTES;

  if (l->mark_bytes + bytes > sizeof l->mark)
    l->mark_bytes = 0;
  memcpy(l->mark + l->mark_bytes, words, bytes);
  l->mark_bytes += bytes;
  if (e->code > PL_EVENT_MARK_BYTES)
    return;
  if (l->is_inside) {
    instant(p, l, "mark", ns);
    put_text(p, pl__slice(l->mark, l->mark_bytes), sizeof l->mark);
    put(p, "\"}");
  }
  l->mark_bytes = 0;
}

static void tell_start(struct pen *p, struct lane *l,
                       const struct pl_event_said *e, uint64_t ns) {
  stretch_end(p, l, "the worker is gone", 0, ns);
  l->mark_bytes = 0;
  memset(l->trace, 0, sizeof l->trace);
  if (l->is_inside)
    tell_number(p, l, "a process begins", "pid", e->value, ns);
}

/* What is told only when it happened inside of the window. */
static void tell_seldom(struct pen *p, struct lane *l,
                        const struct pl_event_said *e, uint64_t ns) {
  switch (e->kind) {
  case PL_EVENT_COLLECT:
    tell_collect(p, l, e, ns_of(e->at));
    return;
  case PL_EVENT_PREEMPT:
    tell_of_request(p, l, "preempted", e, ns);
    return;
  case PL_EVENT_DEADLINE:
    tell_of_request(p, l, "deadline", e, ns);
    return;
  case PL_EVENT_DROP:
    tell_number(p, l, "log records dropped", "count", e->value, ns);
    return;
  case PL_EVENT_LAG:
    tell_number(p, l, "a long turn of the loop", "ms", e->value / 1000000, ns);
    return;
  case PL_EVENT_RELOAD:
    tell_reload(p, l, e, ns);
    return;
  case PL_EVENT_PROCESS:
    tell_process(p, l, e, ns);
    return;
  default:
    return;
  }
}

static void tell(struct pen *p, struct lane *l, const struct pl_event_said *e) {
  uint64_t ns =
      e->kind == PL_EVENT_COLLECT ? ns_of(e->at) : clamp(l, ns_of(e->at));

  switch (e->kind) {
  case PL_EVENT_START:
    tell_start(p, l, e, ns);
    return;
  case PL_EVENT_TRACE:
    l->trace[0] = e->id;
    l->trace[1] = e->value;
    return;
  case PL_EVENT_BEGIN:
    tell_begin(p, l, e, ns);
    return;
  case PL_EVENT_END:
    tell_end(p, l, e, ns);
    return;
  case PL_EVENT_RUN:
    tell_run(p, l, e, ns);
    return;
  case PL_EVENT_PARK:
    tell_park(p, l, e, ns);
    return;
  case PL_EVENT_MARK:
    tell_mark(p, l, e, ns);
    return;
  default:
    if (l->is_inside)
      tell_seldom(p, l, e, ns);
  }
}

/* --- reading -------------------------------------------------------------- */

/* The next event of one of the two rings; false: there is none yet. */
static bool peek(struct lane *l, enum pl_event_lane which,
                 struct pl_event_said *out) {
  const struct pl_event_rings *events = l->source.events;

  while (l->next[which] < l->end[which]) {
    uint64_t first = pl__event_first(which, pl__event_head(events, which));

    if (first > l->next[which]) {
      l->lost += first - l->next[which];
      l->next[which] = first;
      continue;
    }
    if (pl__event_read(events, which, l->next[which], out) &&
        out->at <= l->until_s)
      return true;
    l->next[which]++;
  }
  l->next[which] = l->end[which];
  return false;
}

/* The older one of both. */
static bool take(struct lane *l, struct pl_event_said *out) {
  struct pl_event_said often, seldom;
  bool has_often = peek(l, PL_EVENTS_LANE_OFTEN, &often);
  bool has_seldom = peek(l, PL_EVENTS_LANE_SELDOM, &seldom);

  if (!has_often && !has_seldom)
    return false;
  if (has_often && (!has_seldom || often.at <= seldom.at)) {
    *out = often;
    l->next[PL_EVENTS_LANE_OFTEN]++;
  } else {
    *out = seldom;
    l->next[PL_EVENTS_LANE_SELDOM]++;
  }
  return true;
}

static int reserve(struct pl_timeline *t, struct pl_buf *out, struct pen *p) {
  int failed = pl__buf_reserve(out, EVENT_BYTES_MAX);

  *p = (struct pen){.t = t, .at = out->at + out->bytes};
  return failed;
}

static void keep(struct pl_buf *out, const struct pen *p) {
  out->bytes = (uint32_t)(p->at - out->at);
}

static int write_metadata(struct pl_timeline *t, struct pl_buf *out) {
  struct pen p;
  int failed = reserve(t, out, &p);

  if (failed)
    return failed;
  put(&p, "[");
  put_number(
      &p, "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":", (uint64_t)t->pid);
  put(&p, ",\"tid\":0,\"args\":{\"name\":\"perilune ");
  put_text(&p, pl__slice_text(t->name), sizeof t->name);
  put(&p, "\"}}");
  keep(out, &p);
  t->has_begun = true;
  return 0;
}

static void put_thread(struct pen *p, struct lane *l) {
  put_number(p, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":",
             (uint64_t)p->t->pid);
  put_number(p, ",\"tid\":", l->source.tid);
  put(p, ",\"args\":{\"name\":\"");
  put_text(p, pl__slice_text(l->source.name), sizeof l->source.name);
  put(p, "\"}}");
}

static int name_lane(struct pl_timeline *t, struct lane *l,
                     struct pl_buf *out) {
  struct pen p;
  int failed = reserve(t, out, &p);

  if (failed)
    return failed;
  put_thread(&p, l);
  keep(out, &p);
  l->is_named = true;
  return 0;
}

static void sweep_one(struct pen *p, struct lane *l, struct open_request *r) {
  if (l->sweep == SWEEP_ENTER)
    request_show(p, l, r, l->last_ns);
  else if (l->is_inside)
    request_end(p, l, r, 0,
                l->sweep == SWEEP_BURY ? "the worker is gone" : "not yet",
                l->last_ns);
  else
    r->id = 0;
}

static void sweep_begin(struct lane *l, enum sweep what) {
  l->sweep = (uint8_t)what;
  l->swept = 0;
}

/* The worker whose events come before the one that is held is no more. */
static void bury(struct lane *l) {
  clamp(l, ns_of(l->held.at));
  sweep_begin(l, SWEEP_BURY);
}

/* The window begins: also what stands still since before it is shown. */
static void enter(const struct pl_timeline *t, struct lane *l) {
  l->is_inside = true;
  clamp(l, ns_of(t->from_s));
  sweep_begin(l, SWEEP_ENTER);
}

/* What ran at the window's beginning follows the requests; what begins it may be
 * the end of all of them. */
static int sweep_end(struct pl_timeline *t, struct lane *l,
                     struct pl_buf *out) {
  bool has_entered = l->sweep == SWEEP_ENTER;
  struct pen p;
  int failed = has_entered ? reserve(t, out, &p) : 0;

  if (failed)
    return failed;
  l->sweep = SWEEP_NONE;
  if (!has_entered)
    return 0;
  stretch_enter(&p, l);
  keep(out, &p);
  if (l->held.kind == PL_EVENT_START)
    bury(l);
  return 0;
}

/* Returns 1 when it is not over yet. */
static int sweep(struct pl_timeline *t, struct lane *l, uint32_t most,
                 struct pl_buf *out) {
  struct pen p;

  for (; l->swept < l->slot_end; l->swept++) {
    int failed;
    if (!l->open[l->swept].id)
      continue;
    if (out->bytes >= most)
      return 1;
    failed = reserve(t, out, &p);
    if (failed)
      return failed;
    sweep_one(&p, l, &l->open[l->swept]);
    keep(out, &p);
  }
  return sweep_end(t, l, out);
}

static int tell_lost(struct pl_timeline *t, struct lane *l,
                     struct pl_buf *out) {
  struct pen p;
  int failed = reserve(t, out, &p);

  if (failed)
    return failed;
  tell_number(&p, l, "events lost: they came too fast", "count", l->lost,
              l->last_ns);
  keep(out, &p);
  l->lost = 0;
  return 0;
}

static int write_event(struct pl_timeline *t, struct lane *l,
                       struct pl_buf *out) {
  struct pen p;
  int failed = l->lost && l->is_inside ? tell_lost(t, l, out) : 0;

  failed = failed ? failed : reserve(t, out, &p);
  if (failed)
    return failed;
  tell(&p, l, &l->held);
  keep(out, &p);
  l->held.kind = PL_EVENT_NONE;
  return 0;
}

/* What has to be told of open requests before the event that is held. */
static void sweep_before(struct pl_timeline *t, struct lane *l) {
  if (!l->is_inside && l->held.at >= t->from_s)
    enter(t, l);
  else if (l->held.kind == PL_EVENT_START)
    bury(l);
}

/* Returns as pl__timeline_write. */
static int write_lane(struct pl_timeline *t, struct lane *l, uint32_t most,
                      struct pl_buf *out) {
  int status = l->is_named ? 0 : name_lane(t, l, out);

  while (!status && out->bytes < most) {
    if (l->sweep)
      status = sweep(t, l, most, out);
    else if (l->held.kind)
      status = write_event(t, l, out);
    else if (take(l, &l->held))
      sweep_before(t, l);
    else
      return 0;
  }
  return status ? status : 1;
}

int pl__timeline_write(struct pl_timeline *t, uint32_t most,
                       struct pl_buf *out) {
  int status = t->has_begun ? 0 : write_metadata(t, out);

  most += out->bytes;
  for (uint32_t i = 0; i < t->lane_count && !status; i++)
    status = write_lane(t, &t->lanes[i], most, out);
  return status;
}

/* --- the end --------------------------------------------------------------- */

static int end_lane(struct pl_timeline *t, struct lane *l, uint32_t most,
                    struct pl_buf *out) {
  struct pen p;
  int status;

  if (!l->is_inside) /* nothing has happened in the window */
    enter(t, l);
  status = l->sweep ? sweep(t, l, most, out) : 0;
  if (status || l->has_ended)
    return status;
  status = out->bytes < most ? reserve(t, out, &p) : 1;
  if (status)
    return status;
  clamp(l, t->looked_ns);
  stretch_end(&p, l, "the end of the record", 0, l->last_ns);
  keep(out, &p);
  l->has_ended = true;
  sweep_begin(l, SWEEP_END);
  return sweep(t, l, most, out);
}

int pl__timeline_end(struct pl_timeline *t, uint32_t most, struct pl_buf *out) {
  int status = t->has_begun ? 0 : write_metadata(t, out);

  most += out->bytes;
  for (uint32_t i = 0; i < t->lane_count && !status; i++)
    status = end_lane(t, &t->lanes[i], most, out);
  return status ? status : pl__buf_append(out, "\n]\n", 3);
}

/* --- a life ---------------------------------------------------------------- */

void pl__timeline_look(struct pl_timeline *t) {
  for (uint32_t i = 0; i < t->lane_count; i++)
    for (unsigned which = 0; which < PL_EVENTS_LANES; which++)
      t->lanes[i].end[which] = pl__event_head(t->lanes[i].source.events, which);
  t->looked_ns = (uint64_t)pl__clock_monotonic_ns();
  for (uint32_t i = 0; i < t->lane_count; i++)
    t->lanes[i].until_s = (double)t->looked_ns / NS_PER_S_D + AHEAD_S;
}

int pl__timeline_open(struct pl_timeline **out,
                      const struct pl_timeline_options *options) {
  uint32_t count = options->source_count < PL_TIMELINE_SOURCES_MAX
                       ? options->source_count
                       : PL_TIMELINE_SOURCES_MAX;
  struct pl_timeline *t =
      pl__alloc_zero(sizeof *t + count * sizeof(struct lane));

  if (!t)
    return PL_ENOMEM;
  t->routes = options->routes;
  t->pid = options->pid;
  t->from_s = options->from_s;
  t->lane_count = count;
  memccpy(t->name, options->name, 0, sizeof t->name - 1);
  for (uint32_t i = 0; i < count; i++) {
    struct lane *l = &t->lanes[i];
    l->source = options->sources[i];
    for (unsigned which = 0; which < PL_EVENTS_LANES; which++)
      l->next[which] =
          pl__event_first(which, pl__event_head(l->source.events, which));
  }
  pl__timeline_look(t);
  *out = t;
  return 0;
}

void pl__timeline_close(struct pl_timeline *t) {
  if (!t)
    return;
  for (uint32_t i = 0; i < t->lane_count; i++)
    pl__free(t->lanes[i].open);
  pl__free(t);
}
