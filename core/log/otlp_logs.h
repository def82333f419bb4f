/* log/otlp_logs.h - records of the log as OTLP's LogRecord.
 *
 * Levels have the severities 5, 9, 13 and 17.  Fields are attributes, whole
 * numbers as ints.  A record about a request is named http.server.request and
 * says by attributes, as semantic conventions name them, what a JSON line says;
 * what these do not know begins with `perilune.`.
 */
#ifndef PL_LOG_OTLP_LOGS_H
#define PL_LOG_OTLP_LOGS_H

#include "fabric/record.h"
#include "fabric/routes.h"
#include "log/otlp.h"

/* Adds the record of `bytes` at `record`.  routes: all tables, may be NULL.
 *
 * Returns 0; PL_EBAD: it is no record; PL_EFULL or PL_ENOMEM: it does not fit
 * into the request.  After a failure the request is as it was. */
int pl__otlp_log(struct pl_otlp *o, const struct pl_routes *routes,
                 const void *record, uint32_t bytes);

#endif /* PL_LOG_OTLP_LOGS_H */
