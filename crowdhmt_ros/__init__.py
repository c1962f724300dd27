# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the best answer coming from a robot's camera while its resources change."""
from __future__ import annotations

import ctypes
from pathlib import Path

__version__ = '0.1.0'


def _preload_interfaces(folder: Path) -> None:
    """
    Bring this package's message libraries into the process.

    An install by pip carries them in `_lib`; rmw later opens them by bare name, which a library of
    that name already in the process satisfies. An install by colcon has no such folder. Without
    the ROS libraries they cannot load, which only code that needs ROS may mind: its own import of
    rclpy says so.

    :param folder: where the libraries lie.
    """
    for library in sorted(folder.glob('*.so')):
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            return


_preload_interfaces(Path(__file__).parent / '_lib')
