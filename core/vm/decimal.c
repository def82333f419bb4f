/* vm/decimal.c - see decimal.h.
 *
 * Encoding is Schubfach (R. Giulietti, "The Schubfach way to render doubles",
 * 2020): three products with one power of ten give the bounds of the interval
 * that reads back as the same double, and the shortest decimal in it is one of
 * four candidates.  Finding is the method of D. Lemire, "Number parsing at a
 * gigabyte per second" (2021), behind the exact case of W. D. Clinger (1990).
 *
 * Both papers ship their powers of ten as a table of some 10 KB of literals.
 * Ours is computed: 10^k by multiplying, 10^-k by dividing a large power of
 * two, which takes well under a millisecond and cannot hold a typing error.
 */
#include "vm/decimal.h"

#include "base/check.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

__extension__ typedef unsigned __int128 uint128_t;

#define POWER_MIN (-342)   /* below it every 19 digits are less than 2^-1075 */
#define POWER_MAX 324      /* what the smallest subnormal needs */
#define POWER_EXACT_MAX 55 /* 5^55 is the last that fits 128 bits */
#define LIMB_COUNT 43      /* 1344 bits and one: 10^342 and 128 bits more */

/* The leading 128 bits of 10^k, the topmost one set, rounded down. */
struct power {
  uint64_t high, low;
};

static struct power powers[POWER_MAX - POWER_MIN + 1];
static pthread_once_t powers_made = PTHREAD_ONCE_INIT;

/* Takes the leading 128 bits of a number of `count` limbs, lowest first. */
static struct power leading_bits(const uint32_t *limbs, int count) {
  uint32_t top[5];
  int index = count - 1;

  while (limbs[index] == 0)
    index--;
  for (int i = 0; i < 5; i++)
    top[i] = index - i >= 0 ? limbs[index - i] : 0;

  struct power p = {(uint64_t)top[0] << 32 | top[1],
                    (uint64_t)top[2] << 32 | top[3]};
  int shift = __builtin_clz(top[0]);
  if (shift) {
    p.high = p.high << shift | p.low >> (64 - shift);
    p.low = p.low << shift | top[4] >> (32 - shift);
  }
  return p;
}

static void make_powers(void) {
  uint32_t limbs[LIMB_COUNT] = {1};

  for (int k = 0; k <= POWER_MAX; k++) {
    powers[k - POWER_MIN] = leading_bits(limbs, LIMB_COUNT);
    uint64_t carry = 0;
    for (int i = 0; i < LIMB_COUNT; i++) {
      carry += (uint64_t)limbs[i] * 10;
      limbs[i] = (uint32_t)carry;
      carry >>= 32;
    }
  }
  /* floor(floor(n / 10) / 10) is floor(n / 100): no error piles up. */
  memset(limbs, 0, sizeof limbs);
  limbs[LIMB_COUNT - 1] = 1;
  for (int k = -1; k >= POWER_MIN; k--) {
    uint64_t rest = 0;
    for (int i = LIMB_COUNT - 1; i >= 0; i--) {
      rest = rest << 32 | limbs[i];
      limbs[i] = (uint32_t)(rest / 10);
      rest %= 10;
    }
    powers[k - POWER_MIN] = leading_bits(limbs, LIMB_COUNT);
  }
}

void pl__decimal_init(void) { (void)pthread_once(&powers_made, make_powers); }

/* ---- integers ---- */

static const char digit_pairs[201] =
    "00010203040506070809101112131415161718192021222324"
    "25262728293031323334353637383940414243444546474849"
    "50515253545556575859606162636465666768697071727374"
    "75767778798081828384858687888990919293949596979899";

static uint32_t count_digits(uint64_t number) {
  uint32_t count = 1;

  for (; number >= 10000; number /= 10000)
    count += 4;
  return count + (number >= 10) + (number >= 100) + (number >= 1000);
}

