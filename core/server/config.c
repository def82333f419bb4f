/* server/config.c - resolves the configuration from its four sources.
 *
 * Sources are applied from the highest to the lowest, and a value never
 * replaces one of a higher source: that is how vm.load_timeout is known, from
 * flags or environment, before the file is run under it.
 */
#include "server/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/cpus.h"
#include "base/err.h"
#include "base/limits.h"
#include "server/keys.h"
#include "server/otel.h"
#include "vm/config_file.h"

#define CONFIG_FILE "config.lua"
#define APP_FILE "app.lua"
#define NAME_WITHOUT_APP "perilune"
#define ADMIN_TOKEN_BYTES_MIN 16
#define CAPACITY_MIN 4u /* workers */
#define SETTINGS_PREFIX "settings."
#define LINE_FILE_BYTES_MAX PL_CONFIG_FILE_BYTES_MAX

struct resolve {
  const struct pl_config_input *in;
  struct pl_config *c;
  struct pl_config_file *file;
  char *err;            /* PL_CONFIG_ERROR_BYTES */
  uint32_t file_faults; /* told in err, a line each */
};

__attribute__((format(printf, 2, 3))) static int
config_fail(char *err, const char *format, ...) {
  va_list args;

  va_start(args, format);
  vsnprintf(err, PL_CONFIG_ERROR_BYTES, format, args);
  va_end(args);
  return PL_ECONFIG;
}

__attribute__((format(printf, 2, 3))) static void
config_warn(struct pl_config *c, const char *format, ...) {
  va_list args;

  if (c->warning_count == PL_CONFIG_WARNINGS_MAX)
    return;
  va_start(args, format);
  vsnprintf(c->warnings[c->warning_count++], PL_CONFIG_WARNING_BYTES, format,
            args);
  va_end(args);
}

static int path_set(char *to, const char *format, const char *a,
                    const char *b) {
  int n = snprintf(to, PL_CONFIG_PATH_BYTES, format, a, b);
  return n < 0 || n >= PL_CONFIG_PATH_BYTES ? PL_EINVAL : 0;
}

/* ---- where in the file ------------------------------------------------- */

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '_';
}

/* The first `word =`, `["word"] =` or `'word'] =` at or behind `at`. */
static const char *assignment_find(const char *text, const char *at,
                                   const char *word, size_t bytes) {
  for (; *at; at++) {
    const char *after;

    if (at[0] == '-' && at[1] == '-') {
      at += strcspn(at, "\n");
      if (*at == '\0')
        return NULL;
    }
    if (strncmp(at, word, bytes) != 0 || (at > text && is_word(at[-1])) ||
        is_word(at[bytes]))
      continue;
    after = at + bytes + strspn(at + bytes, "\"'] \t");
    if (after[0] == '=' && after[1] != '=')
      return at;
  }
  return NULL;
}

/* The line of the file where a dotted key seems to be set; 0 when that cannot
 * be told, as with a table that is computed.  A guess for messages: Lua keeps
 * no places of table fields. */
static uint32_t line_of(const char *text, const char *key) {
  const char *at = assignment_find(text, text, key, strlen(key));
  const char *part = key;
  uint32_t line = 1;

  if (!at) {
    for (at = text; at; part++) {
      size_t bytes = strcspn(part, ".");
      at = assignment_find(text, at, part, bytes);
      part += bytes;
      if (*part == '\0')
        break;
    }
  }
  if (!at)
    return 0;
  for (const char *p = text; p < at; p++)
    line += *p == '\n';
  return line;
}

static uint32_t line_in_file(const char *path, const char *key) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  char *text = pl__alloc(LINE_FILE_BYTES_MAX + 1);
  uint32_t line = 0;
  ssize_t n;

  if (fd >= 0 && text) {
    n = read(fd, text, LINE_FILE_BYTES_MAX);
    text[n > 0 ? n : 0] = '\0';
    line = line_of(text, key);
  }
  pl__free(text);
  if (fd >= 0)
    close(fd);
  return line;
}

