/* cli/run.c - the commands that start servers, and talk to those that run. */
#include "cli/command.h"

#include <unistd.h>

int pl__cli_server_new(struct arguments *a, bool app_needed, pl_server **out) {
  struct pl_error error;

  if (!a->options.app && (app_needed || access("app.lua", R_OK) == 0))
    a->options.app = ".";
  if (pl_server_new(&a->options, out, &error))
    return pl__cli_failed(&error);
  return EXIT_FINE;
}

int pl__cli_run(const struct command *c, struct arguments *a) {
  pl_server *server;
  struct pl_error error;
  int code = pl__cli_server_new(a, true, &server);

  (void)c;
  if (code)
    return code;
  pl_server_run(server, &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}

int pl__cli_dev(const struct command *c, struct arguments *a) {
  a->options.dev = 1;
  return pl__cli_run(c, a);
}

int pl__cli_stop(const struct command *c, struct arguments *a) {
  pl_server *server;
  struct pl_error error;
  int code = pl__cli_server_new(a, false, &server);

  (void)c;
  if (code)
    return code;
  pl_server_stop(server, &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}

int pl__cli_status(const struct command *c, struct arguments *a) {
  pl_server *server;
  struct pl_error error;
  int code = pl__cli_server_new(a, false, &server);

  (void)c;
  if (code)
    return code;
  pl_server_status(server, a->json, &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}

int pl__cli_reload(const struct command *c, struct arguments *a) {
  pl_server *server;
  struct pl_error error;
  int code = pl__cli_server_new(a, false, &server);

  (void)c;
  if (code)
    return code;
  pl_server_reload(server, !a->no_wait, a->json, &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}

int pl__cli_drain(const struct command *c, struct arguments *a) {
  pl_server *server;
  struct pl_error error;
  int code = pl__cli_server_new(a, false, &server);

  (void)c;
  if (code)
    return code;
  pl_server_drain(server, a->json, &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}
