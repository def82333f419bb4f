/* cli/command.h - what a command of the launcher is, and what it is given.
 *
 * A command is a row of a table: name, help, the options it takes, and a
 * function that gets them parsed.  All it does goes through perilune.h.
 */
#ifndef PL_CLI_COMMAND_H
#define PL_CLI_COMMAND_H

#include "perilune.h"

#include <stdbool.h>
#include <stddef.h>

#define CLI_OVERRIDES_MAX 128 /* --set, --workers and the like */
#define CLI_HEADERS_MAX 100   /* -H */
#define CLI_LISTEN_BYTES 2048 /* all --listen together */

/* Exit codes; those of sysexits.h where there is one. */
enum {
  EXIT_FINE = 0,
  EXIT_FAILED = 1,
  EXIT_USAGE = 2,
  EXIT_NOT_RUNNING = 3,
  EXIT_SCRIPT = 65,
  EXIT_BIND = 69,
  EXIT_CONFIG = 78
};

/* Options, as bits of struct command. */
enum {
  OPTION_LISTEN = 1,
  OPTION_WORKERS = 2,
  OPTION_CONFIG = 4,
  OPTION_SET = 8,
  OPTION_NAME = 16,
  OPTION_PID_FILE = 32,
  OPTION_JSON = 64,
  OPTION_HEADER = 128,
  OPTION_DATA = 256,
  OPTION_APP = 512,
  OPTION_INCLUDE = 1024,
  OPTION_HELP = 2048, /* every command takes it */
  OPTION_NO_WAIT = 4096,
  OPTION_SECONDS = 8192,
  OPTION_AGO = 16384,
  OPTION_OUTPUT = 32768,
  OPTION_FORMAT = 65536
};
#define OPTIONS_CONFIGURATION                                                  \
  (OPTION_LISTEN | OPTION_WORKERS | OPTION_CONFIG | OPTION_SET | OPTION_NAME | \
   OPTION_PID_FILE)

/* A command line, parsed. Texts are those of argv. */
struct arguments {
  struct pl_options options; /* app, config, overrides, name, pid_file */
  const char *overrides[CLI_OVERRIDES_MAX];
  char listen[CLI_LISTEN_BYTES]; /* "listen=a,b": one override */
  const char *headers[CLI_HEADERS_MAX + 1];
  size_t header_count;
  const char *body;    /* -d; NULL: none */
  const char *seconds; /* of a profile; NULL: not said, as the next three */
  const char *ago;
  const char *output;
  const char *format;
  bool json;
  bool no_wait;
  bool include; /* the response's head too */
  bool help;
  const char *positions[2]; /* what is no option */
  int position_count;
  int argc; /* all that stood behind the command's name */
  const char *const *argv;
};

struct command {
  const char *name;
  const char *usage;    /* what may stand behind the name */
  const char *summary;  /* half a line */
  const char *examples; /* whole lines, indented */
  int options;          /* bits of OPTION_* */
  int position_max;     /* -1: nothing is parsed, argc and argv are passed on */
  bool position_is_app; /* the first one is the app */
  int (*run)(const struct command *c, struct arguments *a); /* exit code */
};

extern const struct command pl__cli_commands[];
extern const size_t pl__cli_command_count;

/* run.c, inspect.c, top.c, profile.c, trace.c, help.c */
int pl__cli_run(const struct command *c, struct arguments *a);
int pl__cli_status(const struct command *c, struct arguments *a);
int pl__cli_jit(const struct command *c, struct arguments *a);
int pl__cli_top(const struct command *c, struct arguments *a);
int pl__cli_profile(const struct command *c, struct arguments *a);
int pl__cli_trace(const struct command *c, struct arguments *a);
int pl__cli_reload(const struct command *c, struct arguments *a);
int pl__cli_drain(const struct command *c, struct arguments *a);
int pl__cli_dev(const struct command *c, struct arguments *a);
int pl__cli_new(const struct command *c, struct arguments *a);
int pl__cli_repl(const struct command *c, struct arguments *a);
int pl__cli_stop(const struct command *c, struct arguments *a);
int pl__cli_check(const struct command *c, struct arguments *a);
int pl__cli_routes(const struct command *c, struct arguments *a);
int pl__cli_request(const struct command *c, struct arguments *a);
int pl__cli_test(const struct command *c, struct arguments *a);
int pl__cli_config(const struct command *c, struct arguments *a);
int pl__cli_version(const struct command *c, struct arguments *a);
int pl__cli_help(const struct command *c, struct arguments *a);

/* Prints the help of one command, or of the launcher (NULL), to stdout. */
void pl__cli_help_print(const struct command *c);

/* The command of that name; NULL, after saying so and what may have been
 * meant, when there is none. */
const struct command *pl__cli_command_find(const char *name);

/* Parses what stands behind the command's name. Returns true, or false after
 * saying what is wrong. */
bool pl__cli_arguments_parse(const struct command *c, int argc,
                             const char **argv, struct arguments *out);

/* Makes the server that the arguments describe. Without an app among them,
 * that of the current folder is taken if there is one; `app_needed`: else it
 * is an error. Returns 0 or an exit code, after saying why. */
int pl__cli_server_new(struct arguments *a, bool app_needed, pl_server **out);

/* What is done with such a server; a pl_error_kind, which is in *error, too. */
typedef int (*pl__cli_server_fn)(pl_server *server, struct arguments *a,
                                 struct pl_error *error);
/* Makes it, does that, frees it. Returns the exit code, after saying why. */
int pl__cli_with_server(struct arguments *a, bool app_needed,
                        pl__cli_server_fn fn);

/* Says what went wrong and returns the exit code for it; 0 for code 0. */
int pl__cli_failed(const struct pl_error *error);

/* The same for wrong usage. `c` may be NULL. */
__attribute__((format(printf, 2, 3))) int
pl__cli_usage_failed(const struct command *c, const char *format, ...);

/* What an option looks like in help: "--listen ADDRESS", "..."; NULL past the
 * last one. `bit` gets its OPTION_*. */
const char *pl__cli_option_help(size_t index, int *bit, const char **text);

#endif /* PL_CLI_COMMAND_H */
