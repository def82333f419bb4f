/* vm/decimal.h - doubles as decimal text and back, exactly.
 *
 * Writes the fewest digits that read back the same double, as ECMAScript
 * does, and finds the double nearest to a decimal.  Both work with 128-bit
 * powers of ten that are computed, once per process, on first use.
 *
 * Does not scan text: the caller has split a number into digits and exponent.
 * Knows no Lua, no JSON, and no locale.
 */
#ifndef PL_VM_DECIMAL_H
#define PL_VM_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>

/* The most pl__decimal_encode writes: "-0.0000012345678901234567". */
#define PL_DECIMAL_BYTES_MAX 25

/* Digits that always fit the `digits` of pl__decimal_find. */
#define PL_DECIMAL_DIGITS_MAX 19

/* Makes the powers of ten.  Call before the two below, as often as you like,
 * from any thread. */
void pl__decimal_init(void);

/* Writes `number`, which is finite, to `out` (PL_DECIMAL_BYTES_MAX bytes of
 * room; not NUL-terminated) in the form of ECMAScript's Number::toString, but
 * with the sign of negative zero: "-0", "0.1", "1e+21", "5e-324".
 * Returns the bytes written. */
uint32_t pl__decimal_encode(double number, char *out);

/* The same for integers; exact over their whole range. */
uint32_t pl__decimal_encode_u64(uint64_t number, char *out);
uint32_t pl__decimal_encode_i64(int64_t number, char *out);

/* Finds the double nearest to digits * 10^exponent, half to even.
 *
 *   more    further digits were cut off behind `digits`: the value lies
 *           between it and digits + 1
 *
 * Returns false, with *out untouched, when it cannot tell: subnormal or
 * infinite results and a few in 2^64 ties.  strtod knows then. */
bool pl__decimal_find(uint64_t digits, int exponent, bool more, double *out);

#endif /* PL_VM_DECIMAL_H */