/* ---- one value --------------------------------------------------------- */

static struct pl_config_origin *origin_of(struct pl_config *c,
                                          const struct pl_key *key) {
  return &c->origins[key - pl__keys];
}

static int value_refused(struct resolve *r, const struct pl_key *key,
                         const char *source, const char *text) {
  char expected[PL_KEY_EXPECTED_BYTES];

  pl__key_expected(key, expected, sizeof(expected));
  return config_fail(r->err, "%s: %s is \"%.200s\"; expected is %s", source,
                     key->name, pl__key_is_secret(key) ? "..." : text,
                     expected);
}

/* Sets a value unless a higher source has; `source` is for the message. */
static int value_set(struct resolve *r, const struct pl_key *key,
                     const char *text, struct pl_config_origin origin,
                     const char *source) {
  struct pl_config_origin *old = origin_of(r->c, key);

  if (old->source > origin.source)
    return 0;
  if (pl__key_set(key, text, r->c))
    return value_refused(r, key, source, text);
  *old = origin;
  return 0;
}

static int key_unknown(struct resolve *r, const char *source,
                       const char *name) {
  const char *near = pl__key_near(name);

  return config_fail(r->err, "%s: unknown key %.200s%s%s%s", source, name,
                     near ? ", did you mean " : "", near ? near : "",
                     near ? "?" : "");
}

/* ---- sources ----------------------------------------------------------- */

/* What `perilune dev` has for defaults where it differs. */
static const char *fallback_of(const struct pl_key *key, bool dev) {
  static const char *const others[][2] = {{"workers", "1"},
                                          {"log.format", "console"},
                                          {"trace.sample", "1"},
                                          {"admin.listen", "127.0.0.1:8081"}};

  for (size_t i = 0; dev && i < sizeof others / sizeof *others; i++)
    if (strcmp(key->name, others[i][0]) == 0)
      return others[i][1];
  return key->fallback;
}

static int defaults_apply(struct resolve *r) {
  for (uint32_t i = 0; i < pl__key_count; i++)
    if (pl__key_set(&pl__keys[i], fallback_of(&pl__keys[i], r->c->dev), r->c))
      return config_fail(r->err, "default of %s", pl__keys[i].name);
  return 0;
}

static int override_apply(struct resolve *r, const char *text) {
  struct pl_config_origin origin = {.source = PL_SOURCE_FLAG};
  const char *equals = strchr(text, '=');
  const struct pl_key *key;
  char name[PL_CONFIG_FILE_KEY_BYTES];
  char source[PL_CONFIG_FILE_KEY_BYTES + 8];
  size_t bytes;

  bytes = equals ? (size_t)(equals - text) : 0;
  if (bytes == 0 || bytes >= sizeof(name))
    return config_fail(r->err, "--set %.200s: expected is key=value", text);
  memcpy(name, text, bytes);
  name[bytes] = '\0';
  snprintf(source, sizeof(source), "--set %s", name);
  if (strncmp(name, SETTINGS_PREFIX, strlen(SETTINGS_PREFIX)) == 0)
    return 0; /* settings_apply: the file comes first */
  key = pl__key_find(name, bytes);
  if (!key)
    return key_unknown(r, "--set", name);
  return value_set(r, key, equals + 1, origin, source);
}

static int overrides_apply(struct resolve *r) {
  for (uint32_t i = 0; i < r->in->override_count; i++) {
    int status = override_apply(r, r->in->overrides[i]);
    if (status)
      return status;
  }
  return 0;
}

static const char *env_value(const struct pl_config_input *in,
                             const char *name) {
  size_t bytes = strlen(name);

  for (const char *const *e = in->environment; e && *e; e++)
    if (strncmp(*e, name, bytes) == 0 && (*e)[bytes] == '=' &&
        (*e)[bytes + 1] != '\0') /* empty is how shells unset */
      return *e + bytes + 1;
  return NULL;
}

/* A variable that other platforms know: it counts only while ours is not
 * set. */
