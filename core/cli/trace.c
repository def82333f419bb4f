/* cli/trace.c - `perilune trace`: has a running server write down what it has
 * done, and brings that where the user wants it.
 */
#include "cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096u
#define CHUNK_BYTES 65536u
#define SECONDS_MAX 300

/* The server's file, as it tells. */
static char path[PATH_BYTES];

static void on_output(void *arg, int stream, const char *text, size_t bytes) {
  (void)arg;
  if (stream == PL_STREAM_RESULT)
    snprintf(path, sizeof path, "%.*s", (int)bytes, text);
  else
    fwrite(text, 1, bytes, stderr);
}

static int failed(struct pl_error *error, const char *what) {
  error->code = PL_ERROR_FAILED;
  snprintf(error->text, sizeof error->text, "%.1000s: %s", what,
           strerror(errno));
  return error->code;
}

/* True: all of it. */
static bool copy(FILE *from, FILE *to) {
  static char chunk[CHUNK_BYTES];
  size_t bytes;

  while ((bytes = fread(chunk, 1, sizeof chunk, from)) > 0)
    if (fwrite(chunk, 1, bytes, to) != bytes)
      return false;
  return !ferror(from) && fflush(to) == 0;
}

/* The server's own file goes away, once it has arrived. */
static int bring(const char *output, struct pl_error *error) {
  bool is_stdout = strcmp(output, "-") == 0, is_whole;
  FILE *from = fopen(path, "rb"), *to;

  if (!from)
    return failed(error, path);
  to = is_stdout ? stdout : fopen(output, "wb");
  if (!to) {
    failed(error, output);
    fclose(from);
    return error->code;
  }
  is_whole = copy(from, to);
  fclose(from);
  if (!is_stdout && fclose(to))
    is_whole = false;
  if (!is_whole)
    return failed(error, output);
  remove(path);
  return 0;
}

/* Of what comes; 0: of what has been. Below: it is no such number. */
static int seconds_of(const char *text) {
  char *end;
  long n = text ? strtol(text, &end, 10) : 0;

  if (!text)
    return 0;
  return end == text || *end || n < 1 || n > SECONDS_MAX ? -1 : (int)n;
}

static int trace(pl_server *server, struct arguments *a,
                 struct pl_error *error) {
  if (pl_server_record(server, seconds_of(a->seconds), error))
    return error->code;
  if (a->output)
    return bring(a->output, error);
  puts(path);
  return 0;
}

int pl__cli_trace(const struct command *c, struct arguments *a) {
  if (seconds_of(a->seconds) < 0)
    return pl__cli_usage_failed(c, "--seconds %s: expected is 1 to %d",
                                a->seconds, SECONDS_MAX);
  a->options.on_output = on_output;
  return pl__cli_with_server(a, false, trace);
}