uint32_t pl__decimal_encode_u64(uint64_t number, char *out) {
  uint32_t count = count_digits(number), at = count;

  while (number >= 100) {
    at -= 2;
    memcpy(out + at, digit_pairs + number % 100 * 2, 2);
    number /= 100;
  }
  if (number >= 10)
    memcpy(out, digit_pairs + number * 2, 2);
  else
    out[0] = (char)('0' + number);
  return count;
}

uint32_t pl__decimal_encode_i64(int64_t number, char *out) {
  if (number >= 0)
    return pl__decimal_encode_u64((uint64_t)number, out);
  *out = '-';
  return 1 + pl__decimal_encode_u64(0 - (uint64_t)number, out + 1);
}

/* ---- double to decimal ---- */

struct decimal {
  uint64_t digits;
  int exponent; /* digits * 10^exponent */
};

/* floor(n * log2(10)), right for |n| < 1233. */
static int log2_of_pow10(int n) { return n * 1741647 >> 19; }

/* The upper 64 bits of the 192-bit product, its lowest bit set if any bit
 * below is: enough to compare with, as the paper shows. */
static uint64_t multiply_to_odd(struct power p, uint64_t n) {
  uint64_t carry = (uint64_t)((uint128_t)p.low * n >> 64);
  uint128_t sum = (uint128_t)p.high * n + carry;

  return (uint64_t)(sum >> 64) | ((uint64_t)sum > 1);
}

/* The shortest decimal for the double of these bits (not 0, not special). */
static struct decimal shortest(uint64_t fraction, int biased) {
  uint64_t c = biased ? fraction | UINT64_C(1) << 52 : fraction;
  int q = (biased ? biased : 1) - 1075; /* the double is c * 2^q */
  uint64_t odd = c & 1;                 /* bounds of even ones belong to it */
  uint64_t close = fraction == 0 && biased > 1; /* half the gap below */
  /* floor(log10(2^q)), of 3/4 * 2^q if the gap below is the smaller one */
  int k = (q * 1262611 - (close ? 524031 : 0)) >> 22;
  int shift = q + log2_of_pow10(-k) + 1;
  struct power p = powers[-k - POWER_MIN];

  if ((k > 0 || k < -POWER_EXACT_MAX) && ++p.low == 0)
    p.high++; /* the paper rounds up */

  uint64_t lower = multiply_to_odd(p, (4 * c - 2 + close) << shift) + odd;
  uint64_t value = multiply_to_odd(p, (4 * c) << shift);
  uint64_t upper = multiply_to_odd(p, (4 * c + 2) << shift) - odd;
  uint64_t s = value / 4;

  if (s >= 10) { /* one digit less, if exactly one such lies inside */
    uint64_t t = s / 10;
    bool down = lower <= 40 * t, up = 40 * t + 40 <= upper;
    if (down != up)
      return (struct decimal){t + up, k + 1};
  }
  bool down = lower <= 4 * s, up = 4 * s + 4 <= upper;
  if (down == up) { /* both inside or neither: the nearer */
    uint64_t middle = 4 * s + 2;
    up = value > middle || (value == middle && (s & 1));
  }
  return (struct decimal){s + up, k};
}

static char *put_zeros(char *out, int count) {
  memset(out, '0', (size_t)count);
  return out + count;
}

/* Number::toString (ECMA-262, 6.1.6.1.20), steps 6 to 12. */
static char *put_decimal(struct decimal d, char *out) {
  while (d.digits % 10 == 0) {
    d.digits /= 10;
    d.exponent++;
  }
  char digits[20];
  int count = (int)pl__decimal_encode_u64(d.digits, digits);
  int point = count + d.exponent; /* digits in front of the point */

  if (point > 21 || point <= -6) {
    *out++ = digits[0];
    if (count > 1) {
      *out++ = '.';
      memcpy(out, digits + 1, (size_t)count - 1);
      out += count - 1;
    }
    *out++ = 'e';
    if (point > 0)
      *out++ = '+';
    return out + pl__decimal_encode_i64(point - 1, out);
  }
  if (point <= 0) {
    *out++ = '0';
    *out++ = '.';
    out = put_zeros(out, -point);
    memcpy(out, digits, (size_t)count);
    return out + count;
  }
  int whole = point < count ? point : count;
  memcpy(out, digits, (size_t)whole);
  out = put_zeros(out + whole, point - whole);
  if (whole < count) {
    *out++ = '.';
    memcpy(out, digits + whole, (size_t)(count - whole));
    out += count - whole;
  }
  return out;
}

