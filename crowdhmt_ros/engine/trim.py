# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Freed memory goes back to the system (glibc).

An engine that is let go of frees tens of megabytes, of which the allocator keeps what lies below
something that is still in use: each switch would leave a little more.
"""
from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Callable, Optional


def trim() -> bool:
    """
    Give freed memory back; milliseconds, in which other threads go on.

    :returns: whether the C library can do that
    """
    found = _malloc_trim()
    if found is None:
        return False
    found(0)
    return True


@lru_cache(maxsize=1)
def _malloc_trim() -> Optional[Callable[[int], int]]:
    try:
        function = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library than glibc
        return None
    function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_int
    found: Callable[[int], int] = function
    return found
