"""Memory that a program frees and needs again at once: kept by the process for as long as something lasts.

glibc returns each large block to the system as soon as it is freed, and the system hands out pages again one by one,
filled with zeros. A training step frees and needs again all its feature maps, hundreds of thousands of pages. On
virtual machines, where the first access to a page is expensive, they took up to half of a step; see
docs/performance.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OWN_SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
"""Variables by which people choose this themselves; so does GLIBC_TUNABLES, if it names `glibc.malloc`."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Parameters of mallopt, as malloc.h numbers them."""
_NO_LIMIT = -1
_USUAL_BLOCKS = 65536
"""Number of blocks that glibc takes from the system at most, by default."""
_GROWN_BYTES = 32 * 2**20
"""Size from which on glibc takes a block from the system, in a program that has freed a block of this size once."""


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Let the process keep what it frees, for use by itself, until the block ends; then all of it is returned.

    On other systems than Linux with glibc, and where the environment chooses for itself, nothing is changed.

    Source:
        mallopt(3) and malloc_trim(3) of the Linux manual: without blocks of their own (M_MMAP_MAX 0) large pieces come
        from the heap, which is not shortened (M_TRIM_THRESHOLD -1).
    """
    set_option, trim = _find_functions()
    if set_option is None or trim is None or _has_own_settings():
        yield
        return
    set_option(_MMAP_MAX, 0)
    set_option(_TRIM_THRESHOLD, _NO_LIMIT)
    try:
        yield
    finally:  # what glibc arrives at by itself in a program with large blocks; the start cannot be restored
        set_option(_MMAP_MAX, _USUAL_BLOCKS)
        set_option(_MMAP_THRESHOLD, _GROWN_BYTES)
        set_option(_TRIM_THRESHOLD, 2 * _GROWN_BYTES)
        trim(0)


def _has_own_settings() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(name in os.environ for name in OWN_SETTINGS)


def _find_functions() -> tuple[Callable[[int, int], int] | None, Callable[[int], int] | None]:
    """Return glibc's mallopt and malloc_trim; None where the C library has none."""
    if sys.platform != "linux":
        return None, None
    import ctypes  # torch imports it too

    library = ctypes.CDLL(None)
    return getattr(library, "mallopt", None), getattr(library, "malloc_trim", None)
