/* server/perilune.c - the functions of perilune.h. */
#include "perilune.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "server/config.h"
#include "server/error.h"

#include "server/keys.h"
#include "server/lockfile.h"
#include "server/master.h"
#include "server/operate.h"
#include "server/ops.h"
#include "server/tool.h"
#include "server/trial.h"
#include "server/worker.h"

#define DUMP_BYTES_MAX 1048576
#define OVERRIDES_MAX 256 /* --set on one command line */
#define FLAG_BYTES (PL_CONFIG_PATH_BYTES + 16)
#define STOP_GRACE_S 10
#define RECORD_S 30.0 /* to write it, beyond what it takes */
#define STATUS_S 5.0
#define PROFILE_S 30.0
#define STOP_LOOK_MS 20

extern char **environ;

struct pl_server {
  pl_output_fn on_output;
  void *output_arg;
  struct pl_config config;
  struct pl_config_input input; /* it was made from, for reloads */
  void *input_memory;
};

/* ---- output -------------------------------------------------------------- */

static void output_to_descriptors(void *arg, int stream, const char *text,
                                  size_t bytes) {
  int fd = stream == PL_STREAM_RESULT ? STDOUT_FILENO : STDERR_FILENO;

  (void)arg;
  while (bytes) {
    ssize_t n = write(fd, text, bytes);
    if (n < 0 && errno == EAGAIN)
      poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
    else if (n < 0 && errno != EINTR)
      return; /* nobody listens */
    if (n > 0) {
      text += n;
      bytes -= (size_t)n;
    }
  }
}

static void server_say(pl_server *server, const char *text, size_t bytes) {
  server->on_output(server->output_arg, PL_STREAM_MESSAGE, text, bytes);
}

static void on_master_message(void *arg, const char *text, size_t bytes) {
  server_say(arg, text, bytes);
}

/* ---- a life -------------------------------------------------------------- */

/* Flags of their own become overrides like --set; the configuration keeps
 * none of these texts. */
struct overrides {
  const char *list[OVERRIDES_MAX];
  uint32_t count;
  char name[FLAG_BYTES];
  char pid_file[FLAG_BYTES];
};

static int override_add(struct overrides *o, const char *text) {
  if (o->count == OVERRIDES_MAX)
    return PL_EINVAL;
  o->list[o->count++] = text;
  return 0;
}

static int flag_add(struct overrides *o, char *to, const char *key,
                    const char *value) {
  if (!value)
    return 0;
  if (snprintf(to, FLAG_BYTES, "%s=%s", key, value) >= FLAG_BYTES)
    return PL_EINVAL;
  return override_add(o, to);
}

static int overrides_collect(const struct pl_options *options,
                             struct overrides *o) {
  int status = 0;

  o->count = 0;
  for (size_t i = 0; i < options->override_count && !status; i++)
    status = override_add(o, options->overrides[i]);
  status = status ? status : flag_add(o, o->name, "name", options->name);
  return status ? status
                : flag_add(o, o->pid_file, "pid_file", options->pid_file);
}

static void warnings_say(pl_server *server) {
  char line[PL_CONFIG_WARNING_BYTES + 16];

  for (uint32_t i = 0; i < server->config.warning_count; i++) {
    int n = snprintf(line, sizeof(line), "perilune: %s\n",
                     server->config.warnings[i]);
    server_say(server, line, (size_t)n);
  }
}

int pl_server_new(const struct pl_options *options, pl_server **out,
                  struct pl_error *error) {
  struct pl_config_input in;
  struct overrides overrides;
  char text[PL_CONFIG_ERROR_BYTES];
  pl_server *server;
  int status;

  pl__error_clear(error);
  if (options->bytes != sizeof(*options))
    return pl__error_set(error, PL_EINVAL,
                         "struct pl_options is of another version");
  if (overrides_collect(options, &overrides))
    return pl__error_set(error, PL_ECONFIG, "too many or too long values");
  server = pl__alloc_zero(sizeof(*server));
  if (!server)
    return pl__error_set(error, PL_ENOMEM, NULL);
  server->on_output =
      options->on_output ? options->on_output : output_to_descriptors;
  server->output_arg = options->output_arg;
  in = (struct pl_config_input){
      .app = options->app,
      .file = options->config,
      .overrides = overrides.list,
      .override_count = overrides.count,
      .environment = options->environment ? (const char *const *)environ : NULL,
      .dev = options->dev != 0};
  status = pl__config_resolve(&in, &server->config, text);
  if (status) {
    pl__free(server);
    return pl__error_set(error, status, "%s", text);
  }
  if (pl__config_input_copy(&server->input, &in, &server->input_memory)) {
    pl_server_free(server);
    return pl__error_set(error, PL_ENOMEM, NULL);
  }
  warnings_say(server);
  *out = server;
  return 0;
}