static int env_apply_foreign(struct resolve *r, const char *name,
                             const char *key_name, const char *prefix) {
  struct pl_config_origin origin = {.source = PL_SOURCE_ENV, .env = name};
  const struct pl_key *key = pl__key_find(key_name, strlen(key_name));
  const char *value = env_value(r->in, name);
  char text[PL_ADDRESS_TEXT_BYTES];

  if (!value || PL_SOURCE_ENV <= origin_of(r->c, key)->source)
    return 0;
  snprintf(text, sizeof(text), "%s%s", prefix, value);
  return value_set(r, key, text, origin, name);
}

/* One of OpenTelemetry's, likewise.  Those are often set for a whole machine, and
 * its specification wants what is not understood to be told and left alone. */
static void env_apply_otel(struct resolve *r,
                           const struct pl_otel_variable *v) {
  struct pl_config_origin origin = {.source = PL_SOURCE_ENV, .env = v->name};
  const struct pl_key *key = v->key ? pl__key_find(v->key, strlen(v->key)) : 0;
  const char *value = env_value(r->in, v->name), *expected;
  char text[PL_KEY_VALUE_BYTES], wanted[PL_KEY_EXPECTED_BYTES];
  int status;

  if (!value || (key && PL_SOURCE_ENV <= origin_of(r->c, key)->source))
    return;
  status = pl__otel_translate(v, value, text, sizeof(text), &expected);
  if (status == 1 && pl__key_set(key, text, r->c)) {
    pl__key_expected(key, wanted, sizeof(wanted));
    expected = wanted;
    status = PL_EINVAL;
  }
  if (status == 1)
    *origin_of(r->c, key) = origin;
  else if (status)
    config_warn(r->c, "%s is not used: expected is %s", v->name, expected);
}

static void env_warn_unknown(struct resolve *r, const char *entry,
                             size_t bytes) {
  const char *words[PL_CONFIG_KEYS_MAX];
  char name[PL_KEY_NAME_BYTES + 1];
  const char *near = NULL;

  for (uint32_t i = 0; i < pl__key_count; i++)
    words[i] = pl__keys[i].env;
  if (bytes < sizeof(name)) {
    memcpy(name, entry, bytes);
    name[bytes] = '\0';
    near = pl__word_near(name, words, pl__key_count);
  }
  config_warn(r->c, "%.*s is no key of the configuration%s%s%s", (int)bytes,
              entry, near ? ", did you mean " : " and not used",
              near ? near : "", near ? "?" : "");
}

static int env_apply(struct resolve *r) {
  const size_t prefix = strlen(PL_KEY_ENV_PREFIX);
  int status = 0;

  for (const char *const *e = r->in->environment; e && *e && !status; e++) {
    size_t bytes = strcspn(*e, "=");
    const struct pl_key *key;

    if (strncmp(*e, PL_KEY_ENV_PREFIX, prefix) != 0 || (*e)[bytes] == '\0' ||
        (*e)[bytes + 1] == '\0')
      continue;
    key = pl__key_find_env(*e, bytes);
    if (key)
      status = value_set(
          r, key, *e + bytes + 1,
          (struct pl_config_origin){.source = PL_SOURCE_ENV, .env = key->env},
          key->env);
    else
      env_warn_unknown(r, *e, bytes);
  }
  if (!status)
    status = env_apply_foreign(r, "PORT", "listen", "0.0.0.0:");
  if (!status)
    status = env_apply_foreign(r, "WEB_CONCURRENCY", "workers", "");
  for (uint32_t i = 0; i < pl__otel_variable_count && !status; i++)
    env_apply_otel(r, &pl__otel_variables[i]);
  return status;
}

