"""A folder in which each opening of a file hangs, as on a disk that does not answer.

The kernel asks us (fanotify, FAN_OPEN_PERM) whether a file may be opened, and we say
nothing. All go on once this process ends. Needs CAP_SYS_ADMIN: exits 2 without.
"""

import ctypes
import os
import signal
import sys

FAN_CLASS_CONTENT, FAN_MARK_ADD = 0x04, 0x01
FAN_OPEN_PERM, FAN_EVENT_ON_CHILD = 0x00010000, 0x08000000
AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
libc.fanotify_mark.argtypes = [
    ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]

fd = libc.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY)
if fd < 0 or libc.fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_EVENT_ON_CHILD,
                                AT_FDCWD, os.fsencode(sys.argv[1])):
    sys.exit(2)
print("hanging", flush=True)
signal.pause()
