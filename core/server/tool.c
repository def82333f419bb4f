/* server/tool.c - see tool.h. */
#include "server/tool.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "fabric/map.h"
#include "server/config.h"
#include "server/console.h"
#include "server/error.h"
#include "server/inject.h"
#include "server/loop.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOOL_SLABS 1024u /* connections that a spec can have busy at once */
#define TOOL_OUTPUT_BYTES_MAX 16777216u

struct tool {
  struct pl_fabric fabric;
  struct pl_dispatch dispatch;
  struct pl_inject inject;
  struct pl_loop loop;
  struct pl_console console;
  bool has_console; /* else Ctrl-C ends the tool */
  pl_output_fn on_output;
  void *output_arg;
};

static void on_output(void *arg, bool message, const char *text, size_t bytes) {
  struct tool *t = arg;

  t->on_output(t->output_arg, message ? PL_STREAM_MESSAGE : PL_STREAM_RESULT,
               text, bytes);
}

static int on_read_line(void *arg, const char *prompt, struct pl_slice *out) {
  struct tool *t = arg;

  return pl__console_read(&t->console, prompt, out);
}

static int open_slabs(struct tool *t, const struct pl_config *config,
                      struct pl_dispatch_options *options,
                      struct pl_error *error) {
  char text[PL_FABRIC_ERROR_BYTES];
  struct pl_fabric_section section = {
      .name = "slabs", .version = 1, .element_count = TOOL_SLABS};
  int failed;

  options->slab_bytes = pl__dispatch_slab_bytes(config);
  options->slab_count = TOOL_SLABS;
  section.element_bytes = options->slab_bytes;
  failed = pl__fabric_open(&t->fabric, &section, 1, text);
  if (!failed)
    failed = pl__fabric_find(&t->fabric, "slabs", 1, options->slab_bytes,
                             &options->slabs, NULL);
  return failed ? pl__error_set(error, PL_ENOMEM, "%s", text) : 0;
}

static struct tool *tool_open(const struct pl_config *config,
                              pl_output_fn output, void *output_arg,
                              struct pl_error *error) {
  struct tool *t = pl__alloc_zero(sizeof *t);
  char err[PL_VM_ERROR_BYTES];
  int failed;

  if (!t) {
    pl__error_set(error, PL_ENOMEM, NULL);
    return NULL;
  }
  t->on_output = output;
  t->output_arg = output_arg;
  struct pl_dispatch_options options = {
      .config = config,
      .log_wake_fd = -1,
      .worker = UINT32_MAX,
      .inject = &t->inject,
      .on_output = on_output,
      .on_read_line = on_read_line,
      .output_arg = t,
  };
  if (open_slabs(t, config, &options, error))
    goto fail_slabs;
  failed = pl__dispatch_open(&t->dispatch, &options, err);
  if (failed) {
    pl__error_set(error, failed, "%s", err);
    goto fail_dispatch;
  }
  pl__inject_init(&t->inject, &t->dispatch);
  return t;

fail_dispatch:
  pl__fabric_close(&t->fabric);
fail_slabs:
  pl__free(t);
  return NULL;
}

static void tool_close(struct tool *t) {
  pl__dispatch_close(&t->dispatch);
  pl__inject_deinit(&t->inject);
  pl__fabric_close(&t->fabric);
  pl__free(t);
}

/* Calls a function of boot and writes what it returns. *lines: how many. */
static int tool_call(struct tool *t, const char *name,
                     const struct pl_vm_arg *args, uint32_t count,
                     uint32_t *lines, struct pl_error *error) {
  char err[PL_VM_ERROR_BYTES];
  struct pl_buf out;
  int failed;

  pl__buf_init(&out, NULL, TOOL_OUTPUT_BYTES_MAX);
  failed =
      pl__vm_call_tool(&t->dispatch.now->vm, name, args, count,
                       t->dispatch.config->vm_load_timeout_s, &out, lines, err);
  if (failed)
    pl__error_set(error, failed, "%s", err);
  else if (out.bytes)
    t->on_output(t->output_arg, PL_STREAM_RESULT, out.at, out.bytes);
  pl__buf_release(&out);
  return failed;
}

static struct pl_vm_arg text_arg(const char *text) {
  return (struct pl_vm_arg){.text = text, .text_bytes = strlen(text)};
}

