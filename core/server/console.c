/* server/console.c - see console.h. */
#include "server/console.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

/* ---- signals -------------------------------------------------------------- */

static struct pl_console *opened; /* handlers of signals get no argument */
static volatile sig_atomic_t is_terminal, is_reading, was_interrupted;
static volatile sig_atomic_t is_pending; /* until the loop knows of it */

static void on_signal(int number) {
  int saved = errno;

  if (is_reading && is_terminal) {
    was_interrupted = 1;
  } else if (is_reading || is_pending) {
    signal(number, SIG_DFL);
    raise(number);
  } else {
    is_pending = 1;
    uv_async_send(&opened->async);
  }
  errno = saved;
}

static void on_async(uv_async_t *handle) {
  struct pl_console *c = handle->data;

  if (!is_pending) /* what it was for has ended: a line is being read since */
    return;
  is_pending = 0;
  c->on_interrupt(c->arg);
}

static void signals_take(struct pl_console *c) {
  /* Without SA_RESTART: reading ends with EINTR. */
  struct sigaction action = {.sa_handler = on_signal};

  is_pending = is_reading = 0;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &c->before);
}

/* ---- lines that are edited ------------------------------------------------ */

#if PL_LIBEDIT

#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <wchar.h>

#define HISTORY_LINES 500

struct pl_console_editor {
  EditLine *edit;
  History *history;
  const char *prompt;
};

static char *prompt_of(EditLine *edit) {
  struct pl_console_editor *e;

  el_get(edit, EL_CLIENTDATA, &e);
  return (char *)(uintptr_t)e->prompt; /* libedit only reads it */
}

/* libedit's own begins anew when a signal comes. */
static int on_key(EditLine *edit, wchar_t *out) {
  mbstate_t state = {0};
  char byte;

  (void)edit;
  for (;;) {
    ssize_t n = read(STDIN_FILENO, &byte, 1);
    size_t used;

    if (n < 0 && errno == EINTR && !was_interrupted)
      continue;
    if (n <= 0)
      return (int)n;
    if (!byte) /* a Ctrl-D typed before the line was read; libedit: "quote" */
      continue;
    used = mbrtowc(out, &byte, 1, &state);
    if (used == (size_t)-1) /* no text in this locale */
      *out = (unsigned char)byte;
    if (used != (size_t)-2)
      return 1;
  }
}

static bool editor_is_wanted(void) {
  const char *kind = getenv("TERM");

  return is_terminal && isatty(STDERR_FILENO) && kind && *kind &&
         strcmp(kind, "dumb") != 0;
}

/* Where none is set terminals speak UTF-8 all the same, and libedit would drop
 * what is not ASCII. */
static void locale_take(void) {
  setlocale(LC_CTYPE, "");
  if (strcmp(nl_langinfo(CODESET), "ANSI_X3.4-1968") == 0)
    setlocale(LC_CTYPE, "C.UTF-8");
}

static void editor_close(struct pl_console_editor *e) {
  if (!e)
    return;
  if (e->edit)
    el_end(e->edit);
  if (e->history)
    history_end(e->history);
  pl__free(e);
}

/* NULL: lines are not edited then. */
static struct pl_console_editor *editor_open(void) {
  struct pl_console_editor *e =
      editor_is_wanted() ? pl__alloc_zero(sizeof *e) : NULL;
  HistEvent event;

  if (!e)
    return NULL;
  locale_take();
  e->prompt = "";
  e->history = history_init();
  e->edit = e->history ? el_init("perilune", stdin, stderr, stderr) : NULL;
  if (!e->edit) {
    editor_close(e);
    return NULL;
  }
  history(e->history, &event, H_SETSIZE, HISTORY_LINES);
  history(e->history, &event, H_SETUNIQUE, 1);
  el_set(e->edit, EL_CLIENTDATA, e);
  el_set(e->edit, EL_PROMPT, prompt_of);
  el_set(e->edit, EL_EDITOR, "emacs");
  el_set(e->edit, EL_HIST, history, e->history);
  el_set(e->edit, EL_GETCFN, on_key);
  el_set(e->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
  el_source(e->edit, NULL); /* ~/.editrc */
  return e;
}

/* False: there is none. */
static bool editor_read(struct pl_console *c, const char *prompt) {
  struct pl_console_editor *e = c->editor;
  HistEvent event;
  const char *text;
  int bytes = 0;

  e->prompt = prompt;
  el_resize(e->edit);
  text = el_gets(e->edit, &bytes);
  if (!text || bytes <= 0)
    return false;
  if (text[0] != '\n')
    history(e->history, &event, H_ENTER, text);
  if (text[bytes - 1] == '\n')
    bytes--;
  return !pl__buf_append(&c->line, text, (uint32_t)bytes);
}

#else

static struct pl_console_editor *editor_open(void) { return NULL; }
static void editor_close(struct pl_console_editor *e) { (void)e; }
static bool editor_read(struct pl_console *c, const char *prompt) {
  (void)c, (void)prompt;
  return false;
}

#endif

/* ---- lines ---------------------------------------------------------------- */

static bool plain_read(struct pl_console *c, const char *prompt) {
  char chunk[4096];
  bool ended = false;

  if (is_terminal)
    fputs(prompt, stderr);
  while (!ended && fgets(chunk, sizeof chunk, stdin)) {
    size_t n = strlen(chunk);
    ended = n && chunk[n - 1] == '\n';
    if (pl__buf_append(&c->line, chunk, (uint32_t)(ended ? n - 1 : n)))
      return false;
  }
  return ended || c->line.bytes;
}

enum pl_console_line pl__console_read(struct pl_console *c, const char *prompt,
                                      struct pl_slice *out) {
  bool has_line;

  c->line.bytes = 0;
  was_interrupted = is_pending = 0;
  is_reading = 1;
  has_line = c->editor ? editor_read(c, prompt) : plain_read(c, prompt);
  is_reading = 0;
  if (is_terminal && (was_interrupted || !has_line))
    fputc('\n', stderr);
  if (was_interrupted) {
    clearerr(stdin);
    return PL_CONSOLE_INTERRUPTED;
  }
  if (!has_line)
    return PL_CONSOLE_END;
  out->at = c->line.at ? c->line.at : "";
  out->bytes = c->line.bytes;
  return PL_CONSOLE_TEXT;
}

/* ---- a life --------------------------------------------------------------- */

int pl__console_open(struct pl_console *c, uv_loop_t *loop,
                     pl_console_interrupt_fn on_interrupt, void *arg) {
  int failed = uv_async_init(loop, &c->async, on_async);

  if (failed)
    return failed;
  c->async.data = c;
  c->on_interrupt = on_interrupt;
  c->arg = arg;
  pl__buf_init(&c->line, NULL, PL_CONSOLE_LINE_BYTES_MAX);
  is_terminal = isatty(STDIN_FILENO);
  c->editor = editor_open();
  opened = c;
  signals_take(c);
  return 0;
}

void pl__console_close(struct pl_console *c) {
  sigaction(SIGINT, &c->before, NULL);
  opened = NULL;
  editor_close(c->editor);
  pl__buf_release(&c->line);
  uv_close((uv_handle_t *)&c->async, NULL);
}
