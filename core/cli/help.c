/* cli/help.c - help and versions. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/paint.h"

static void title_print(const char *title) {
  printf("%s%s%s\n", pl__cli_paint(STDOUT_FILENO, PAINT_BOLD), title,
         pl__cli_paint_end(STDOUT_FILENO));
}

static void launcher_help(void) {
  title_print("Examples");
  printf("  perilune run apps/hello\n"
         "  perilune request GET /hello/world --app apps/hello\n"
         "  perilune help run\n\n");
  title_print("Commands");
  for (size_t i = 0; i < pl__cli_command_count; i++)
    printf("  %-9s %s\n", pl__cli_commands[i].name,
           pl__cli_commands[i].summary);
  printf("\n");
  title_print("Exit codes");
  printf("  0 fine, 1 failed, 2 usage, 3 not running, 65 script error, "
         "69 cannot bind,\n  78 configuration\n");
}

static void options_help(const struct command *c) {
  const char *name, *text;
  int bit;

  title_print("Options");
  for (size_t i = 0; (name = pl__cli_option_help(i, &bit, &text)); i++)
    if ((c->options & bit) || bit == OPTION_HELP)
      printf("  %-28s %s\n", name, text);
}

static void keys_help(void) {
  const char *name, *type, *fallback, *doc;

  printf("\n");
  title_print("Keys of the configuration, for config.lua, --set and the "
              "environment");
  printf("  (timeouts.idle is PERILUNE_TIMEOUTS_IDLE there)\n");
  for (size_t i = 0; pl_config_key(i, &name, &type, &fallback, &doc); i++)
    printf("  %-31s %-15s %s\n", name, *fallback ? fallback : "-", doc);
}

void pl__cli_help_print(const struct command *c) {
  if (!c) {
    launcher_help();
    return;
  }
  printf("%s.\n\n", c->summary);
  title_print("Examples");
  printf("%s\n", c->examples);
  title_print("Usage");
  printf("  perilune %s %s\n\n", c->name, c->usage);
  options_help(c);
  if (c->options & OPTION_SET)
    keys_help();
}

int pl__cli_help(const struct command *c, struct arguments *a) {
  (void)c;
  if (a->position_count) {
    const struct command *about = pl__cli_command_find(a->positions[0]);
    if (!about)
      return EXIT_USAGE;
    pl__cli_help_print(about);
  } else {
    pl__cli_help_print(NULL);
  }
  return EXIT_FINE;
}

static void version_print(const char *part, bool json, bool is_first) {
  const char *version = pl_version_of(part);

  if (!version)
    return;
  if (json)
    printf("%s\"%s\":\"%s\"", is_first ? "" : ",", part, version);
  else
    printf("%-9s %s\n", part, version);
}

int pl__cli_version(const struct command *c, struct arguments *a) {
  static const char *const parts[] = {"perilune", "luajit", "libuv", "llhttp",
                                      "jemalloc"};

  (void)c;
  if (a->json)
    printf("{");
  for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
    version_print(parts[i], a->json, i == 0);
  if (a->json)
    printf("}\n");
  return EXIT_FINE;
}