int pl__tool_check(const struct pl_config *config, pl_output_fn output,
                   void *output_arg, struct pl_error *error) {
  struct tool *t = tool_open(config, output, output_arg, error);
  struct pl_vm_arg app = text_arg(config->app_file);
  uint32_t faults;
  int failed;

  if (!t)
    return error->code;
  failed = tool_call(t, "check", &app, 1, &faults, error);
  if (!failed && faults)
    failed = pl__error_set(error, PL_ESCRIPT,
                           faults == 1 ? "%u problem" : "%u problems", faults);
  tool_close(t);
  return failed ? failed : pl__error_clear(error);
}

int pl__tool_routes(const struct pl_config *config, int json,
                    pl_output_fn output, void *output_arg,
                    struct pl_error *error) {
  struct tool *t = tool_open(config, output, output_arg, error);
  struct pl_vm_arg args[] = {text_arg(config->app_file), {0}};
  uint32_t lines;
  int failed;

  if (!t)
    return error->code;
  if (json)
    args[1] = text_arg("json");
  failed = tool_call(t, "routes", args, 2, &lines, error);
  tool_close(t);
  return failed ? failed : pl__error_clear(error);
}

int pl__tool_top(const struct pl_config *config, struct pl_slice status,
                 int columns, int rows, int colour, pl_output_fn output,
                 void *output_arg, struct pl_error *error) {
  struct tool *t = tool_open(config, output, output_arg, error);
  char width[16], height[16];
  struct pl_vm_arg args[] = {{.text = status.at, .text_bytes = status.bytes},
                             {0},
                             {0},
                             text_arg(colour ? "colour" : "")};
  uint32_t lines;
  int failed;

  if (!t)
    return error->code;
  snprintf(width, sizeof width, "%d", columns);
  snprintf(height, sizeof height, "%d", rows > 0 ? rows : 0);
  args[1] = text_arg(width);
  args[2] = text_arg(height);
  failed = tool_call(t, "top", args, 4, &lines, error);
  tool_close(t);
  return failed;
}

int pl__tool_jit(const struct pl_config *config, struct pl_slice answer,
                 const char *form, pl_output_fn output, void *output_arg,
                 struct pl_error *error) {
  struct tool *t = tool_open(config, output, output_arg, error);
  struct pl_vm_arg args[] = {{.text = answer.at, .text_bytes = answer.bytes},
                             text_arg(form)};
  uint32_t lines;
  int failed;

  if (!t)
    return error->code;
  failed = tool_call(t, "jit", args, 2, &lines, error);
  tool_close(t);
  return failed;
}

/* A folder that is not there yet, or has nothing in it, is free. */
static int folder_must_be_free(const char *path, struct pl_error *error) {
  DIR *folder = opendir(path);
  const struct dirent *entry;
  bool occupied = false;

  if (!folder && errno == ENOENT)
    return 0;
  if (!folder)
    return pl__error_set(error, PL_EFAIL, "%s: %s", path, strerror(errno));
  while (!occupied && (entry = readdir(folder)))
    occupied = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..");
  closedir(folder);
  return occupied
             ? pl__error_set(error, PL_EFAIL,
                             "%s is there and not empty: choose another name",
                             path)
             : 0;
}

int pl__tool_new(const struct pl_config *config, const char *path,
                 const char *program, pl_output_fn output, void *output_arg,
                 struct pl_error *error) {
  struct pl_vm_arg args[] = {text_arg(path), text_arg(program)};
  struct tool *t;
  uint32_t lines;
  int failed;

  if (folder_must_be_free(path, error))
    return error->code;
  t = tool_open(config, output, output_arg, error);
  if (!t)
    return error->code;
  failed = tool_call(t, "new", args, 2, &lines, error);
  tool_close(t);
  if (failed == PL_ESCRIPT)
    failed = error->code = PL_EFAIL; /* it is not the app's fault */
  return failed ? failed : pl__error_clear(error);
}

/* --- tasks ------------------------------------------------------------- */

static bool before_turn(void *arg) {
  struct tool *t = arg;

  return pl__inject_turn(&t->inject);
}

static void after_turn(void *arg) {
  struct tool *t = arg;

  if (t->dispatch.quit)
    pl__loop_stop(&t->loop);
}

static void on_interrupt(void *arg) {
  struct tool *t = arg;

  pl__vm_interrupt(&t->dispatch.now->vm);
}

