# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Freed memory goes back to the system (glibc).

An engine that is let go of frees tens of megabytes, of which the allocator keeps what lies below
something that is still in use: each switch would leave a little more, and in each corner that the
allocator opens for another thread anew.
"""
from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, Callable, Optional, Type

_ARENA_MAX = -8
"""As mallopt knows it."""


def share_arena() -> bool:
    """
    Let threads that start from now on allocate in one place; for the whole process.

    Engines allocate when they are made, hardly ever when they run: threads do not wait.

    :returns: whether the C library can do that
    """
    found = _function('mallopt', ctypes.c_int, ctypes.c_int)
    return found is not None and bool(found(_ARENA_MAX, 1))


def trim() -> bool:
    """
    Give freed memory back; milliseconds, in which other threads go on.

    :returns: whether the C library can do that
    """
    found = _function('malloc_trim', ctypes.c_size_t)
    if found is None:
        return False
    found(0)
    return True


@lru_cache(maxsize=8)
def _function(name: str, *takes: Type[Any]) -> Optional[Callable[..., int]]:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # another C library than glibc
        return None
    function.argtypes, function.restype = list(takes), ctypes.c_int
    found: Callable[..., int] = function
    return found