static bool type_fits(const struct pl_key *key, enum pl_config_file_type type,
                      const char *text) {
  switch (type) {
  case PL_CONFIG_FILE_LIST:
    return key->type == PL_KEY_ADDRESSES || key->type == PL_KEY_NAMES ||
           key->type == PL_KEY_NETWORKS;
  case PL_CONFIG_FILE_BOOL:
    return key->type == PL_KEY_BOOL ||
           (key->type == PL_KEY_ADDRESS && strcmp(text, "false") == 0);
  case PL_CONFIG_FILE_NUMBER:
    return key->type == PL_KEY_DURATION || key->type == PL_KEY_SIZE ||
           key->type == PL_KEY_INTEGER || key->type == PL_KEY_WORKERS ||
           key->type == PL_KEY_SHARE;
  case PL_CONFIG_FILE_STRING:
    return key->type != PL_KEY_BOOL;
  }
  return false;
}

static int file_take_value(struct resolve *r, const char *name,
                           enum pl_config_file_type type, const char *text) {
  struct pl_config_origin origin = {.source = PL_SOURCE_FILE};
  const struct pl_key *key = pl__key_find(name, strlen(name));
  char source[PL_CONFIG_PATH_BYTES + 16];

  origin.line = line_in_file(r->c->file, name);
  if (origin.line)
    snprintf(source, sizeof(source), "%s:%u", r->c->file, origin.line);
  else
    snprintf(source, sizeof(source), "%s", r->c->file);
  if (strcmp(name, "settings") == 0)
    return config_fail(r->err, "%s: settings has to be a table", source);
  if (!key && type == PL_CONFIG_FILE_LIST && pl__key_is_section(name))
    return 0; /* nothing is set in it */
  if (!key)
    return key_unknown(r, source, name);
  if (!type_fits(key, type, text))
    return value_refused(r, key, source, text);
  return value_set(r, key, text, origin, source);
}

/* A fault does not end the visit: whoever mends a file wants to see all. */
static int file_on_value(void *arg, const char *name,
                         enum pl_config_file_type type, const char *text) {
  struct resolve *r = arg;
  char before[PL_CONFIG_ERROR_BYTES] = "", now[PL_CONFIG_ERROR_BYTES];
  int status;

  if (r->file_faults)
    memcpy(before, r->err, sizeof(before));
  status = file_take_value(r, name, type, text);
  if (status != PL_ECONFIG)
    return status;
  if (r->file_faults++) {
    memcpy(now, r->err, sizeof(now));
    config_fail(r->err, "%.700s\n%.300s", before, now);
  }
  return 0;
}

/* The file that was named, or the one beside the app if it is there. */
static int file_choose(struct resolve *r) {
  const char *app = r->in->app;
  struct stat st;
  size_t bytes;

  if (r->in->file)
    return path_set(r->c->file, "%s%s", r->in->file, "");
  if (!app)
    return 0;
  /* As the person named the app, so that messages stay short. */
  if (stat(app, &st) == 0 && S_ISDIR(st.st_mode)) {
    bytes = strlen(app);
    while (bytes > 1 && app[bytes - 1] == '/')
      bytes--;
    if (strcmp(app, ".") == 0)
      path_set(r->c->file, "%s%s", CONFIG_FILE, "");
    else if (bytes + sizeof("/" CONFIG_FILE) <= PL_CONFIG_PATH_BYTES)
      snprintf(r->c->file, PL_CONFIG_PATH_BYTES, "%.*s/%s", (int)bytes, app,
               CONFIG_FILE);
  } else {
    const char *slash = strrchr(app, '/');
    bytes = slash ? (size_t)(slash + 1 - app) : 0;
    snprintf(r->c->file, PL_CONFIG_PATH_BYTES, "%.*s%s", (int)bytes, app,
             CONFIG_FILE);
  }
  if (stat(r->c->file, &st) != 0 && errno == ENOENT)
    r->c->file[0] = '\0';
  return 0;
}

static int file_apply(struct resolve *r) {
  int status = file_choose(r);

  if (status)
    return config_fail(r->err, "--config: the path is too long");
  if (r->c->file[0] == '\0')
    return 0;
  status = pl__config_file_load(r->file, r->c->file, r->c->vm_load_timeout_s,
                                r->err, PL_CONFIG_ERROR_BYTES);
  if (!status) {
    char what[PL_CONFIG_ERROR_BYTES] = "";

    status =
        pl__config_file_visit(r->file, file_on_value, r, what, sizeof(what));
    if (status && what[0])
      config_fail(r->err, "%s: %.900s", r->c->file, what);
    if (!status && r->file_faults)
      status = PL_ECONFIG;
  }
  return status;
}

