/* server/dumper.c - see dumper.h.
 *
 * `lock` guards the queues and `ends`; it is never held while the disk is
 * touched.  What is being written is the thread's alone, what storms are found
 * by the main thread's.
 */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "server/dumper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "perilune.h"
#include "server/layout.h"
#include "server/recording.h"

#define AGO_S 10.0    /* that a record goes back */
#define FOLLOW_MS 100 /* between two looks at what has come */
#define SAMPLE_NS ((int64_t)PL_NS_PER_S)

struct order {
  char why[PL_ARCHIVE_WHY_BYTES];
  uint32_t asker;   /* handed back with the news; 0: nobody */
  int seconds;      /* to follow what comes; 0: what there is now */
  int64_t asked_ns; /* monotonic */
};

enum save_state { FREE, WAITING, WRITING, DONE };

struct save {
  enum save_state state;
  uint32_t ticket;
  char why[PL_ARCHIVE_WHY_BYTES];
  char suffix[PL_ARCHIVE_SUFFIX_BYTES];
  char *bytes; /* owned; NULL once it is written */
  size_t count;
  int failed;
  char text[PL_DUMPER_TEXT_BYTES];
};

/* The flight record that is being written. */
struct writing {
  struct order order;
  struct pl_timeline *timeline; /* NULL: none is */
  struct pl_archive_file file;
  struct pl_buf piece;
  bool is_ending;
  int64_t until_ns, due_ns; /* monotonic: of the whole, of the next piece */
};

struct storms {
  uint64_t missed[PL_DUMPER_WINDOW_S]; /* deadlines, by second */
  uint32_t samples;
  int64_t sampled_ns, told_ns;
};

struct pl_dumper {
  const struct pl_config *config; /* borrowed, as the following */
  const struct pl_fabric *fabric;
  struct pl_server_state *state;
  int channel_fd; /* to the master */
  int master_pid;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  atomic_bool ends;
  _Atomic int64_t
      busy_ns;      /* monotonic, since when with one piece; 0: it waits */
  int64_t hangs_ns; /* that of it which was told */
  struct order orders[PL_DUMPER_ORDERS_MAX];
  uint32_t order_count;
  struct save saves[PL_DUMPER_SAVES_MAX];
  size_t saves_bytes; /* of those that have not been written */
  uint32_t ticket;    /* the last one */
  struct writing now;
  struct storms storms;
};

/* --- telling ---------------------------------------------------------------- */

