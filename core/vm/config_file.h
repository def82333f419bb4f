/* vm/config_file.h - evaluates a configuration file: Lua that returns a table.
 *
 * In a throw-away VM with nothing but tables, strings and numbers in reach: no
 * io, os, require, ffi, debug, package, load, and no metatable of strings that
 * leads out.  The compiler is off and a count hook ends it after a time; its
 * memory has a limit.  Knows no key: whoever visits the values does.  The free
 * form part, `settings`, stays in the VM until it is written as JSON.
 */
#ifndef PL_VM_CONFIG_FILE_H
#define PL_VM_CONFIG_FILE_H

#include <stddef.h>
#include <stdint.h>

struct pl_buf;
struct pl_config_file;

#define PL_CONFIG_FILE_BYTES_MAX 1048576 /* of the file */
#define PL_CONFIG_FILE_MEMORY_BYTES_MAX 67108864
#define PL_CONFIG_FILE_DEPTH_MAX 32     /* tables in tables */
#define PL_CONFIG_FILE_KEY_BYTES 256    /* of a dotted key, NUL included */
#define PL_CONFIG_FILE_VALUE_BYTES 4096 /* of a value as text, NUL included */

enum pl_config_file_type {
  PL_CONFIG_FILE_STRING,
  PL_CONFIG_FILE_NUMBER,
  PL_CONFIG_FILE_BOOL,
  PL_CONFIG_FILE_LIST /* strings and numbers; as text, with commas between;
                         an empty table too */
};

/* Gets one value of the table, nested keys joined by dots.
 *
 *   key, text  NUL-terminated, valid during the call
 *
 * Runs once per value that is not under `settings`, in no particular order.
 * Returns 0, or a code that ends the visit and is returned from it.
 */
typedef int (*pl__config_file_fn)(void *arg, const char *key,
                                  enum pl_config_file_type type,
                                  const char *text);

/* A VM without a file: no values, empty settings. Returns 0 or PL_ENOMEM. */
int pl__config_file_new(struct pl_config_file **out);
void pl__config_file_free(struct pl_config_file *f);

/* Reads and runs the file.
 *
 *   seconds    it may take
 *   err        `err_bytes` of it get the reason on failure: `file:line: what`
 *
 * Returns 0, PL_ECONFIG (cannot be read, fails, takes too long or too much
 * memory, returns no table), PL_ENOMEM.
 */
int pl__config_file_load(struct pl_config_file *f, const char *path,
                         double seconds, char *err, size_t err_bytes);

/* Calls `on_value` for every value, settings aside. Returns 0, what on_value
 * returned, or PL_ECONFIG (with `err` filled) for a value of another type or a
 * key that is no string. */
int pl__config_file_visit(struct pl_config_file *f, pl__config_file_fn on_value,
                          void *arg, char *err, size_t err_bytes);

/* Sets a setting; dots in `name` make tables. Text that reads as true, false
 * or a number becomes that, else a string. Returns 0, PL_ECONFIG (`name` is
 * empty or leads through something that is no table), PL_ENOMEM. */
int pl__config_file_set(struct pl_config_file *f, const char *name,
                        const char *text);

/* Appends the settings as a JSON object, keys sorted. Returns 0, PL_ECONFIG
 * (with `err` filled: a function or too deep a table), PL_EFULL, PL_ENOMEM. */
int pl__config_file_settings(struct pl_config_file *f, struct pl_buf *out,
                             char *err, size_t err_bytes);

/* The version of the Lua this was built with: "LuaJIT 2.1.0-beta3". Static. */
const char *pl__config_file_lua_version(void);

#endif /* PL_VM_CONFIG_FILE_H */