static int settings_apply(struct resolve *r) {
  const size_t prefix = strlen(SETTINGS_PREFIX);
  struct pl_buf json;
  int status = 0;

  for (uint32_t i = 0; i < r->in->override_count && !status; i++) {
    const char *text = r->in->overrides[i];
    size_t bytes = strcspn(text, "=");
    char name[PL_CONFIG_FILE_KEY_BYTES];

    if (strncmp(text, SETTINGS_PREFIX, prefix) != 0)
      continue;
    snprintf(name, sizeof(name), "%.*s", (int)(bytes - prefix), text + prefix);
    status = pl__config_file_set(r->file, name, text + bytes + 1);
    if (status == PL_ECONFIG)
      config_fail(r->err, "--set %s%s: that is no place for a setting",
                  SETTINGS_PREFIX, name);
  }
  if (status)
    return status;
  pl__buf_init(&json, NULL, PL_CONFIG_SETTINGS_BYTES_MAX);
  status =
      pl__config_file_settings(r->file, &json, r->err, PL_CONFIG_ERROR_BYTES);
  if (!status) {
    r->c->settings_json = pl__alloc(json.bytes + 1);
    status = r->c->settings_json ? 0 : PL_ENOMEM;
  }
  if (!status) {
    memcpy(r->c->settings_json, json.at, json.bytes);
    r->c->settings_json[json.bytes] = '\0';
    r->c->settings_bytes = json.bytes;
  }
  pl__buf_release(&json);
  return status == PL_EFULL ? PL_ECONFIG : status;
}

/* ---- the app ----------------------------------------------------------- */

static int app_fail(struct resolve *r, const char *what) {
  config_fail(r->err, "%.400s: %s", r->in->app, what);
  return PL_ESCRIPT;
}

static int app_find(struct resolve *r) {
  struct pl_config *c = r->c;
  char real[PATH_MAX];
  struct stat st;
  char *slash;

  if (!r->in->app)
    return 0;
  if (!realpath(r->in->app, real) || stat(real, &st))
    return app_fail(r, strerror(errno));
  if (S_ISDIR(st.st_mode)) {
    if (path_set(c->app_folder, "%s%s", real, "") ||
        path_set(c->app_file, "%s/%s", strcmp(real, "/") ? real : "", APP_FILE))
      return app_fail(r, "the path is too long");
    if (stat(c->app_file, &st) || !S_ISREG(st.st_mode))
      return app_fail(r, "has no " APP_FILE);
    return 0;
  }
  if (!S_ISREG(st.st_mode))
    return app_fail(r, "is neither a file nor a folder");
  if (path_set(c->app_file, "%s%s", real, ""))
    return app_fail(r, "the path is too long");
  slash = strrchr(real, '/');
  slash[slash == real] = '\0';
  return path_set(c->app_folder, "%s%s", real, "");
}

/* ---- what follows from several values ---------------------------------- */

static bool is_name_char(char c) { return is_word(c) || c == '-' || c == '.'; }

/* The name becomes part of paths. */
static int name_finish(struct resolve *r) {
  struct pl_config *c = r->c;
  const char *folder = strrchr(c->app_folder, '/');

  if (c->name[0] == '\0') {
    if (folder && folder[1])
      snprintf(c->name, sizeof(c->name), "%.*s", (int)sizeof(c->name) - 1,
               folder + 1);
    else
      snprintf(c->name, sizeof(c->name), NAME_WITHOUT_APP);
    for (char *p = c->name; *p; p++)
      if (!is_name_char(*p) || (p == c->name && *p == '.'))
        *p = '-';
    return 0;
  }
  for (const char *p = c->name; *p; p++)
    if (!is_name_char(*p) || c->name[0] == '.')
      return config_fail(r->err,
                         "name is \"%s\"; expected are letters, digits, "
                         "'-', '_' and '.', which does not come first",
                         c->name);
  return 0;
}

