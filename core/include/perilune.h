/* perilune.h - a server for Lua applications, as a C library.
 *
 * The launcher is a program like any other: all it can do goes through this
 * header.  Includes nothing of Perilune, and is fit for C++.  Unless said
 * otherwise a function may be called from any thread, but for one server only
 * from one thread at a time; strings are NUL-terminated UTF-8 that is not
 * checked, borrowed during the call when they go in and, when they come out,
 * static.
 */
#ifndef PERILUNE_H
#define PERILUNE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a function of this header can return beside 0.  Negated errno values
 * pass through; pl_strerror has a sentence for all of them. */
enum pl_error_kind {
  PL_ERROR_MEMORY = -20000,      /* out of memory, or no shared memory */
  PL_ERROR_INVALID = -20002,     /* an argument makes no sense */
  PL_ERROR_SCRIPT = -20005,      /* the app does not load, or a spec failed */
  PL_ERROR_CONFIG = -20006,      /* the configuration is wrong */
  PL_ERROR_BIND = -20007,        /* an address cannot be listened on */
  PL_ERROR_NOT_RUNNING = -20008, /* there is no such server */
  PL_ERROR_TIMEOUT = -20011,     /* it took too long */
  PL_ERROR_USAGE = -20012,       /* the arguments of a command are wrong */
  PL_ERROR_FAILED = -20013       /* anything else; the text says what */
};

/* A failure, for programs and for people. The caller's; any content goes in. */
struct pl_error {
  int code;        /* enum pl_error_kind or a negated errno; 0 when all went
                      well, and then `text` is empty */
  char text[4096]; /* what and where, possibly several lines; no newline at
                      the end; cut when it would be longer */
};

/* Where text for people goes. */
enum pl_stream {
  PL_STREAM_RESULT = 1, /* what was asked for */
  PL_STREAM_MESSAGE = 2 /* what is said about it: warnings, progress */
};

/* Takes text that a server has for its user.
 *
 *   arg     as given in the options
 *   stream  enum pl_stream
 *   text    `bytes` of it, not NUL-terminated, valid during the call; whole
 *           lines with their newlines, save results, which come as they are
 *
 * Runs on the caller's thread, inside a function of this header, in the master
 * process only; must not call back into this header.
 */
typedef void (*pl_output_fn)(void *arg, int stream, const char *text,
                             size_t bytes);

/* How a server is to be made. Set everything to zero, then `bytes`. */
struct pl_options {
  size_t bytes;         /* sizeof(struct pl_options): tells the version */
  const char *app;      /* file that returns an app, or a folder with app.lua;
                             NULL: none, which pl_server_test and
                             pl_server_stop allow, others refuse */
  const char *config;   /* configuration file; NULL: config.lua beside the
                             app if it is there */
  const char *name;     /* of the server; NULL: configured, or the name of
                             the app's folder */
  const char *pid_file; /* NULL: configured, or a place that follows from the
                             name */
  const char *const *overrides; /* "key=value" each, as after --set */
  size_t override_count;        /* how many; NULL is allowed when 0 */
  int environment;              /* 1: PERILUNE_*, PORT and WEB_CONCURRENCY are
                                   read; 0: they are not */
  int dev;                /* 1: for development: one worker, reloads by itself
                             when files change, shows errors */
  pl_output_fn on_output; /* NULL: results go to descriptor 1, messages to 2 */
  void *output_arg;       /* passed to on_output */
};

/* A server that is configured: one app, one set of addresses and limits. */
typedef struct pl_server pl_server;

/* The version of this library: "0.1.0". */
const char *pl_version(void);

/* The version of a part: "perilune", "luajit", "libuv", "llhttp", "jemalloc".
 * Returns NULL for a name that is none of these or that is not compiled in. */
const char *pl_version_of(const char *part);

/* A sentence for a code that a function of this header returned; for any other
 * number "unknown error". Never NULL. */
const char *pl_strerror(int code);

/* Resolves the configuration and makes a server that does not run yet.
 *
 *   options  `bytes` set; copied
 *   out      the server on success, to be freed with pl_server_free; untouched
 *            on failure
 *   error    filled; NULL is allowed
 *
 * Warnings (an unknown PERILUNE_* variable) are messages on the output.
 *
 * Returns 0, PL_ERROR_CONFIG, PL_ERROR_SCRIPT (no app where the options say),
 * PL_ERROR_INVALID (`bytes` is not known), PL_ERROR_MEMORY.
 */
int pl_server_new(const struct pl_options *options, pl_server **out,
                  struct pl_error *error);

/* Frees a server that does not run. NULL does nothing. */
void pl_server_free(pl_server *server);

/* Serves until it is told to stop: becomes the master of worker processes that
 * it forks.
 *
 * Blocks.  While it runs, TERM and INT drain and stop, a second one stops at
 * once, HUP reloads, QUIT writes down what the flight recorder has, USR1 opens
 * the log's file again, TTIN and TTOU change the number of workers, and USR2 executes this program anew, with the arguments
 * that the process had, to take over; the caller's signal mask is given back
 * afterwards.  Listening sockets of the environment (LISTEN_FDS) are taken.  The process must
 * have one thread only, or what the other threads hold stays held in the
 * workers.  When the server is ready one message says so.
 *
 * Returns 0 after a drain; else, with everything it had started ended:
 * PL_ERROR_BIND, PL_ERROR_SCRIPT (the app does not load), PL_ERROR_MEMORY,
 * PL_ERROR_FAILED (stopped at once, or another server has this name).
 */
int pl_server_run(pl_server *server, struct pl_error *error);

/* Makes an app: a folder with app, configuration, spec, and what editors,
 * systemd and containers want. What was made is a result.
 *
 *   path  of the folder, which may be there if it is empty; its last part is
 *         the app's name
 *
 * Returns 0, PL_ERROR_FAILED (no name for an app, or the folder is not empty,
 * or cannot be written to), PL_ERROR_MEMORY. */
int pl_server_make_app(pl_server *server, const char *path,
                       struct pl_error *error);

/* Reads Lua from descriptor 0, evaluates it beside the app, and writes the
 * values as results, until the input ends.  On a terminal descriptor 2 gets
 * prompts, and the line while it is edited.  SIGINT interrupts an evaluation,
 * or drops the line; where it finds no way in, a second one ends the process.
 * Returns 0, PL_ERROR_SCRIPT (the app does not load), PL_ERROR_MEMORY. */
int pl_server_repl(pl_server *server, struct pl_error *error);

/* Loads the app in this process, compiles its routes and forgets them again.
 * Problems are results on the output, one `file:line: what` each.
 * Returns 0, PL_ERROR_SCRIPT when there are problems, PL_ERROR_MEMORY. */
int pl_server_check(pl_server *server, struct pl_error *error);

/* Loads the app and writes its routes as a result: method, pattern, place of
 * the handler, middleware; as aligned lines, or as one JSON array.
 * Returns 0, PL_ERROR_SCRIPT, PL_ERROR_MEMORY. */
int pl_server_routes(pl_server *server, int json, struct pl_error *error);

/* One request for pl_server_request. Everything is borrowed. */
struct pl_request {
  const char *method;         /* "GET" */
  const char *target;         /* "/notes?limit=3" */
  const char *const *headers; /* "name: value" each, without line ends */
  size_t header_count;        /* how many; NULL is allowed when 0 */
  const char *body;           /* any bytes; NULL when there is none */
  size_t body_bytes;          /* of it */
  int show_head;              /* 1: status line and fields come before the
                                 body, as HTTP/1.1 sends them */
};

/* Sends one request through parser, limits, router, handlers and encoder of
 * the app, in this process and without a socket; the response is a result.
 *
 *   status_out  HTTP status of the response; NULL is allowed; untouched on
 *               failure
 *
 * Returns 0 whatever the status is, or PL_ERROR_SCRIPT (the app does not load,
 * or the connection ended without a response), PL_ERROR_MEMORY. */
int pl_server_request(pl_server *server, const struct pl_request *request,
                      int *status_out, struct pl_error *error);

/* Runs busted, which has to be installed, inside the runtime.
 *
 *   argv  `argc` arguments of busted, without the name of a program
 *
 * What busted prints goes to descriptors 1 and 2.
 * Returns 0 when every spec passes, PL_ERROR_FAILED when not, PL_ERROR_SCRIPT
 * when busted cannot be loaded. */
int pl_server_test(pl_server *server, int argc, const char *const *argv,
                   struct pl_error *error);

