/* server/tool.h - commands that need the runtime but no server: check, routes,
 * request, test.  They run in the process that calls them.
 */
#ifndef PL_SERVER_TOOL_H
#define PL_SERVER_TOOL_H

#include "base/slice.h"
#include "perilune.h"

struct pl_config;

/* Contracts: pl_server_check, _routes, _request and _test in perilune.h. */
int pl__tool_check(const struct pl_config *config, pl_output_fn on_output,
                   void *output_arg, struct pl_error *error);
int pl__tool_routes(const struct pl_config *config, int json,
                    pl_output_fn on_output, void *output_arg,
                    struct pl_error *error);
int pl__tool_request(const struct pl_config *config,
                     const struct pl_request *request, int *status_out,
                     pl_output_fn on_output, void *output_arg,
                     struct pl_error *error);
int pl__tool_test(const struct pl_config *config, int argc,
                  const char *const *argv, pl_output_fn on_output,
                  void *output_arg, struct pl_error *error);

/* A page about a server whose status (JSON) is given; see pl_server_top. */
int pl__tool_top(const struct pl_config *config, struct pl_slice status,
                 int columns, int rows, int colour, pl_output_fn output,
                 void *output_arg, struct pl_error *error);
/* The compilation report, of the answer of the control socket; see pl_server_jit.
 */
int pl__tool_jit(const struct pl_config *config, struct pl_slice answer,
                 const char *form, pl_output_fn output, void *output_arg,
                 struct pl_error *error);
int pl__tool_repl(const struct pl_config *config, pl_output_fn output,
                  void *output_arg, struct pl_error *error);
int pl__tool_new(const struct pl_config *config, const char *path,
                 const char *program, pl_output_fn output, void *output_arg,
                 struct pl_error *error);

#endif /* PL_SERVER_TOOL_H */
