/* server/keys.h - the table of configuration keys: the one place that knows
 * their names, types, defaults, ranges and meaning.
 *
 * --help, `perilune config`, the names of environment variables, "did you
 * mean" and the checks of values are all read from it.  A row says how text
 * becomes a field of struct pl_config; where the text comes from is
 * server/config.c's matter.
 */
#ifndef PL_SERVER_KEYS_H
#define PL_SERVER_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pl_config;

#define PL_KEY_ENV_PREFIX "PERILUNE_"
#define PL_KEY_VALUE_BYTES 4096 /* longest value as text, NUL included */
#define PL_KEY_NAME_BYTES 64    /* longest name of a key, NUL included */
#define PL_KEY_EXPECTED_BYTES 256
#define PL_KEY_NAMES_ALL UINT32_MAX /* a field of PL_KEY_NAMES: all of them */

enum pl_key_type {
  PL_KEY_DURATION,  /* double, seconds */
  PL_KEY_SIZE,      /* uint64_t, bytes */
  PL_KEY_INTEGER,   /* uint64_t */
  PL_KEY_SHARE,     /* double, 0 to 1 */
  PL_KEY_NAMES,     /* uint32_t: a bit for each name in `choices` */
  PL_KEY_WORKERS,   /* `auto` or an integer: workers, workers_auto */
  PL_KEY_STRING,    /* char array */
  PL_KEY_PATH,      /* likewise: of a file or folder */
  PL_KEY_SECRET,    /* likewise; never shown */
  PL_KEY_BOOL,      /* bool */
  PL_KEY_ENUM,      /* uint32_t: index in `choices` */
  PL_KEY_ADDRESSES, /* listen, listen_count */
  PL_KEY_ADDRESS,   /* one, or `off`: admin_listen, admin_on */
  PL_KEY_NETWORKS,  /* char array: a text for pl__networks_parse */
  PL_KEY_FIELD,     /* char array: name of a header field, or empty */
  PL_KEY_ENDPOINT,  /* char array: for pl__endpoint_parse, or empty */
  PL_KEY_PAIRS,     /* char array: for pl__pairs_take */
  PL_KEY_FIELDS     /* likewise, names and values of a header; never shown */
};

struct pl_key {
  const char *name; /* "timeouts.header" */
  const char *env;  /* "PERILUNE_TIMEOUTS_HEADER" */
  enum pl_key_type type;
  size_t offset;        /* of the field in struct pl_config */
  size_t field_bytes;   /* char arrays: room, NUL included */
  const char *fallback; /* default, as text */
  double min, max;      /* numbers: both allowed; strings: length in bytes */
  const char *choices;  /* PL_KEY_ENUM, PL_KEY_NAMES: words, a space between */
  const char *doc;      /* one sentence, no full stop at the end */
};

extern const struct pl_key pl__keys[];
extern const uint32_t pl__key_count;

/* Whether its value is never shown. */
static inline bool pl__key_is_secret(const struct pl_key *key) {
  return key->type == PL_KEY_SECRET || key->type == PL_KEY_FIELDS;
}

/* The row with this name, or NULL. */
const struct pl_key *pl__key_find(const char *name, size_t bytes);

/* The row with this environment variable, or NULL. */
const struct pl_key *pl__key_find_env(const char *name, size_t bytes);

/* Whether keys begin with this and a dot. */
bool pl__key_is_section(const char *name);

/* The key that a person who typed `name` most likely meant, or NULL when none
 * is near; `settings.` counts as a key. */
const char *pl__key_near(const char *name);

/* The nearest of `count` words within two edits, or one for words of three
 * letters and fewer; NULL when there is none. */
const char *pl__word_near(const char *word, const char *const *words,
                          size_t count);

/* Reads `text` as the value of a key. PL_KEY_ADDRESSES, PL_KEY_NAMES and
 * PL_KEY_NETWORKS take several with commas between; each call replaces what was
 * there.
 * Returns 0, or PL_EINVAL with *c unchanged. */
int pl__key_set(const struct pl_key *key, const char *text,
                struct pl_config *c);

/* Writes what a value of this key has to be: "a duration from 1ms to 24h, such
 * as 250ms, 5s or 1m". Always NUL-terminated. */
void pl__key_expected(const struct pl_key *key, char *out, size_t bytes);

/* "duration", "size", ...: for people. Static. */
const char *pl__key_type_name(const struct pl_key *key);

/* The shortest text that pl__key_set reads back as this number of seconds or
 * bytes: "1.5s", "250ms", "64K". Always NUL-terminated. */
void pl__key_format_duration(double seconds, char *out, size_t bytes);
void pl__key_format_size(uint64_t size, char *out, size_t bytes);
/* The same for a share, "0.01", and for names: "all", "status,route". */
void pl__key_format_share(double share, char *out, size_t bytes);
void pl__key_format_names(const char *choices, uint32_t bits, char *out,
                          size_t bytes);

#endif /* PL_SERVER_KEYS_H */
