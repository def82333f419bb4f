/* server/version.c - the versions of Perilune and of its parts. */
#include "perilune.h"

#include <string.h>
#include <uv.h>

#include "vm/config_file.h"

const char *pl_version(void) { return PL_VERSION; }

const char *pl_version_of(const char *part) {
  if (strcmp(part, "perilune") == 0)
    return PL_VERSION;
  if (strcmp(part, "luajit") == 0)
    return pl__config_file_lua_version();
  if (strcmp(part, "libuv") == 0)
    return uv_version_string();
  return NULL;
}