static void count(_Atomic uint64_t *counter) {
  atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void count_end(struct pl_dumper *d, int failed) {
  count(failed ? &d->state->records_failed : &d->state->records_written);
}

/* The path, or with the reason. */
static void text_make(char *out, const char *path, int failed) {
  snprintf(out, PL_DUMPER_TEXT_BYTES, failed ? "%s: %s" : "%s", path,
           failed ? pl_strerror(failed) : "");
}

static void tell(struct pl_dumper *d, uint32_t asker, int code,
                 const char *text) {
  pl__channel_say(d->channel_fd, PL_NEWS_RECORDED, asker, code, text);
}

static void drop(struct pl_dumper *d, uint32_t asker, const char *why,
                 int code) {
  char text[PL_DUMPER_TEXT_BYTES];

  count(&d->state->records_dropped);
  snprintf(text, sizeof text, "%.100s: %s", why,
           code == PL_EFULL ? "too many records are waiting to be written"
                            : pl_strerror(code));
  tell(d, asker, code, text);
}

/* --- a flight record ---------------------------------------------------------- */

/* A record is over: `failed` is a negated errno, or 0. */
static void end(struct pl_dumper *d, int failed) {
  struct writing *w = &d->now;
  char text[PL_DUMPER_TEXT_BYTES];

  failed = pl__archive_end(&w->file, failed);
  pl__timeline_close(w->timeline);
  w->timeline = NULL;
  pl__buf_release(&w->piece);
  count_end(d, failed);
  text_make(text, w->file.path, failed);
  tell(d, w->order.asker, failed, text);
}

/* The rings are looked at before the disk is: it may take its time. */
static void begin(struct pl_dumper *d) {
  struct writing *w = &d->now;
  const struct order *o = &w->order;
  int64_t now = pl__clock_monotonic_ns();
  double waited = (double)(now - o->asked_ns) / (double)PL_NS_PER_S;
  int failed, not_begun;

  w->is_ending = false;
  w->due_ns = 0;
  w->until_ns = now + (int64_t)o->seconds * (int64_t)PL_NS_PER_S;
  pl__buf_init(&w->piece, NULL,
               PL_TIMELINE_PIECE_BYTES + PL_TIMELINE_OVER_BYTES);
  failed = pl__recording_open(&w->timeline, d->fabric, d->config->name,
                              d->master_pid, o->seconds ? 0 : AGO_S + waited);
  not_begun = pl__archive_begin(&w->file, d->config, o->why, "json");
  failed = failed ? failed : not_begun;
  if (failed)
    end(d, failed);
}

/* One piece. */
static void step(struct pl_dumper *d) {
  struct writing *w = &d->now;
  int64_t now = pl__clock_monotonic_ns();
  bool follows = now < w->until_ns && !atomic_load(&d->ends);
  int status, failed;

  if (w->order.seconds && !w->is_ending)
    pl__timeline_look(w->timeline);
  status =
      w->is_ending
          ? pl__timeline_end(w->timeline, PL_TIMELINE_PIECE_BYTES, &w->piece)
          : pl__timeline_write(w->timeline, PL_TIMELINE_PIECE_BYTES, &w->piece);
  failed = status < 0 ? status : 0;
  failed = failed ? failed
                  : pl__archive_write(&w->file, w->piece.at, w->piece.bytes);
  w->piece.bytes = 0;
  if (failed || (status == 0 && w->is_ending)) {
    end(d, failed);
    return;
  }
  w->due_ns =
      status == 0 && follows ? now + FOLLOW_MS * (int64_t)PL_NS_PER_MS : 0;
  if (!follows && (status == 0 || w->order.seconds))
    w->is_ending = true;
}

/* --- what is saved ------------------------------------------------------------- */

static void save_write(struct pl_dumper *d, struct save *s) {
  struct pl_archive_file file;
  int failed = pl__archive_begin(&file, d->config, s->why, s->suffix);

  failed = failed ? failed : pl__archive_write(&file, s->bytes, s->count);
  failed = pl__archive_end(&file, failed);
  count_end(d, failed);
  pthread_mutex_lock(&d->lock);
  pl__free(s->bytes);
  s->bytes = NULL;
  d->saves_bytes -= s->count;
  s->failed = failed;
  text_make(s->text, file.path, failed);
  s->state = DONE;
  pthread_mutex_unlock(&d->lock);
}

/* The one that has waited longest, or was done longest ago; NULL: none is. */
static struct save *save_oldest(struct pl_dumper *d, enum save_state state) {
  struct save *oldest = NULL;

  for (uint32_t i = 0; i < PL_DUMPER_SAVES_MAX; i++) {
    struct save *s = &d->saves[i];
    if (s->state == state && (!oldest || s->ticket < oldest->ticket))
      oldest = s;
  }
  return oldest;
}

/* Room for one more; those that nobody has asked for give way. */
static struct save *save_room(struct pl_dumper *d, size_t bytes) {
  struct save *s = save_oldest(d, FREE);

  if (bytes > PL_DUMPER_SAVES_BYTES_MAX - d->saves_bytes)
    return NULL;
  return s ? s : save_oldest(d, DONE);
}

static int save_add(struct pl_dumper *d, const struct save *filled,
                    uint32_t *ticket) {
  struct save *s;

  pthread_mutex_lock(&d->lock);
  s = save_room(d, filled->count);
  if (s) {
    *s = *filled;
    s->state = WAITING;
    *ticket = s->ticket = ++d->ticket;
    d->saves_bytes += s->count;
    pthread_cond_signal(&d->changed);
  }
  pthread_mutex_unlock(&d->lock);
  return s ? 0 : PL_EFULL;
}

int pl__dumper_save(struct pl_dumper *d, struct pl_slice why,
                    struct pl_slice suffix, struct pl_slice bytes,
                    uint32_t *ticket) {
  struct save s = {.count = bytes.bytes};
  int failed;

  if (suffix.bytes >= sizeof s.suffix || pl__archive_word(s.why, why))
    return PL_EINVAL;
  memcpy(s.suffix, suffix.at, suffix.bytes);
  s.bytes = pl__alloc(bytes.bytes ? bytes.bytes : 1);
  if (s.bytes)
    memcpy(s.bytes, bytes.at, bytes.bytes);
  failed = s.bytes ? save_add(d, &s, ticket) : PL_ENOMEM;
  if (failed) {
    count(&d->state->records_dropped);
    pl__free(s.bytes);
  }
  return failed;
}

int pl__dumper_saved(struct pl_dumper *d, uint32_t ticket, char *text) {
  int status = PL_EGONE;

  snprintf(text, PL_DUMPER_TEXT_BYTES, "%s", pl_strerror(status));
  pthread_mutex_lock(&d->lock);
  for (uint32_t i = 0; i < PL_DUMPER_SAVES_MAX; i++) {
    struct save *s = &d->saves[i];
    if (s->state == FREE || s->ticket != ticket)
      continue;
    status = s->state == DONE ? s->failed : 1;
    if (s->state != DONE)
      break;
    memcpy(text, s->text, sizeof s->text);
    s->state = FREE;
  }
  pthread_mutex_unlock(&d->lock);
  return status;
}

/* --- orders --------------------------------------------------------------------- */

static int order_make(struct order *o, const char *why, int seconds,
                      uint32_t asker) {
  *o = (struct order){
      .asker = asker, .seconds = seconds, .asked_ns = pl__clock_monotonic_ns()};
  if (seconds < 0 || seconds > PL_DUMPER_SECONDS_MAX)
    o->seconds = PL_DUMPER_SECONDS_MAX;
  return pl__archive_word(o->why, pl__slice_text(why[0] ? why : "asked"))
             ? PL_EINVAL
             : 0;
}

static void add(struct pl_dumper *d, const char *why, int seconds,
                uint32_t asker) {
  struct order o;
  int failed = order_make(&o, why, seconds, asker);

  pthread_mutex_lock(&d->lock);
  if (!failed && d->order_count == PL_DUMPER_ORDERS_MAX)
    failed = PL_EFULL;
  if (!failed) {
    d->orders[d->order_count++] = o;
    pthread_cond_signal(&d->changed);
  }
  pthread_mutex_unlock(&d->lock);
  if (failed)
    drop(d, asker, why, failed);
}

void pl__dumper_order(struct pl_dumper *d, const struct pl_message *order) {
  add(d, order->text, order->code, order->generation);
}

static void order_take(struct pl_dumper *d) {
  d->now.order = d->orders[0];
  d->order_count--;
  memmove(d->orders, d->orders + 1, d->order_count * sizeof d->orders[0]);
}

/* --- storms, and disks that hang ---------------------------------------------------------------------- */

/* Once a second: how many have missed their deadline within the window. */
static void look_for_storm(struct pl_dumper *d, int64_t now) {
  struct storms *s = &d->storms;
  uint64_t most = d->config->recorder_storm, missed, before;

  if (!most || now - s->sampled_ns < SAMPLE_NS)
    return;
  s->sampled_ns = now;
  missed = pl__recording_deadlines(d->fabric);
  before = s->samples < PL_DUMPER_WINDOW_S
               ? s->missed[0]
               : s->missed[s->samples % PL_DUMPER_WINDOW_S];
  if (s->samples == 0)
    before = missed;
  s->missed[s->samples++ % PL_DUMPER_WINDOW_S] = missed;
  if (missed < before || missed - before < most ||
      (s->told_ns &&
       now - s->told_ns <= PL_DUMPER_STORM_S * (int64_t)PL_NS_PER_S))
    return;
  s->told_ns = now;
  add(d, "deadlines", 0, 0);
}

static void look_for_hang(struct pl_dumper *d, int64_t now) {
  int64_t since = atomic_load(&d->busy_ns);
  char text[96];

  if (!since || since == d->hangs_ns ||
      now - since < PL_DUMPER_HANGS_S * (int64_t)PL_NS_PER_S)
    return;
  d->hangs_ns = since;
  snprintf(text, sizeof text,
           "not yet: the disk of recorder.folder has not answered for %d s",
           PL_DUMPER_HANGS_S);
  tell(d, 0, PL_ETIMEOUT, text);
}

void pl__dumper_look(struct pl_dumper *d) {
  int64_t now = pl__clock_monotonic_ns();

  look_for_hang(d, now);
  look_for_storm(d, now);
}

/* --- the thread -------------------------------------------------------------------- */

enum work { WORK_SAVE, WORK_BEGIN, WORK_STEP, WORK_WAIT, WORK_END };

/* What is to be done now; under the lock. */
static enum work work_find(struct pl_dumper *d, struct save **save) {
  bool ends = atomic_load(&d->ends);

  *save = save_oldest(d, WAITING);
  if (*save) {
    (*save)->state = WRITING;
    return WORK_SAVE;
  }
  if (d->now.timeline)
    return ends || pl__clock_monotonic_ns() >= d->now.due_ns ? WORK_STEP
                                                             : WORK_WAIT;
  if (d->order_count) {
    order_take(d);
    return WORK_BEGIN;
  }
  return ends ? WORK_END : WORK_WAIT;
}

/* Until something has changed, or the next piece is due; under the lock. */
static void work_await(struct pl_dumper *d) {
  struct timespec due = {
      .tv_sec = (time_t)(d->now.due_ns / (int64_t)PL_NS_PER_S),
      .tv_nsec = (long)(d->now.due_ns % (int64_t)PL_NS_PER_S)};

  if (d->now.timeline)
    pthread_cond_timedwait(&d->changed, &d->lock, &due);
  else
    pthread_cond_wait(&d->changed, &d->lock);
}

static enum work work_next(struct pl_dumper *d, struct save **save) {
  enum work work;

  atomic_store(&d->busy_ns, 0);
  pthread_mutex_lock(&d->lock);
  while ((work = work_find(d, save)) == WORK_WAIT)
    work_await(d);
  pthread_mutex_unlock(&d->lock);
  atomic_store(&d->busy_ns, pl__clock_monotonic_ns());
  return work;
}

static void *thread_main(void *arg) {
  struct pl_dumper *d = arg;
  struct save *save;
  enum work work;

  prctl(PR_SET_NAME, "perilune-rec");
  while ((work = work_next(d, &save)) != WORK_END) {
    if (work == WORK_SAVE)
      save_write(d, save);
    else if (work == WORK_BEGIN)
      begin(d);
    else
      step(d);
  }
  return NULL;
}

/* Signals are for others. */
static int thread_start(struct pl_dumper *d) {
  sigset_t all, before;
  int failed;

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  failed = pthread_create(&d->thread, NULL, thread_main, d);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return -failed;
}

/* --- a life ------------------------------------------------------------------------- */

int pl__dumper_start(struct pl_dumper **out, const struct pl_config *config,
                     const struct pl_fabric *fabric, int channel_fd) {
  struct pl_dumper *d = pl__alloc_zero(sizeof *d);
  pthread_condattr_t monotonic;
  int failed;

  if (!d)
    return PL_ENOMEM;
  d->config = config;
  d->fabric = fabric;
  d->channel_fd = channel_fd;
  d->master_pid = (int)getppid();
  pthread_mutex_init(&d->lock, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&d->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  failed = pl__layout_state(fabric, &d->state);
  failed = failed ? failed : thread_start(d);
  if (failed)
    pl__dumper_free(d);
  else
    *out = d;
  return failed;
}

bool pl__dumper_stop(struct pl_dumper *d, int ms) {
  struct timespec due;

  pthread_mutex_lock(&d->lock);
  atomic_store(&d->ends, true);
  pthread_cond_signal(&d->changed);
  pthread_mutex_unlock(&d->lock);
  clock_gettime(CLOCK_REALTIME, &due);
  due.tv_sec += ms / 1000;
  return pthread_timedjoin_np(d->thread, NULL, &due) == 0;
}

void pl__dumper_free(struct pl_dumper *d) {
  for (uint32_t i = 0; i < PL_DUMPER_SAVES_MAX; i++)
    pl__free(d->saves[i].bytes);
  pthread_cond_destroy(&d->changed);
  pthread_mutex_destroy(&d->lock);
  pl__free(d);
}
