/* vm/sources.h - where a VM's Lua files come from: the disk, or a bundle.
 *
 *   no bundle          the disk                         tools
 *   records            the disk, and all that is read   who tries a generation
 *                      goes into the bundle             out first
 *   has a generation   the bundle; the disk only for    workers
 *                      what is not in it
 *
 * Takes the places of `loadfile`, `dofile` and the searcher of `require` for
 * package.path.  What else an app reads (io.open, C modules) is not its matter.
 */
#ifndef PL_VM_SOURCES_H
#define PL_VM_SOURCES_H

#include <stdint.h>

struct lua_State;
struct pl_bundle;

#define PL_LIMIT_SOURCE_BYTES (4u << 20) /* of one file */

struct pl_vm_sources {
  struct pl_bundle *bundle; /* NULL: the disk alone */
  uint32_t generation;      /* to read from it; 0: record into it */
  const char *folder; /* of the app: its files are hashed, by their path below
                         it; NULL: none is */
};

/* Before anything is required. Raises on no memory. */
void pl__sources_install(struct lua_State *L);
/* A C function: core.is_source(path) -> whether it can be loaded. */
int pl__sources_exists(struct lua_State *L);

#endif /* PL_VM_SOURCES_H */
