/* log/digits.h - numbers and escaped texts, written behind a pointer.
 *
 * Each function writes at `at`, where the caller has made room, and returns
 * the first byte behind what it wrote.  Independent of the locale.
 */
#ifndef PL_LOG_DIGITS_H
#define PL_LOG_DIGITS_H

#include "base/slice.h"

#define PL_DIGITS_U64_BYTES 20    /* longest pl__put_u64 */
#define PL_DIGITS_DOUBLE_BYTES 32 /* longest pl__put_double */
#define PL_DIGITS_JSON_FACTOR 6u  /* most bytes that one byte of text becomes */

/* Two digits, n <= 99, and `count` digits with leading zeros. */
char *pl__put_two(char *at, unsigned n);
char *pl__put_padded(char *at, uint64_t n, unsigned count);

/* Decimal, without leading zeros. */
char *pl__put_u64(char *at, uint64_t n);

/* Sixteen lower-case hex digits. */
char *pl__put_hex(char *at, uint64_t n);

/* Nanoseconds as milliseconds with three decimals, rounded down: "1.250". */
char *pl__put_ms(char *at, uint64_t ns);

/* The shortest of 15 to 17 digits that reads back as the same number; whole
 * numbers up to 2^53 without exponent or point.  "null" when it is not finite:
 * JSON knows no other way. */
char *pl__put_double(char *at, double number);

/* The inside of a JSON string (RFC 8259 7): quotes, backslashes and control
 * characters escaped, and each byte that belongs to no valid UTF-8 character
 * replaced by U+FFFD. */
char *pl__put_json(char *at, struct pl_slice text);

/* For terminals: as it is, but control characters (C1 too) become \xNN and
 * what is no UTF-8 U+FFFD.  With `lines`, line feeds stay and are followed by
 * two spaces, and tabs stay. */
char *pl__put_plain(char *at, struct pl_slice text, int lines);

#endif /* PL_LOG_DIGITS_H */
