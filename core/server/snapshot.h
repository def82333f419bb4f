/* server/snapshot.h - the Lua files of an app that were not read while it
 * loaded: a handler may require them later, and then gets what was there when
 * its generation was tried.
 */
#ifndef PL_SERVER_SNAPSHOT_H
#define PL_SERVER_SNAPSHOT_H

#include <stdbool.h>

struct pl_bundle;

#define PL_SNAPSHOT_ENTRIES_MAX 4000u     /* looked at, folders too */
#define PL_SNAPSHOT_DEPTH_MAX 8           /* folders in folders */
#define PL_SNAPSHOT_BYTES_MAX (4u << 20)  /* all of them together */
#define PL_SNAPSHOT_FILE_BYTES (1u << 20) /* one of them; else it is left out */

/* Adds every *.lua below `folder` to a bundle that is being written, but for
 * hidden folders, node_modules, spec and test.  What is past a limit, or cannot
 * be read, is left out. */
void pl__snapshot(struct pl_bundle *b, const char *folder);

/* Whether a file or folder of that name, without its path, is none of the app:
 * hidden, node_modules, spec, test. */
bool pl__snapshot_leaves_out(const char *name);

#endif /* PL_SERVER_SNAPSHOT_H */