void pl_server_free(pl_server *server) {
  if (!server)
    return;
  pl__config_deinit(&server->config);
  pl__free(server->input_memory);
  pl__free(server);
}

static int app_need(pl_server *server, struct pl_error *error) {
  if (server->config.app_file[0])
    return 0;
  return pl__error_set(error, PL_ESCRIPT, "no app was given");
}

int pl_server_run(pl_server *server, struct pl_error *error) {
  struct pl_master_options options = {.config = &server->config,
                                      .input = &server->input,
                                      .worker_main = pl__worker_main,
                                      .trial_main = pl__trial_main,
                                      .on_message = on_master_message,
                                      .arg = server};
  int status = app_need(server, error);

  return status ? status : pl__master_run(&options, error);
}

/* ---- without a server ---------------------------------------------------- */

int pl_server_check(pl_server *server, struct pl_error *error) {
  struct pl_error ignored;

  error = error ? error : &ignored;
  return app_need(server, error)
             ? error->code
             : pl__tool_check(&server->config, server->on_output,
                              server->output_arg, error);
}

int pl_server_repl(pl_server *server, struct pl_error *error) {
  struct pl_error ignored;

  error = error ? error : &ignored;
  return app_need(server, error)
             ? error->code
             : pl__tool_repl(&server->config, server->on_output,
                             server->output_arg, error);
}

int pl_server_make_app(pl_server *server, const char *path,
                       struct pl_error *error) {
  struct pl_error ignored;
  char program[PL_CONFIG_PATH_BYTES];
  ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

  program[n > 0 ? n : 0] = '\0';
  return pl__tool_new(
      &server->config, path, program[0] ? program : "/usr/local/bin/perilune",
      server->on_output, server->output_arg, error ? error : &ignored);
}

int pl_server_routes(pl_server *server, int json, struct pl_error *error) {
  struct pl_error ignored;

  error = error ? error : &ignored;
  return app_need(server, error)
             ? error->code
             : pl__tool_routes(&server->config, json, server->on_output,
                               server->output_arg, error);
}

int pl_server_request(pl_server *server, const struct pl_request *request,
                      int *status_out, struct pl_error *error) {
  struct pl_error ignored;
  int status;

  error = error ? error : &ignored;
  return app_need(server, error)
             ? error->code
             : pl__tool_request(&server->config, request,
                                status_out ? status_out : &status,
                                server->on_output, server->output_arg, error);
}

int pl_server_test(pl_server *server, int argc, const char *const *argv,
                   struct pl_error *error) {
  struct pl_error ignored;

  return pl__tool_test(&server->config, argc, argv, server->on_output,
                       server->output_arg, error ? error : &ignored);
}

int pl_server_config_dump(pl_server *server, int json, struct pl_error *error) {
  struct pl_buf out;
  int status;

  pl__buf_init(&out, NULL, DUMP_BYTES_MAX);
  status = pl__config_dump(&server->config, json != 0, &out);
  if (!status)
    server->on_output(server->output_arg, PL_STREAM_RESULT, out.at, out.bytes);
  pl__buf_release(&out);
  return status ? pl__error_set(error, PL_ENOMEM, NULL)
                : pl__error_clear(error);
}

int pl_config_key(size_t index, const char **name, const char **type,
                  const char **fallback, const char **doc) {
  const struct pl_key *key;

  if (index >= pl__key_count)
    return 0;
  key = &pl__keys[index];
  if (name)
    *name = key->name;
  if (type)
    *type = pl__key_type_name(key);
  if (fallback)
    *fallback = key->fallback;
  if (doc)
    *doc = key->doc;
  return 1;
}

