/* server/modules.h - where our Lua modules lie.
 *
 * Found from the place of the running program, ../share/lua/5.1 beside its
 * folder, so that an installation can be moved.
 */
#ifndef PL_SERVER_MODULES_H
#define PL_SERVER_MODULES_H

#include <stddef.h>

/* Writes the folder that holds perilune/init.lua. 0, or PL_EFAIL when there is
 * none there; `out` then says where it was looked for. */
int pl__modules_folder(char *out, size_t bytes);

#endif /* PL_SERVER_MODULES_H */
