/* base/export.h - what stays visible in the launcher's symbol table.
 *
 * Everything is compiled with hidden visibility.  A function that Lua finds by
 * ffi.C, or that a host program calls, is marked PL_EXPORT at its declaration:
 * it is then kept although no C code of ours calls it.
 */
#ifndef PL_BASE_EXPORT_H
#define PL_BASE_EXPORT_H

#define PL_EXPORT __attribute__((visibility("default"), used))

#endif /* PL_BASE_EXPORT_H */
