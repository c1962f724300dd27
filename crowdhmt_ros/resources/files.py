# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small text files of the kernel: any of them may be absent, unreadable, or nonsense."""
from __future__ import annotations

from pathlib import Path
from typing import Iterable, List, Optional


def read_text(path: Path) -> Optional[str]:
    """Return the stripped text of `path`, None where it cannot be read."""
    try:
        return path.read_text(encoding='utf-8', errors='replace').strip()
    except OSError:
        return None


def read_number(path: Path) -> Optional[float]:
    """Return the number in `path`, None where there is none."""
    text = read_text(path)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def first_number(paths: Iterable[Path]) -> Optional[float]:
    """Return the number in the first of `paths` that holds one."""
    for path in paths:
        value = read_number(path)
        if value is not None:
            return value
    return None


def matches(root: Path, pattern: str) -> List[Path]:
    """Return the paths below `root` that match `pattern`, in order of name."""
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []
