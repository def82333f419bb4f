/* cli/arguments.c - from argv to struct arguments. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct option {
  const char *name;   /* without dashes */
  char letter;        /* 0: none */
  const char *value;  /* what it takes, for help; NULL: nothing */
  int bit;            /* OPTION_* */
  const char *text;   /* help */
  const char *pasted; /* how help shows it */
};

static const struct option options[] = {
    {"listen", 0, "A", OPTION_LISTEN,
     "127.0.0.1:8080, [::1]:8080, unix:/path; may be repeated",
     "--listen ADDRESS"},
    {"workers", 0, "N", OPTION_WORKERS, "how many, or auto", "--workers N"},
    {"config", 0, "F", OPTION_CONFIG,
     "configuration file, instead of config.lua beside the app",
     "--config FILE"},
    {"set", 0, "K=V", OPTION_SET,
     "a key of the configuration, or settings.NAME; may be repeated",
     "--set KEY=VALUE"},
    {"name", 0, "N", OPTION_NAME, "name of the server", "--name NAME"},
    {"pid-file", 0, "F", OPTION_PID_FILE, "where its pid is kept",
     "--pid-file FILE"},
    {"json", 0, NULL, OPTION_JSON, "for programs", "--json"},
    {"header", 'H', "H", OPTION_HEADER, "a header field; may be repeated",
     "-H, --header 'NAME: VALUE'"},
    {"data", 'd', "D", OPTION_DATA, "the body", "-d, --data TEXT"},
    {"include", 'i', NULL, OPTION_INCLUDE,
     "shows status and header fields of the response too", "-i, --include"},
    {"app", 0, "A", OPTION_APP, "file or folder of the app, instead of .",
     "--app APP"},
    {"seconds", 0, "N", OPTION_SECONDS, "for how long, in seconds",
     "--seconds N"},
    {"ago", 0, "N", OPTION_AGO,
     "of the past: it ended N seconds ago, and nothing is waited for",
     "--ago N"},
    {"output", 'o', "F", OPTION_OUTPUT, "the file for it, or - for stdout",
     "-o, --output FILE"},
    {"format", 0, "F", OPTION_FORMAT,
     "pprof, folded, svg or text; else as the file is called", "--format F"},
    {"no-wait", 0, NULL, OPTION_NO_WAIT, "returns when it has begun",
     "--no-wait"},
    {"help", 'h', NULL, OPTION_HELP, "this text", "-h, --help"},
};
#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

const char *pl__cli_option_help(size_t index, int *bit, const char **text) {
  if (index >= OPTION_COUNT)
    return NULL;
  *bit = options[index].bit;
  *text = options[index].text;
  return options[index].pasted;
}

static bool is_taken(const struct command *c, const struct option *o) {
  return (c->options & o->bit) || o->bit == OPTION_HELP;
}

static const struct option *option_find(const struct command *c,
                                        const char *text, size_t bytes) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const struct option *o = &options[i];
    bool is_long = text[0] == '-' && text[1] == '-' &&
                   strlen(o->name) == bytes - 2 &&
                   memcmp(o->name, text + 2, bytes - 2) == 0;

    if (is_taken(c, o) &&
        (is_long || (bytes == 2 && o->letter && text[1] == o->letter)))
      return o;
  }
  return NULL;
}

static bool option_unknown(const struct command *c, const char *text) {
  const char *words[OPTION_COUNT];
  const char *near = NULL;
  size_t count = 0;

  for (size_t i = 0; i < OPTION_COUNT; i++)
    if (is_taken(c, &options[i]))
      words[count++] = options[i].name;
  if (text[1] == '-')
    near = pl_suggest(text + 2, words, count);
  pl__cli_usage_failed(c, "unknown option %s%s%s%s", text,
                       near ? ", did you mean --" : "", near ? near : "",
                       near ? "?" : "");
  return false;
}

static bool override_add(const struct command *c, struct arguments *a,
                         const char *text) {
  if (a->options.override_count == CLI_OVERRIDES_MAX) {
    pl__cli_usage_failed(c, "too many options");
    return false;
  }
  a->overrides[a->options.override_count++] = text;
  return true;
}

