"""Freed memory: kept for the next tensor while a network computes, and given back to the system afterwards."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of glibc's `mallopt`."""
KEPT = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
"""No block of its own for a large tensor, and nothing given back."""
USUAL = {M_MMAP_MAX: 2**16, M_TRIM_THRESHOLD: 2**26, M_MMAP_THRESHOLD: 2**25}
"""Where glibc's own thresholds end after large blocks were freed; once they are set it moves them no more."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed for the next tensor, and give it back at the end. Without glibc, nothing changes.

    glibc returns a large tensor's memory to the system as soon as it is freed, and the next one of that size has every
    page zeroed again: up to half of the time of a training step. Of two that overlap, the first to end ends both.
    """
    libc = glibc()
    if libc is None:
        yield
        return
    for parameter, value in KEPT.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def release_memory() -> None:
    """Give back what is no longer used, networks in reference cycles too."""
    gc.collect()
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(0)


def glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