uint32_t pl__decimal_encode(double number, char *out) {
  char *at = out;
  uint64_t bits;

  memcpy(&bits, &number, sizeof bits);
  if (bits >> 63) {
    *at++ = '-';
    number = -number;
    bits &= UINT64_MAX >> 1;
  }
  if (number < 9007199254740992.0 && number == (double)(int64_t)number)
    return (uint32_t)(at - out) + pl__decimal_encode_u64((uint64_t)number, at);

  int biased = (int)(bits >> 52);
  PL_ASSERT(biased < 2047);
  at = put_decimal(shortest(bits & (UINT64_MAX >> 12), biased), at);
  return (uint32_t)(at - out);
}

/* ---- decimal to double ---- */

#define CLINGER_EXPONENT_MAX 22 /* 10^22 is the last exact double */

static const double exact_powers[CLINGER_EXPONENT_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The powers of ten that Lemire's proof is about are rounded down, but those
 * of -27 to -1 up: there the product of an exact decimal is then never below
 * the tie that it lies on. */
static struct power lemire_power(int exponent) {
  struct power p = powers[exponent - POWER_MIN];

  if (exponent < 0 && exponent >= -27 && ++p.low == 0)
    p.high++;
  return p;
}

static bool nearest(uint64_t digits, int exponent, double *out) {
  if (exponent < POWER_MIN || exponent > 308)
    return false;

  struct power p = lemire_power(exponent);
  int shift = __builtin_clzll(digits);
  digits <<= shift;

  uint128_t product = (uint128_t)digits * p.high;
  if (((uint64_t)(product >> 64) & 0x1FF) == 0x1FF)
    product += (uint128_t)digits * p.low >> 64;
  uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
  if (low == UINT64_MAX && (exponent < -27 || exponent > 55))
    return false;

  int top = (int)(high >> 63);
  uint64_t mantissa = high >> (top + 9);
  int biased = log2_of_pow10(exponent) + 63 + top - shift + 1023;
  if (biased <= 0)
    return false;
  /* A tie, possible for these exponents only, goes to the even neighbour. */
  if (low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1 &&
      mantissa << (top + 9) == high)
    mantissa--;
  mantissa = (mantissa + 1) >> 1;
  if (mantissa == UINT64_C(1) << 53) {
    mantissa >>= 1;
    biased++;
  }
  if (biased >= 2047)
    return false;

  uint64_t bits = (mantissa & (UINT64_MAX >> 12)) | (uint64_t)biased << 52;
  memcpy(out, &bits, sizeof bits);
  return true;
}

bool pl__decimal_find(uint64_t digits, int exponent, bool more, double *out) {
  if (digits == 0 && !more) {
    *out = 0;
    return true;
  }
  if (digits >> 53 == 0 && !more && exponent >= -CLINGER_EXPONENT_MAX &&
      exponent <= CLINGER_EXPONENT_MAX) {
    /* Both operands are exact, so one rounding is all that happens. */
    *out = exponent < 0 ? (double)digits / exact_powers[-exponent]
                        : (double)digits * exact_powers[exponent];
    return true;
  }
  double low, high;
  if (digits == 0 || !nearest(digits, exponent, &low))
    return false;
  if (more && (digits == UINT64_MAX || !nearest(digits + 1, exponent, &high) ||
               high != low))
    return false;
  *out = low;
  return true;
}