/* It is made absolute once it is there, and has to fit then as well. */
static int recorder_folder_finish(struct resolve *r) {
  const char *folder = r->c->recorder_folder;
  char here[PL_CONFIG_PATH_BYTES];

  if (!folder[0] || folder[0] == '/' || !getcwd(here, sizeof here) ||
      strlen(here) + 1 + strlen(folder) < PL_CONFIG_FOLDER_BYTES)
    return 0;
  return config_fail(r->err,
                     "recorder.folder is \"%.200s\", with \"%.200s\" in front; "
                     "expected are at most %d bytes for both: a symbolic link "
                     "makes a longer path short",
                     folder, here, PL_CONFIG_FOLDER_BYTES - 1);
}

static int values_finish(struct resolve *r) {
  struct pl_config *c = r->c;

  if (c->workers_auto)
    c->workers = (uint32_t)pl__cpus_usable();
  if (c->workers_max && c->workers > c->workers_max)
    return config_fail(r->err,
                       "workers is %u, and workers_max %u: there is "
                       "room for so many only",
                       c->workers, (uint32_t)c->workers_max);
  if (c->workers_max && c->actions_workers_max > c->workers_max)
    return config_fail(r->err,
                       "actions.workers_max is %u, and workers_max %u: "
                       "there is room for so many only",
                       (uint32_t)c->actions_workers_max,
                       (uint32_t)c->workers_max);
  if (c->vm_memory_soft_bytes > c->vm_memory_hard_bytes)
    return config_fail(r->err, "vm.memory_soft is larger than vm.memory_hard");
  if (c->admin_on && !c->admin_token[0] &&
      !pl__address_is_local(&c->admin_listen))
    return config_fail(
        r->err,
        "admin.listen is %s, which others can reach: set admin.token (16 "
        "characters or more, by PERILUNE_ADMIN_TOKEN or in config.lua), or "
        "listen on 127.0.0.1",
        c->admin_listen.text);
  if (c->admin_token[0] && strlen(c->admin_token) < ADMIN_TOKEN_BYTES_MIN)
    return config_fail(r->err, "admin.token is shorter than %d characters",
                       ADMIN_TOKEN_BYTES_MIN);
  if (recorder_folder_finish(r))
    return PL_ECONFIG;
  return name_finish(r);
}

static int resolve_all(struct resolve *r) {
  static int (*const steps[])(struct resolve *) = {
      app_find,   defaults_apply, overrides_apply, env_apply,
      file_apply, settings_apply, values_finish};

  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
    int status = steps[i](r);
    if (status)
      return status;
  }
  return 0;
}

int pl__config_resolve(const struct pl_config_input *in, struct pl_config *out,
                       char *err) {
  struct resolve r = {.in = in, .c = out, .err = err};
  int status;

  memset(out, 0, sizeof(*out));
  out->dev = in->dev;
  err[0] = '\0';
  status = pl__config_file_new(&r.file);
  if (!status)
    status = resolve_all(&r);
  pl__config_file_free(r.file);
  if (status) {
    if (err[0] == '\0')
      snprintf(err, PL_CONFIG_ERROR_BYTES, "out of memory");
    pl__config_deinit(out);
  }
  return status;
}

uint32_t pl__config_capacity(const struct pl_config *c, uint32_t least) {
  uint32_t wishes[] = {CAPACITY_MIN, c->workers * 2,
                       (uint32_t)pl__cpus_usable(),
                       (uint32_t)c->actions_workers_max};
  uint32_t capacity = (uint32_t)c->workers_max;

  for (size_t i = 0; !c->workers_max && i < sizeof wishes / sizeof *wishes; i++)
    if (wishes[i] > capacity)
      capacity = wishes[i];
  if (capacity > PL_LIMIT_WORKER_COUNT)
    capacity = PL_LIMIT_WORKER_COUNT;
  if (capacity < c->workers)
    capacity = c->workers;
  return capacity < least ? least : capacity;
}