/* Several --listen make one list. */
static bool listen_add(const struct command *c, struct arguments *a,
                       const char *value) {
  bool is_first = a->listen[0] == '\0';
  size_t used = strlen(a->listen);
  int n = snprintf(a->listen + used, sizeof(a->listen) - used, "%s%s",
                   is_first ? "listen=" : ",", value);

  if ((size_t)n >= sizeof(a->listen) - used) {
    pl__cli_usage_failed(c, "too many addresses");
    return false;
  }
  return is_first ? override_add(c, a, a->listen) : true;
}

static bool workers_set(const struct command *c, struct arguments *a,
                        const char *value) {
  static char text[64];

  snprintf(text, sizeof(text), "workers=%s", value);
  return override_add(c, a, text);
}

static bool header_add(const struct command *c, struct arguments *a,
                       const char *value) {
  if (!strchr(value, ':') || a->header_count == CLI_HEADERS_MAX) {
    pl__cli_usage_failed(c,
                         "-H %s: expected is 'name: value', at most %d times",
                         value, CLI_HEADERS_MAX);
    return false;
  }
  a->headers[a->header_count++] = value;
  return true;
}

static bool option_apply(const struct command *c, struct arguments *a,
                         const struct option *o, const char *value) {
  switch (o->bit) {
  case OPTION_LISTEN:
    return listen_add(c, a, value);
  case OPTION_WORKERS:
    return workers_set(c, a, value);
  case OPTION_SET:
    return override_add(c, a, value);
  case OPTION_HEADER:
    return header_add(c, a, value);
  case OPTION_CONFIG:
    a->options.config = value;
    return true;
  case OPTION_NAME:
    a->options.name = value;
    return true;
  case OPTION_PID_FILE:
    a->options.pid_file = value;
    return true;
  case OPTION_APP:
    a->options.app = value;
    return true;
  case OPTION_DATA:
    a->body = value;
    return true;
  case OPTION_INCLUDE:
    a->include = true;
    return true;
  case OPTION_SECONDS:
    a->seconds = value;
    return true;
  case OPTION_AGO:
    a->ago = value;
    return true;
  case OPTION_OUTPUT:
    a->output = value;
    return true;
  case OPTION_FORMAT:
    a->format = value;
    return true;
  case OPTION_NO_WAIT:
    a->no_wait = true;
    return true;
  case OPTION_JSON:
    a->json = true;
    return true;
  default:
    a->help = true;
    return true;
  }
}

static bool position_add(const struct command *c, struct arguments *a,
                         const char *text) {
  if (a->position_count >= c->position_max) {
    pl__cli_usage_failed(c, "unexpected argument %s", text);
    return false;
  }
  a->positions[a->position_count++] = text;
  if (c->position_is_app)
    a->options.app = text;
  return true;
}

/* Takes the option at argv[*at] and its value. */
static bool option_take(const struct command *c, struct arguments *a, int argc,
                        const char **argv, int *at) {
  const char *text = argv[*at];
  size_t bytes = text[1] == '-' ? strcspn(text, "=") : 2;
  const struct option *o = option_find(c, text, bytes);
  const char *value = NULL;

  if (!o)
    return option_unknown(c, text);
  if (text[bytes])
    value = text + bytes + (text[bytes] == '=');
  if (!o->value && value) {
    pl__cli_usage_failed(c, "--%s takes no value", o->name);
    return false;
  }
  if (o->value && !value) {
    if (++*at == argc) {
      pl__cli_usage_failed(c, "--%s needs a value", o->name);
      return false;
    }
    value = argv[*at];
  }
  return option_apply(c, a, o, value);
}

bool pl__cli_arguments_parse(const struct command *c, int argc,
                             const char **argv, struct arguments *out) {
  bool only_positions = false;

  memset(out, 0, sizeof(*out));
  out->argc = argc;
  out->argv = argv;
  out->options.bytes = sizeof(out->options);
  out->options.overrides = out->overrides;
  out->options.environment = 1;
  for (int i = 0; i < argc && c->position_max >= 0; i++) {
    bool fine;

    if (!only_positions && strcmp(argv[i], "--") == 0) {
      only_positions = true;
      continue;
    }
    fine = only_positions || argv[i][0] != '-' || argv[i][1] == '\0'
               ? position_add(c, out, argv[i])
               : option_take(c, out, argc, argv, &i);
    if (!fine)
      return false;
  }
  return true;
}
