"""Memory that learning needs again and again, kept instead of handed back.

An update on processors makes and drops hundreds of arrays of tens of MB. glibc asks the system for
each of them and hands it back, and the system clears it anew, 4 KB at a time: seven million page
faults a minute with PyTorch, and a fifth of all processor time in the system.
Not here: what a graphics card does with its own memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h
_GROWS_BY = 256 << 20
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14  # linux/mman.h


def keep() -> bool:
    """Have this process keep the memory it frees, and take it in pages of 2 MB where it may.

    Of the machine's memory half may be in such pages. It holds until the process ends, which
    then holds as much as it once needed.

    Returns
    -------
    whether the C library is one that can be told so (glibc)
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # other libraries have none
    except (AttributeError, OSError, TypeError):
        return False
    for what, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _GROWS_BY)):
        libc.mallopt(what, value)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    # Addresses only: nothing is taken before it is written to. What follows comes out of them.
    if block := libc.malloc(size):
        first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(first, (block + size - first) // mmap.PAGESIZE * mmap.PAGESIZE, _MADV_HUGEPAGE)
        libc.free(block)
    return True
