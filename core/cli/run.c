/* cli/run.c - the commands that start servers, and talk to those that run. */
#include "cli/command.h"

#include <unistd.h>

#include "cli/paint.h"

int pl__cli_server_new(struct arguments *a, bool app_needed, pl_server **out) {
  struct pl_error error;

  if (!a->options.app && (app_needed || access("app.lua", R_OK) == 0))
    a->options.app = ".";
  if (pl_server_new(&a->options, out, &error))
    return pl__cli_failed(&error);
  return EXIT_FINE;
}

int pl__cli_with_server(struct arguments *a, bool app_needed,
                        pl__cli_server_fn fn) {
  pl_server *server;
  struct pl_error error;
  int code = pl__cli_server_new(a, app_needed, &server);

  if (code)
    return code;
  fn(server, a, &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}

static int run(pl_server *server, struct arguments *a, struct pl_error *error) {
  (void)a;
  return pl_server_run(server, error);
}

int pl__cli_run(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, true, run);
}

int pl__cli_dev(const struct command *c, struct arguments *a) {
  a->options.dev = 1;
  return pl__cli_run(c, a);
}

static int stop(pl_server *server, struct arguments *a,
                struct pl_error *error) {
  (void)a;
  return pl_server_stop(server, error);
}

int pl__cli_stop(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, false, stop);
}

static int status(pl_server *server, struct arguments *a,
                  struct pl_error *error) {
  return pl_server_status(server, a->json, error);
}

int pl__cli_status(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, false, status);
}

static int jit(pl_server *server, struct arguments *a, struct pl_error *error) {
  bool colour = *pl__cli_paint(STDOUT_FILENO, PAINT_BOLD) != '\0';

  return pl_server_jit(server, a->json, colour, error);
}

int pl__cli_jit(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, false, jit);
}

static int reload(pl_server *server, struct arguments *a,
                  struct pl_error *error) {
  return pl_server_reload(server, !a->no_wait, a->json, error);
}

int pl__cli_reload(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, false, reload);
}

static int drain(pl_server *server, struct arguments *a,
                 struct pl_error *error) {
  return pl_server_drain(server, a->json, error);
}

int pl__cli_drain(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, false, drain);
}