static size_t room_for(const char *text) { return text ? strlen(text) + 1 : 0; }

static const char *copy_text(char **to, const char *text) {
  char *at = *to;

  if (!text)
    return NULL;
  memcpy(at, text, strlen(text) + 1);
  *to = at + strlen(text) + 1;
  return at;
}

int pl__config_input_copy(struct pl_config_input *out,
                          const struct pl_config_input *in, void **memory) {
  size_t list_bytes = in->override_count * sizeof(char *);
  size_t bytes = list_bytes + room_for(in->app) + room_for(in->file);
  const char **list;
  char *to;

  for (uint32_t i = 0; i < in->override_count; i++)
    bytes += room_for(in->overrides[i]);
  *memory = pl__alloc(bytes);
  if (!*memory)
    return PL_ENOMEM;
  list = *memory;
  to = (char *)*memory + list_bytes;
  *out = *in;
  out->app = copy_text(&to, in->app);
  out->file = copy_text(&to, in->file);
  out->overrides = list;
  for (uint32_t i = 0; i < in->override_count; i++)
    list[i] = copy_text(&to, in->overrides[i]);
  return 0;
}

int pl__config_copy(struct pl_config *out, const struct pl_config *c) {
  *out = *c;
  if (!c->settings_json)
    return 0;
  out->settings_json = pl__alloc((size_t)c->settings_bytes + 1);
  if (!out->settings_json)
    return PL_ENOMEM;
  memcpy(out->settings_json, c->settings_json, (size_t)c->settings_bytes + 1);
  return 0;
}

void pl__config_deinit(struct pl_config *c) {
  pl__free(c->settings_json);
  c->settings_json = NULL;
  c->settings_bytes = 0;
}

/* ---- dump -------------------------------------------------------------- */

static void addresses_format(const struct pl_config *c, char *out,
                             size_t bytes) {
  size_t used = 0;

  for (uint32_t i = 0; i < c->listen_count && used < bytes; i++)
    used += (size_t)snprintf(out + used, bytes - used, "%s%s", i ? "," : "",
                             c->listen[i].text);
}

void pl__config_value(const struct pl_config *c, const struct pl_key *key,
                      char *out, size_t bytes) {
  const void *field = (const char *)c + key->offset;
  const char *choice = key->choices;
  double seconds;
  uint64_t number;
  uint32_t index;

  switch (key->type) {
  case PL_KEY_DURATION:
    memcpy(&seconds, field, sizeof(seconds));
    pl__key_format_duration(seconds, out, bytes);
    return;
  case PL_KEY_SHARE:
    memcpy(&seconds, field, sizeof(seconds));
    pl__key_format_share(seconds, out, bytes);
    return;
  case PL_KEY_NAMES:
    memcpy(&index, field, sizeof(index));
    pl__key_format_names(key->choices, index, out, bytes);
    return;
  case PL_KEY_SIZE:
    memcpy(&number, field, sizeof(number));
    pl__key_format_size(number, out, bytes);
    return;
  case PL_KEY_INTEGER:
    memcpy(&number, field, sizeof(number));
    snprintf(out, bytes, "%llu", (unsigned long long)number);
    return;
  case PL_KEY_STRING:
  case PL_KEY_PATH:
  case PL_KEY_NETWORKS:
  case PL_KEY_FIELD:
  case PL_KEY_ENDPOINT:
  case PL_KEY_PAIRS:
    snprintf(out, bytes, "%s", (const char *)field);
    return;
  case PL_KEY_SECRET:
  case PL_KEY_FIELDS:
    snprintf(out, bytes, "%s", *(const char *)field ? "(set)" : "");
    return;
  case PL_KEY_BOOL:
    snprintf(out, bytes, "%s", *(const bool *)field ? "true" : "false");
    return;
  case PL_KEY_ENUM:
    memcpy(&index, field, sizeof(index));
    while (index--)
      choice += strcspn(choice, " ") + 1;
    snprintf(out, bytes, "%.*s", (int)strcspn(choice, " "), choice);
    return;
  case PL_KEY_WORKERS:
    snprintf(out, bytes, c->workers_auto ? "auto (%u)" : "%u", c->workers);
    return;
  case PL_KEY_ADDRESSES:
    addresses_format(c, out, bytes);
    return;
  case PL_KEY_ADDRESS:
    snprintf(out, bytes, "%s", c->admin_on ? c->admin_listen.text : "off");
    return;
  }
}

