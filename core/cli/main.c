/* cli/main.c - the launcher: finds the command, parses its arguments, runs it.
 *
 * A host like any other: it includes perilune.h and nothing else of ours but
 * its own files.  Results go to stdout, messages to stderr.
 */
#include "cli/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/paint.h"

const struct command pl__cli_commands[] = {
    {"run", "[APP] [options]", "Serves an app",
     "  perilune run\n"
     "  perilune run apps/hello --listen 127.0.0.1:9000 --workers 2\n"
     "  perilune run app.lua --set log.level=warn --set settings.db=notes\n",
     OPTIONS_CONFIGURATION, 1, true, pl__cli_run},
    {"new", "NAME", "Makes an app in a new or empty folder",
     "  perilune new notes\n"
     "  perilune new path/to/notes\n",
     0, 1, false, pl__cli_new},
    {"dev", "[APP] [options]",
     "Serves an app while you write it: reloads on save, shows errors",
     "  perilune dev\n"
     "  perilune dev apps/hello --listen 127.0.0.1:9000\n",
     OPTIONS_CONFIGURATION, 1, true, pl__cli_dev},
    {"check", "[APP] [options]", "Loads an app and tells what is wrong with it",
     "  perilune check apps/hello\n", OPTION_CONFIG | OPTION_SET, 1, true,
     pl__cli_check},
    {"routes", "[APP] [--json]", "Lists the routes of an app",
     "  perilune routes apps/hello\n"
     "  perilune routes --json | jq '.[].pattern'\n",
     OPTION_JSON | OPTION_CONFIG | OPTION_SET, 1, true, pl__cli_routes},
    {"request", "METHOD PATH [options]",
     "Sends one request to an app, without a server",
     "  perilune request GET /hello/world --app apps/hello\n"
     "  perilune request POST /notes -d '{\"title\":\"milk\"}'\n",
     OPTION_HEADER | OPTION_DATA | OPTION_INCLUDE | OPTION_APP | OPTION_CONFIG |
         OPTION_SET,
     2, false, pl__cli_request},
    {"repl", "[APP] [options]",
     "Evaluates Lua against an app: P, app and request(...) are there",
     "  perilune repl apps/hello\n"
     "  echo \"request('GET', '/hello/moon')\" | perilune repl apps/hello\n",
     OPTION_CONFIG | OPTION_SET, 1, true, pl__cli_repl},
    {"test", "[busted arguments]", "Runs specs with busted, inside the runtime",
     "  perilune test\n"
     "  perilune test spec/notes_spec.lua --filter refuses\n",
     0, -1, false, pl__cli_test},
    {"stop", "[--name N | --pid-file F]", "Drains and stops a running server",
     "  perilune stop\n"
     "  perilune stop --name hello\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG, 0, false, pl__cli_stop},
    {"reload", "[--name N | --pid-file F]",
     "Has a running server load its app anew, and tells how that went",
     "  perilune reload\n"
     "  perilune reload --name hello --json\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG | OPTION_JSON |
         OPTION_NO_WAIT,
     0, false, pl__cli_reload},
    {"status", "[--name N | --pid-file F]", "Shows how a running server is",
     "  perilune status\n"
     "  perilune status --name hello --json\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG | OPTION_JSON, 0, false,
     pl__cli_status},
    {"jit", "[--name N | --pid-file F]",
     "Shows what a running server's compiler gave up, and what to do",
     "  perilune jit\n"
     "  perilune jit --name hello --json\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG | OPTION_JSON, 0, false,
     pl__cli_jit},
    {"top", "[--name N | --pid-file F]",
     "Watches a running server: a page, again each second",
     "  perilune top\n"
     "  perilune top --name hello\n"
     "  perilune top | cat                # one page\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG, 0, false, pl__cli_top},
    {"profile", "[KIND] [options]",
     "Tells what a running server spends its time on, or its memory",
     "  perilune profile                          # 30 seconds of CPU, a "
     "table\n"
     "  perilune profile --ago 0 -o flame.svg     # the last 30, a flame "
     "graph, and a table on stdout\n"
     "  perilune profile heap -o heap.pb.gz && go tool pprof heap.pb.gz\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG | OPTION_SECONDS |
         OPTION_AGO | OPTION_OUTPUT | OPTION_FORMAT,
     1, false, pl__cli_profile},
    {"trace", "[--output F] [--seconds N] [--name N | --pid-file F]",
     "Writes what a running server has done last, for a trace viewer",
     "  perilune trace --output trace.json                  # the last 10 s\n"
     "  perilune trace --seconds 5 --output - > trace.json  # the next 5 s\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG | OPTION_OUTPUT |
         OPTION_SECONDS,
     0, false, pl__cli_trace},
    {"drain", "[--name N | --pid-file F]",
     "Closes the sockets of a running server and ends what it has begun",
     "  perilune drain --name hello && perilune stop --name hello\n",
     OPTION_NAME | OPTION_PID_FILE | OPTION_CONFIG | OPTION_JSON, 0, false,
     pl__cli_drain},
    {"config", "[APP] [options]",
     "Prints every configuration key with where it comes from",
     "  perilune config\n"
     "  perilune config apps/hello --json\n",
     OPTIONS_CONFIGURATION | OPTION_JSON, 1, true, pl__cli_config},
    {"version", "[--json]", "Prints the versions of Perilune and its parts",
     "  perilune version\n", OPTION_JSON, 0, false, pl__cli_version},
    {"help", "[COMMAND]", "Explains a command", "  perilune help run\n", 0, 1,
     false, pl__cli_help},
};
const size_t pl__cli_command_count =
    sizeof(pl__cli_commands) / sizeof(pl__cli_commands[0]);

/* ---- failures ------------------------------------------------------------ */

static void message_print(const char *text) {
  fprintf(stderr, "%sperilune:%s %s\n",
          pl__cli_paint(STDERR_FILENO, PAINT_ERROR),
          pl__cli_paint_end(STDERR_FILENO), text);
}

int pl__cli_failed(const struct pl_error *error) {
  if (error->code == 0)
    return EXIT_FINE;
  if (error->text[0])
    message_print(error->text);
  switch (error->code) {
  case PL_ERROR_SCRIPT:
    return EXIT_SCRIPT;
  case PL_ERROR_BIND:
    return EXIT_BIND;
  case PL_ERROR_CONFIG:
    return EXIT_CONFIG;
  case PL_ERROR_NOT_RUNNING:
    return EXIT_NOT_RUNNING;
  case PL_ERROR_USAGE:
    return EXIT_USAGE;
  default:
    return EXIT_FAILED;
  }
}

int pl__cli_usage_failed(const struct command *c, const char *format, ...) {
  char text[1024];
  va_list args;

  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  message_print(text);
  fprintf(stderr, "Try: perilune help%s%s\n", c ? " " : "", c ? c->name : "");
  return EXIT_USAGE;
}

/* ---- commands ------------------------------------------------------------ */

const struct command *pl__cli_command_find(const char *name) {
  const char *words[sizeof(pl__cli_commands) / sizeof(pl__cli_commands[0])];
  const char *near;

  for (size_t i = 0; i < pl__cli_command_count; i++) {
    if (strcmp(pl__cli_commands[i].name, name) == 0)
      return &pl__cli_commands[i];
    words[i] = pl__cli_commands[i].name;
  }
  near = pl_suggest(name, words, pl__cli_command_count);
  pl__cli_usage_failed(NULL, "unknown command %s%s%s%s", name,
                       near ? ", did you mean " : "", near ? near : "",
                       near ? "?" : "");
  return NULL;
}

/* What people type before they have read anything. */
static const char *alias_of(const char *word) {
  if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
    return "help";
  if (strcmp(word, "-V") == 0 || strcmp(word, "--version") == 0)
    return "version";
  return word;
}

/* Results that could not be written are a failure: a full disk, a reader that
 * went away. */
static int output_finish(int code) {
  bool failed = fflush(stdout) != 0 || ferror(stdout);
  return failed && code == EXIT_FINE ? EXIT_FAILED : code;
}

int main(int argc, char **argv) {
  const char **words = (const char **)argv;
  const struct command *command;
  static struct arguments arguments; /* larger than a stack frame should be */

  if (argc < 2) {
    fprintf(stderr, "Try: perilune run apps/hello, or: perilune help\n");
    return EXIT_USAGE;
  }
  command = pl__cli_command_find(alias_of(words[1]));
  if (!command)
    return EXIT_USAGE;
  if (!pl__cli_arguments_parse(command, argc - 2, words + 2, &arguments))
    return EXIT_USAGE;
  if (arguments.help) {
    pl__cli_help_print(command);
    return output_finish(EXIT_FINE);
  }
  return output_finish(command->run(command, &arguments));
}
