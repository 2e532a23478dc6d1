"""Keep the memory that tensors give back: on a CPU, fresh pages can cost more than the arithmetic done on them."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory instead of giving it back to the system; does nothing elsewhere.

    Each pass of a network allocates and frees the same large tensors. By default glibc maps fresh pages for each, which
    the system has to clear. For processes of our own: a library must not change how its caller's memory is managed.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has no such option
        return
    set_option(_M_MMAP_THRESHOLD, _LARGEST)
    set_option(_M_TRIM_THRESHOLD, _LARGEST)