/* Writes every configuration key with value and origin as a result: aligned
 * lines, or as JSON. Returns 0 or PL_ERROR_MEMORY. */
int pl_server_config_dump(pl_server *server, int json, struct pl_error *error);

/* Visits the table of configuration keys, in its order.
 *
 *   index  from 0
 *   name, type, fallback, doc  static texts: "timeouts.idle", "duration",
 *          "60s", one sentence; each may be NULL if it is not wanted
 *
 * Returns 1, or 0 past the end, with nothing written. */
int pl_config_key(size_t index, const char **name, const char **type,
                  const char **fallback, const char **doc);

/* The word of a list that a person who typed `word` most likely meant, or NULL
 * when none of the `count` is near: two typing errors, one in short words. */
const char *pl_suggest(const char *word, const char *const *words,
                       size_t count);

/* What a running server says of itself, as a result: for people, or as JSON.
 * Which one follows from the pid file, or the name, that the server was made
 * with; so for the next two.
 * Returns 0, PL_ERROR_NOT_RUNNING, PL_ERROR_TIMEOUT, PL_ERROR_FAILED. */
int pl_server_status(pl_server *server, int json, struct pl_error *error);

/* What LuaJIT's compiler makes of the app of a running server: the share of CPU
 * samples in compiled code by route, as far as it is known, and the traces that
 * were given up, with what to do about them.  As text, painted where `colour` is
 * 1, or as JSON.  Returns as pl_server_status. */
int pl_server_jit(pl_server *server, int json, int colour,
                  struct pl_error *error);

/* What status tells, as one page for those who watch, as `perilune top` shows it.
 *
 *   columns  of the terminal; longer lines are cut
 *   rows     likewise; 0: as many as it takes
 *   colour   1: painted, with the sequences of ECMA-48
 *
 * Returns as pl_server_status. */
int pl_server_top(pl_server *server, int columns, int rows, int colour,
                  struct pl_error *error);

/* A profile of a running server, of all its workers, as a result.
 *
 *   kind   "cpu"; what else there is depends on the server: "heap", "allocs",
 *          "coroutine", "block"
 *   query  what is asked of it: for "cpu" "seconds=30&ago=0&format=pprof", the
 *          seconds until now, or until so long ago; the format may be pprof (the
 *          file that `go tool pprof` reads), folded, svg or text
 *
 * Returns as pl_server_status. */
int pl_server_profile(pl_server *server, const char *kind, const char *query,
                      struct pl_error *error);

/* Has a running server load its app and configuration anew, and waits how that
 * goes: all its workers serve the new version, or all go on with the old one.
 *
 *   wait  0: returns when it has begun
 *   json  1: the result as JSON, also when it was rejected
 *
 * Returns 0; PL_ERROR_SCRIPT or PL_ERROR_CONFIG, rejected for that, and the
 * text says why; PL_ERROR_NOT_RUNNING, PL_ERROR_TIMEOUT, PL_ERROR_FAILED. */
int pl_server_reload(pl_server *server, int wait, int json,
                     struct pl_error *error);

/* Has a running server write down what its flight recorder has: a Chrome trace
 * of what its workers have done in the last seconds, in a file of its
 * `recorder.folder`, whose path is the result.
 *
 *   seconds  above 0: of what they do from now on, for so long; 300 at most
 *
 * Returns as pl_server_status. */
int pl_server_record(pl_server *server, int seconds, struct pl_error *error);

/* Has a running server close its sockets and end what it has begun, and waits
 * for that; the process stays, without workers, until it is stopped.
 * Returns as pl_server_status. */
int pl_server_drain(pl_server *server, int json, struct pl_error *error);

/* Tells a running server to drain and stop, and waits until it is gone. Which
 * one follows from the pid file, or the name, that the server was made with.
 * Progress is a message.
 *
 * Returns 0 when it is gone, PL_ERROR_NOT_RUNNING, PL_ERROR_FAILED (no right
 * to stop it), PL_ERROR_TIMEOUT (it did not end within its `timeouts.drain` and
 * `timeouts.pre_drain` plus ten seconds, as far as this configuration knows).
 */
int pl_server_stop(pl_server *server, struct pl_error *error);

#ifdef __cplusplus
}
#endif

#endif /* PERILUNE_H */
