/* vm/cdef.h - the text that Lua gives to ffi.cdef.
 *
 * The build makes it (vm/cdef.cmake) of what lies between the cdef marks of
 * base/slice.h, http/request.h and vm/ffi.h, so that C and Lua cannot see two
 * layouts.  Knows no Lua state: vm/bind_core.c hands the text over.
 */
#ifndef PL_VM_CDEF_H
#define PL_VM_CDEF_H

/* NUL-terminated C declarations without preprocessor lines; static. */
extern const char pl__cdef_text[];

#endif /* PL_VM_CDEF_H */