const char *pl_suggest(const char *word, const char *const *words,
                       size_t count) {
  return pl__word_near(word, words, count);
}

/* ---- another process's server -------------------------------------------- */

/* Waits until the lock is free or somebody else's. True when it is. */
static bool holder_wait(pl_server *server, pid_t pid, const char *path,
                        double seconds) {
  double due = pl__clock_monotonic_s() + seconds;
  double told = pl__clock_monotonic_s() + 1;
  char found[PL_LOCKFILE_PATH_BYTES], line[PL_CONFIG_NAME_BYTES + 64];

  for (;;) {
    double now = pl__clock_monotonic_s();
    pid_t holder = 0;

    if (pl__lockfile_holder(path, server->config.name, &holder, found) ||
        holder != pid)
      return true;
    if (now > due)
      return false;
    if (now > told) {
      int n = snprintf(line, sizeof(line),
                       "perilune: waiting for %s (pid %ld) to drain\n",
                       server->config.name, (long)pid);
      server_say(server, line, (size_t)n);
      told = now + 5;
    }
    poll(NULL, 0, STOP_LOOK_MS);
  }
}

/* Sends a request to the server that runs; its answer is in `body`, which is
 * to be released. Returns the HTTP status, or an error that is set. */
static int ask_running(pl_server *server, const char *method,
                       const char *target, double seconds, struct pl_buf *body,
                       struct pl_error *error) {
  const struct pl_config *config = &server->config;
  char path[PL_LOCKFILE_PATH_BYTES];
  pid_t pid = 0;
  int status = pl__lockfile_holder(config->pid_file, config->name, &pid, path);

  pl__buf_init(body, NULL, PL_OPS_ANSWER_BYTES_MAX);
  if (!status)
    status = pl__operate(path, method, target, seconds, body);
  if (status > 0)
    return status;
  if (status == PL_ENOTRUNNING && pid)
    return pl__error_set(error, PL_EFAIL,
                         "process %ld does not listen at its control socket: "
                         "it starts, or has none",
                         (long)pid);
  if (status == PL_ENOTRUNNING)
    return pl__error_set(error, PL_ENOTRUNNING, "%s is not running",
                         config->pid_file[0] ? config->pid_file : config->name);
  return pl__error_set(error, status == PL_ETIMEOUT ? PL_ETIMEOUT : PL_EFAIL,
                       status == PL_ETIMEOUT
                           ? "process %ld does not answer in time"
                           : "process %ld has ended without an answer",
                       (long)pid);
}

static void result_say(pl_server *server, const struct pl_buf *body) {
  server->on_output(server->output_arg, PL_STREAM_RESULT, body->at,
                    body->bytes);
}

/* The server's own words, for an answer that is no good news. */
static int refused(const struct pl_buf *body, int code,
                   struct pl_error *error) {
  size_t bytes = body->bytes;

  while (bytes && body->at[bytes - 1] == '\n')
    bytes--;
  return pl__error_set(error, code, "%.*s", (int)bytes, body->at);
}

int pl_server_status(pl_server *server, int json, struct pl_error *error) {
  struct pl_buf body;
  int status =
      ask_running(server, "GET", json ? "/status" : "/status?format=text",
                  STATUS_S, &body, error);

  if (status == 200)
    result_say(server, &body);
  else if (status > 0)
    status = refused(&body, PL_EFAIL, error);
  pl__buf_release(&body);
  return status == 200 ? pl__error_clear(error) : status;
}

int pl_server_jit(pl_server *server, int json, int colour,
                  struct pl_error *error) {
  const char *form = json ? "json" : colour ? "colour" : "";
  struct pl_buf body;
  int status = ask_running(server, "GET", "/jit", STATUS_S, &body, error);

  if (status == 200)
    status = pl__tool_jit(&server->config, pl__slice(body.at, body.bytes), form,
                          server->on_output, server->output_arg, error);
  else if (status > 0)
    status = refused(&body, PL_EFAIL, error);
  pl__buf_release(&body);
  return status ? status : pl__error_clear(error);
}

