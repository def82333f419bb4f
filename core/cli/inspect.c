/* cli/inspect.c - the commands that need no server. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* A fault of the configuration is what was asked for: a result, as
 * file:line: what, and not a message about a command that failed. */
int pl__cli_check(const struct command *c, struct arguments *a) {
  pl_server *server;
  struct pl_error error;

  (void)c;
  if (!a->options.app)
    a->options.app = ".";
  if (pl_server_new(&a->options, &server, &error)) {
    if (error.code == PL_ERROR_CONFIG) {
      puts(error.text);
      error.text[0] = '\0';
    }
    return pl__cli_failed(&error);
  }
  pl_server_check(server, &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}

static int routes(pl_server *server, struct arguments *a,
                  struct pl_error *error) {
  return pl_server_routes(server, a->json, error);
}

int pl__cli_routes(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, true, routes);
}

static int config(pl_server *server, struct arguments *a,
                  struct pl_error *error) {
  return pl_server_config_dump(server, a->json, error);
}

int pl__cli_config(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, false, config);
}

static int test(pl_server *server, struct arguments *a,
                struct pl_error *error) {
  return pl_server_test(server, a->argc, a->argv, error);
}

int pl__cli_test(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, false, test);
}

static bool has_header(const struct arguments *a, const char *name) {
  size_t bytes = strlen(name);

  for (size_t i = 0; i < a->header_count; i++)
    if (strncasecmp(a->headers[i], name, bytes) == 0 &&
        a->headers[i][bytes] == ':')
      return true;
  return false;
}

/* Nobody wants to type the media type; what it is shows. */
static void media_type_guess(struct arguments *a) {
  if (!a->body || !*a->body || has_header(a, "content-type"))
    return;
  a->headers[a->header_count++] =
      a->body[0] == '{' || a->body[0] == '['
          ? "content-type: application/json"
          : "content-type: application/x-www-form-urlencoded";
}

int pl__cli_request(const struct command *c, struct arguments *a) {
  struct pl_request request = {.method = a->positions[0],
                               .target = a->positions[1],
                               .headers = a->headers,
                               .body = a->body,
                               .body_bytes = a->body ? strlen(a->body) : 0,
                               .show_head = a->include};
  pl_server *server;
  struct pl_error error;
  int http_status = 0, code;

  if (a->position_count != 2)
    return pl__cli_usage_failed(c, "a method and a path are needed");
  code = pl__cli_server_new(a, true, &server);
  if (code)
    return code;
  media_type_guess(a);
  request.header_count = a->header_count;
  pl_server_request(server, &request, &http_status, &error);
  pl_server_free(server);
  if (error.code)
    return pl__cli_failed(&error);
  if (http_status < 400)
    return EXIT_FINE;
  fprintf(stderr, "perilune: the status is %d\n", http_status);
  return EXIT_FAILED;
}

int pl__cli_new(const struct command *c, struct arguments *a) {
  pl_server *server;
  struct pl_error error;

  if (!a->position_count)
    return pl__cli_usage_failed(c,
                                "what is it to be called? perilune new NAME");
  if (pl_server_new(&a->options, &server, &error))
    return pl__cli_failed(&error);
  pl_server_make_app(server, a->positions[0], &error);
  pl_server_free(server);
  return pl__cli_failed(&error);
}

static int repl(pl_server *server, struct arguments *a,
                struct pl_error *error) {
  (void)a;
  return pl_server_repl(server, error);
}

int pl__cli_repl(const struct command *c, struct arguments *a) {
  (void)c;
  return pl__cli_with_server(a, true, repl);
}
