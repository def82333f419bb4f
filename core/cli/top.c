/* cli/top.c - `perilune top`: a page about a running server, again and again.
 *
 * On a terminal it takes the screen and gives it back at the end, whatever the
 * end is; elsewhere it writes one page and ends.
 */
#define _GNU_SOURCE /* SIGWINCH */
#include "cli/command.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/paint.h"

#define INTERVAL_MS 1000
#define COLUMNS 100 /* without a terminal */

/* Another screen, no cursor, lines cut at the edge; and all of it back. */
#define SCREEN_TAKE "\033[?1049h\033[?25l\033[?7l"
#define SCREEN_GIVE "\033[?7h\033[?25h\033[?1049l"
#define PAGE_BEGIN "\033[H"
#define LINE_END "\033[K\n"
#define PAGE_END "\033[J"

static volatile sig_atomic_t ended, suspended;
static bool has_screen;

static void on_end(int number) {
  (void)number;
  ended = 1;
}

static void on_suspend(int number) {
  (void)number;
  suspended = 1;
}

static void on_resize(int number) { (void)number; } /* poll returns */

static void signals_take(void) {
  static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction end = {.sa_handler = on_end};
  struct sigaction suspend = {.sa_handler = on_suspend};
  struct sigaction resize = {.sa_handler = on_resize};

  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
    sigaction(ends[i], &end, NULL);
  sigaction(SIGTSTP, &suspend, NULL);
  sigaction(SIGWINCH, &resize, NULL);
}

/* --- the screen ------------------------------------------------------------- */

static void keys_take(const struct termios *before) {
  struct termios raw = *before;

  raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* `before`: how keys were read; NULL: there are none. */
static void screen_take(const struct termios *before) {
  if (before)
    keys_take(before);
  fputs(SCREEN_TAKE, stdout);
  fflush(stdout);
}

static void screen_give(const struct termios *before) {
  fputs(SCREEN_GIVE, stdout);
  fflush(stdout);
  if (before)
    tcsetattr(STDIN_FILENO, TCSANOW, before);
}

/* The shell has its terminal until it lets us go on. */
static void suspend(const struct termios *before) {
  suspended = 0;
  screen_give(before);
  raise(SIGSTOP);
  screen_take(before);
}

static void screen_size(int *columns, int *rows) {
  struct winsize size;

  *columns = COLUMNS;
  *rows = 0;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col) {
    *columns = size.ws_col;
    *rows = size.ws_row;
  }
}

static void line_write(const char *text, size_t bytes) {
  fwrite(text, 1, bytes, stdout);
  fputs(LINE_END, stdout);
}

/* Over the page before; a text that does not end its line gets an end. */
static void page_write(const char *text, size_t bytes) {
  const char *end = text + bytes, *stop;

  fputs(PAGE_BEGIN, stdout);
  for (; text < end; text = stop + 1) {
    stop = memchr(text, '\n', (size_t)(end - text));
    if (!stop)
      stop = end;
    line_write(text, (size_t)(stop - text));
  }
  fputs(PAGE_END, stdout);
  fflush(stdout);
}

/* Waits for the next page; false: the user has had enough. */
static bool next(bool has_keys) {
  struct pollfd key = {.fd = has_keys ? STDIN_FILENO : -1, .events = POLLIN};
  char c = 0;

  if (suspended || poll(&key, 1, INTERVAL_MS) <= 0)
    return !ended;
  if (read(STDIN_FILENO, &c, 1) != 1)
    return false;
  return !ended && c != 'q' && c != 'Q' && c != 4;
}

/* --- pages ------------------------------------------------------------------ */

static void on_output(void *arg, int stream, const char *text, size_t bytes) {
  (void)arg;
  (void)stream;
  if (has_screen)
    page_write(text, bytes);
}

static int ask(pl_server *server, int columns, int rows,
               struct pl_error *error) {
  bool colour = *pl__cli_paint(STDOUT_FILENO, PAINT_BOLD) != '\0';

  return pl_server_top(server, columns, rows, colour, error);
}

/* A server that is away for a moment (a restart) is waited for. */
static void page_draw(pl_server *server, struct pl_error *error) {
  char text[sizeof error->text + 64];
  int columns, rows;

  screen_size(&columns, &rows);
  if (ask(server, columns, rows > 1 ? rows - 1 : rows, error)) {
    snprintf(text, sizeof text, "perilune: %s\n\nq ends\n", error->text);
    page_write(text, strlen(text));
  }
}

static int on_terminal(pl_server *server, struct arguments *a,
                       struct pl_error *error) {
  bool has_keys = isatty(STDIN_FILENO);
  struct termios now, *before = has_keys ? &now : NULL;

  (void)a;
  if (ask(server, COLUMNS, 0, error)) /* nothing to be seen: say so, and end */
    return error->code;
  signals_take();
  if (before)
    tcgetattr(STDIN_FILENO, before);
  has_screen = true;
  screen_take(before);
  do {
    if (suspended)
      suspend(before);
    page_draw(server, error);
  } while (next(has_keys));
  screen_give(before);
  error->code = 0;
  return 0;
}

static int once(pl_server *server, struct arguments *a,
                struct pl_error *error) {
  (void)a;
  return ask(server, COLUMNS, 0, error);
}

int pl__cli_top(const struct command *c, struct arguments *a) {
  (void)c;
  if (!isatty(STDOUT_FILENO))
    return pl__cli_with_server(a, false, once);
  a->options.on_output = on_output;
  return pl__cli_with_server(a, false, on_terminal);
}