void pl__config_origin(const struct pl_config *c, const struct pl_key *key,
                       char *out, size_t bytes) {
  const struct pl_config_origin *origin = &c->origins[key - pl__keys];

  switch (origin->source) {
  case PL_SOURCE_FLAG:
    snprintf(out, bytes, "flag");
    return;
  case PL_SOURCE_ENV:
    snprintf(out, bytes, "%s", origin->env);
    return;
  case PL_SOURCE_FILE:
    if (origin->line)
      snprintf(out, bytes, "%s:%u", c->file, origin->line);
    else
      snprintf(out, bytes, "%s", c->file);
    return;
  default:
    snprintf(out, bytes, "default");
  }
}

static int put_text(struct pl_buf *out, const char *text) {
  return pl__buf_append(out, text, (uint32_t)strlen(text));
}

static int put_json_string(struct pl_buf *out, const char *text) {
  int status = put_text(out, "\"");

  for (; *text && !status; text++) {
    unsigned char c = (unsigned char)*text;
    char escape[8];

    if (c >= 0x20 && c != '"' && c != '\\')
      status = pl__buf_append(out, text, 1);
    else {
      snprintf(escape, sizeof(escape), "\\u%04x", c);
      status = put_text(out, escape);
    }
  }
  return status ? status : put_text(out, "\"");
}

static int dump_json(const struct pl_config *c, struct pl_buf *out) {
  static const char *const names[] = {
      "{\"key\":", ",\"value\":", ",\"source\":", ",\"doc\":"};
  char value[PL_KEY_VALUE_BYTES], origin[PL_CONFIG_PATH_BYTES + 16];
  int status = put_text(out, "{\"keys\":[");

  for (uint32_t i = 0; i < pl__key_count && !status; i++) {
    const struct pl_key *key = &pl__keys[i];
    const char *fields[] = {key->name, value, origin, key->doc};

    pl__config_value(c, key, value, sizeof(value));
    pl__config_origin(c, key, origin, sizeof(origin));
    status = i ? put_text(out, ",") : 0;
    for (size_t j = 0; j < 4 && !status; j++) {
      status = put_text(out, names[j]);
      status = status ? status : put_json_string(out, fields[j]);
    }
    status = status ? status : put_text(out, "}");
  }
  status = status ? status : put_text(out, "],\"settings\":");
  status = status ? status : put_text(out, c->settings_json);
  return status ? status : put_text(out, "}\n");
}

static int dump_lines(const struct pl_config *c, struct pl_buf *out) {
  char value[PL_KEY_VALUE_BYTES], origin[PL_CONFIG_PATH_BYTES + 16];
  char line[PL_KEY_VALUE_BYTES + PL_CONFIG_PATH_BYTES + 128];
  int status = 0;

  for (uint32_t i = 0; i < pl__key_count && !status; i++) {
    pl__config_value(c, &pl__keys[i], value, sizeof(value));
    pl__config_origin(c, &pl__keys[i], origin, sizeof(origin));
    snprintf(line, sizeof(line), "%-32s %-20s %s\n", pl__keys[i].name,
             value[0] ? value : "\"\"", origin);
    status = put_text(out, line);
  }
  status = status ? status : put_text(out, "settings ");
  status = status ? status : put_text(out, c->settings_json);
  return status ? status : put_text(out, "\n");
}

int pl__config_dump(const struct pl_config *c, bool json, struct pl_buf *out) {
  return json ? dump_json(c, out) : dump_lines(c, out);
}
