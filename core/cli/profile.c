/* cli/profile.c - `perilune profile`: what a running server spends its time or
 * its memory on.
 *
 * CPU samples are always taken: one of the time to come is waited for here, and
 * then asked for as one of the past.
 */
#include "cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_DEFAULT 30
#define SECONDS_MAX 900
#define QUERY_BYTES 128

struct asked {
  const char *kind;
  const char *format;
  long seconds;
  long ago; /* -1: not said */
};

static const char *const kinds[] = {"cpu",       "heap",          "allocs",
                                    "coroutine", "coroutineleak", "block"};
static const char *const formats[] = {"pprof", "folded", "svg", "text"};
#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static FILE *file; /* where results go */

static void on_output(void *arg, int stream, const char *text, size_t bytes) {
  (void)arg;
  fwrite(text, 1, bytes, stream == PL_STREAM_RESULT ? file : stderr);
}

/* --- what is asked ---------------------------------------------------------- */

static bool is_among(const char *word, const char *const *words, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(word, words[i]) == 0)
      return true;
  return false;
}

static bool number_take(const char *text, long min, long *out) {
  char *end;

  if (!text)
    return true;
  *out = strtol(text, &end, 10);
  return end != text && !*end && *out >= min && *out <= SECONDS_MAX;
}

static bool ends_with(const char *text, const char *end) {
  size_t bytes = strlen(text), n = strlen(end);

  return bytes >= n && strcmp(text + bytes - n, end) == 0;
}

static bool is_stdout(const char *path) { return strcmp(path, "-") == 0; }

/* By the file that it is for. */
static const char *format_guess(const char *path) {
  if (!path)
    return "text";
  return ends_with(path, ".svg")                                  ? "svg"
         : ends_with(path, ".txt")                                ? "text"
         : ends_with(path, ".folded") || ends_with(path, ".fold") ? "folded"
                                                                  : "pprof";
}

/* 0 or an exit code, after saying why. */
static int take(const struct command *c, const struct arguments *a,
                struct asked *out) {
  *out =
      (struct asked){.kind = a->position_count ? a->positions[0] : "cpu",
                     .format = a->format ? a->format : format_guess(a->output),
                     .seconds = SECONDS_DEFAULT,
                     .ago = -1};
  if (!is_among(out->kind, kinds, COUNT(kinds)))
    return pl__cli_usage_failed(
        c, "%s is none of cpu, heap, allocs, coroutine, coroutineleak, block",
        out->kind);
  if (!is_among(out->format, formats, COUNT(formats)))
    return pl__cli_usage_failed(c, "%s is none of pprof, folded, svg, text",
                                out->format);
  if (!number_take(a->seconds, 1, &out->seconds))
    return pl__cli_usage_failed(c, "--seconds %s: expected is 1 to %d",
                                a->seconds, SECONDS_MAX);
  if (!number_take(a->ago, 0, &out->ago))
    return pl__cli_usage_failed(c, "--ago %s: expected is 0 to %d", a->ago,
                                SECONDS_MAX);
  return 0;
}

/* --- asking ------------------------------------------------------------------ */

static int ask(pl_server *server, const struct asked *q, const char *format,
               struct pl_error *error) {
  char query[QUERY_BYTES];

  snprintf(query, sizeof query, "seconds=%ld&ago=%ld&format=%s", q->seconds,
           q->ago < 0 ? 0 : q->ago, format);
  return pl_server_profile(server, q->kind, query, error);
}

/* Until the time is over that it is to be of. */
static void wait_for_samples(const struct asked *q) {
  struct timespec second = {.tv_sec = 1};
  bool is_seen = isatty(STDERR_FILENO);

  if (!is_seen)
    fprintf(stderr, "perilune: taking samples for %ld s\n", q->seconds);
  for (long left = q->seconds; left > 0; left--) {
    if (is_seen)
      fprintf(stderr, "\rperilune: taking samples, %ld s left \033[K", left);
    while (nanosleep(&second, &second) && errno == EINTR)
      ;
    second.tv_sec = 1;
    second.tv_nsec = 0;
  }
  if (is_seen)
    fprintf(stderr, "\r\033[K");
}

static int file_write(pl_server *server, const struct asked *q,
                      const char *path, struct pl_error *error) {
  int failed;

  file = fopen(path, "wb");
  if (!file) {
    fprintf(stderr, "perilune: cannot write %s: %s\n", path, strerror(errno));
    file = stdout;
    return PL_ERROR_FAILED;
  }
  failed = ask(server, q, q->format, error);
  if (fclose(file) && !failed) {
    fprintf(stderr, "perilune: cannot write %s: %s\n", path, strerror(errno));
    failed = PL_ERROR_FAILED;
  }
  file = stdout;
  if (failed)
    remove(path);
  else
    fprintf(stderr, "perilune: %s is written\n", path);
  return failed;
}

static int profile(pl_server *server, const struct asked *q, const char *output,
                   struct pl_error *error) {
  *error = (struct pl_error){0};
  /* To know at once that there is no such server, or no such profile. */
  file = fopen("/dev/null", "wb");
  int failed = file ? ask(server, q, "text", error) : PL_ERROR_FAILED;

  if (file)
    fclose(file);
  file = stdout;
  if (failed)
    return failed;
  if (q->ago < 0 && strcmp(q->kind, "cpu") == 0)
    wait_for_samples(q);
  if (!output || is_stdout(output))
    return ask(server, q, q->format, error);
  failed = file_write(server, q, output, error);
  return failed ? failed : ask(server, q, "text", error);
}

int pl__cli_profile(const struct command *c, struct arguments *a) {
  struct asked asked;
  struct pl_error error;
  pl_server *server;
  int code = take(c, a, &asked), failed;

  if (code)
    return code;
  if ((!a->output || is_stdout(a->output)) &&
      strcmp(asked.format, "pprof") == 0 && isatty(STDOUT_FILENO))
    return pl__cli_usage_failed(c, "--format pprof is no text: --output FILE");
  a->options.on_output = on_output;
  file = stdout;
  code = pl__cli_server_new(a, false, &server);
  if (code)
    return code;
  failed = profile(server, &asked, a->output, &error);
  pl_server_free(server);
  code = pl__cli_failed(&error);
  return failed && !code ? EXIT_FAILED : code;
}
