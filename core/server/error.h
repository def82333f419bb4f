/* server/error.h - filling a struct pl_error of the public header. */
#ifndef PL_SERVER_ERROR_H
#define PL_SERVER_ERROR_H

struct pl_error;

/* Sets code and text; without a format (NULL) the sentence of the code. `e`
 * may be NULL. Returns `code`. */
__attribute__((format(printf, 3, 4))) int
pl__error_set(struct pl_error *e, int code, const char *format, ...);

/* All went well. Returns 0. */
int pl__error_clear(struct pl_error *e);

#endif /* PL_SERVER_ERROR_H */