/* Connections whose handlers still wait: their clients go away now. */
static void tool_end_connections(struct tool *t) {
  pl__net_close_all(&t->dispatch.net);
  for (int i = 0; i < 1000 && t->dispatch.net.conn_count; i++) {
    pl__dispatch_tick(&t->dispatch);
    pl__dispatch_turn(&t->dispatch, false);
    pl__inject_turn(&t->inject);
  }
}

/* Runs boot.NAME as a task until it calls core.exit. */
static int tool_run(struct tool *t, const char *name,
                    const struct pl_vm_arg *args, uint32_t count, int *code,
                    struct pl_error *error) {
  char err[PL_VM_ERROR_BYTES];
  int failed = pl__loop_open(&t->loop, &t->dispatch);

  if (failed)
    return pl__error_set(error, failed, NULL);
  pl__loop_block_ticks(&t->loop);
  t->loop.before_turn = before_turn;
  t->loop.after_turn = after_turn;
  t->loop.arg = t;
  failed = pl__vm_start_tool(&t->dispatch.now->vm, name, args, count, err);
  if (!failed && t->has_console) {
    failed = pl__console_open(&t->console, &t->loop.uv, on_interrupt, t);
    snprintf(err, sizeof err, "no input");
  }
  if (failed) {
    pl__loop_close(&t->loop);
    return pl__error_set(error, failed, "%s", err);
  }
  pl__loop_run(&t->loop);
  if (t->has_console)
    pl__console_close(&t->console);
  *code = t->dispatch.quit_code;
  tool_end_connections(t);
  pl__loop_close(&t->loop);
  return 0;
}

int pl__tool_request(const struct pl_config *config,
                     const struct pl_request *request, int *status_out,
                     pl_output_fn output, void *output_arg,
                     struct pl_error *error) {
  struct tool *t = tool_open(config, output, output_arg, error);
  static const char *const none[] = {NULL};
  char err[PL_VM_ERROR_BYTES], site_text[16];
  uint32_t site;
  struct pl_vm_arg args[] = {
      {0},
      text_arg(request->method),
      text_arg(request->target),
      {.list = request->header_count ? request->headers : none,
       .list_count = request->header_count},
      {.text = request->body, .text_bytes = request->body_bytes},
      {0},
  };
  int code = 0, failed;

  if (!t)
    return error->code;
  failed = pl__vm_load(&t->dispatch.now->vm, config->app_file,
                       config->vm_load_timeout_s, &site, err);
  if (failed) {
    tool_close(t);
    return pl__error_set(error, failed, "%s", err);
  }
  snprintf(site_text, sizeof site_text, "%u", site);
  args[0] = text_arg(site_text);
  if (request->show_head)
    args[5] = text_arg("head");
  failed = tool_run(t, "request", args, 6, &code, error);
  tool_close(t);
  if (failed)
    return failed;
  if (code < 100) /* boot.request has said why */
    return pl__error_set(error, PL_ESCRIPT, "the request was not answered");
  *status_out = code;
  return pl__error_clear(error);
}

int pl__tool_repl(const struct pl_config *config, pl_output_fn output,
                  void *output_arg, struct pl_error *error) {
  struct tool *t = tool_open(config, output, output_arg, error);
  struct pl_vm_arg app = text_arg(config->app_file);
  int code = 0, failed;

  if (!t)
    return error->code;
  t->has_console = true;
  failed = tool_run(t, "repl", &app, 1, &code, error);
  tool_close(t);
  if (failed)
    return failed;
  return code ? pl__error_set(error, PL_ESCRIPT, "the app does not load")
              : pl__error_clear(error);
}

int pl__tool_test(const struct pl_config *config, int argc,
                  const char *const *argv, pl_output_fn output,
                  void *output_arg, struct pl_error *error) {
  struct tool *t = tool_open(config, output, output_arg, error);
  static const char *const none[] = {NULL};
  struct pl_vm_arg args = {.list = argc ? argv : none,
                           .list_count = (size_t)argc};
  int code = 0, failed;

  if (!t)
    return error->code;
  failed = tool_run(t, "test", &args, 1, &code, error);
  tool_close(t);
  if (failed)
    return failed;
  return code ? pl__error_set(error, PL_EFAIL, "specs have failed")
              : pl__error_clear(error);
}
