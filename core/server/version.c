/* server/version.c - the versions of Perilune and of its parts. */
#include "perilune.h"

#include <string.h>
#include <uv.h>

#include "base/alloc.h"
#include "http/parser.h"
#include "vm/config_file.h"

/* What follows `name` in the allocator's version; NULL if it is another. */
static const char *allocator_version(const char *name) {
  const char *version = pl__alloc_version();
  size_t bytes = strlen(name);
  return strncmp(version, name, bytes) == 0 ? version + bytes : NULL;
}

const char *pl_version(void) { return PL_VERSION; }

const char *pl_version_of(const char *part) {
  if (strcmp(part, "perilune") == 0)
    return PL_VERSION;
  if (strcmp(part, "luajit") == 0)
    return pl__config_file_lua_version();
  if (strcmp(part, "libuv") == 0)
    return uv_version_string();
  if (strcmp(part, "llhttp") == 0)
    return pl__parser_version();
  if (strcmp(part, "jemalloc") == 0)
    return allocator_version("jemalloc ");
  return NULL;
}