int pl_server_top(pl_server *server, int columns, int rows, int colour,
                  struct pl_error *error) {
  struct pl_buf body;
  int status = ask_running(server, "GET", "/status", STATUS_S, &body, error);

  if (status == 200)
    status = pl__tool_top(&server->config, pl__slice(body.at, body.bytes),
                          columns, rows, colour, server->on_output,
                          server->output_arg, error);
  else if (status > 0)
    status = refused(&body, PL_EFAIL, error);
  pl__buf_release(&body);
  return status ? status : pl__error_clear(error);
}

int pl_server_profile(pl_server *server, const char *kind, const char *query,
                      struct pl_error *error) {
  bool is_cpu = strcmp(kind, "cpu") == 0;
  struct pl_buf body;
  char target[256];
  int status;

  snprintf(target, sizeof target, "/debug/pprof/%s?%s",
           is_cpu ? "profile" : kind, query);
  status = ask_running(server, "GET", target, PROFILE_S, &body, error);
  if (status == 200)
    result_say(server, &body);
  else if (status > 0)
    status = refused(&body, PL_EFAIL, error);
  pl__buf_release(&body);
  return status == 200 ? pl__error_clear(error) : status;
}

int pl_server_record(pl_server *server, int seconds, struct pl_error *error) {
  char target[64];
  struct pl_buf body;
  int status;

  snprintf(target, sizeof target, "/record?seconds=%d", seconds);
  status =
      ask_running(server, "POST", target, seconds + RECORD_S, &body, error);
  if (status == 200)
    result_say(server, &body);
  else if (status > 0)
    status = refused(&body, PL_EFAIL, error);
  pl__buf_release(&body);
  return status == 200 ? pl__error_clear(error) : status;
}

static int reload_result(pl_server *server, const struct pl_buf *body,
                         int status, int json, struct pl_error *error) {
  int code = status == 422 ? PL_ESCRIPT : status == 400 ? PL_ECONFIG : PL_EFAIL;

  if (json || status < 300)
    result_say(server, body);
  if (status < 300)
    return pl__error_clear(error);
  return json ? pl__error_set(error, code, "the reload was rejected")
              : refused(body, code, error);
}

int pl_server_reload(pl_server *server, int wait, int json,
                     struct pl_error *error) {
  char target[64];
  struct pl_buf body;
  int status;

  snprintf(target, sizeof(target), "/reload?wait=%s%s", wait ? "true" : "false",
           json ? "" : "&format=text");
  status = ask_running(server, "POST", target,
                       2 * server->config.vm_load_timeout_s +
                           2 * server->config.timeout_drain_s + STOP_GRACE_S,
                       &body, error);
  if (status > 0)
    status = reload_result(server, &body, status, json, error);
  pl__buf_release(&body);
  return status;
}

int pl_server_drain(pl_server *server, int json, struct pl_error *error) {
  struct pl_buf body;
  int status =
      ask_running(server, "POST", "/drain",
                  server->config.timeout_drain_s + STOP_GRACE_S, &body, error);

  if (status == 200 && json)
    result_say(server, &body);
  else if (status > 0 && status != 200)
    status = refused(&body, PL_EFAIL, error);
  pl__buf_release(&body);
  return status == 200 ? pl__error_clear(error) : status;
}

int pl_server_stop(pl_server *server, struct pl_error *error) {
  const struct pl_config *config = &server->config;
  char path[PL_LOCKFILE_PATH_BYTES];
  pid_t pid = 0;

  if (pl__lockfile_holder(config->pid_file, config->name, &pid, path))
    return pl__error_set(error, PL_ENOTRUNNING, "%s is not running",
                         config->pid_file[0] ? config->pid_file : config->name);
  if (kill(pid, SIGTERM))
    return pl__error_set(error, PL_EFAIL, "cannot stop process %ld: %s",
                         (long)pid, strerror(errno));
  if (!holder_wait(server, pid, path,
                   config->timeout_drain_s + config->timeout_pre_drain_s +
                       STOP_GRACE_S))
    return pl__error_set(error, PL_ETIMEOUT, "process %ld does not end",
                         (long)pid);
  return pl__error_clear(error);
}
