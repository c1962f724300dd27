# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The model-adaptive engine: fastest engine per segment, instant switching, memory as asked.

Each part is a module `_engine_PART` with its CLAIMS and `figures(quick)`.
"""
from __future__ import annotations

import argparse
import importlib
import os
from typing import List

from benchmarks import parts
from crowdhmt_ros.cli.figures import HIGHER, Figure

PARTS = ('peers', 'precision', 'overhead', 'neighbours', 'ladder', 'fusion', 'switching', 'memory',
         'budget', 'extreme', 'camera', 'absent')


def run(options: argparse.Namespace) -> List[Figure]:
    """
    Measure every figure of the parts asked for, all by default.

    :raises ConfigError: unknown part
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before torch or ncnn is imported
    return [figure for name in parts.chosen('engine', PARTS, options.only)
            for figure in measured(name, options.quick)]


def measured(name: str, quick: bool) -> List[Figure]:
    """Return the figures of a part; its claims, not held, with the reason where it failed."""
    def make() -> List[Figure]:
        found: List[Figure] = importlib.import_module('benchmarks._engine_' + name).figures(quick)
        return found
    return parts.measured(make, lambda: claims_of(name))


def claims_of(name: str) -> parts.Claims:
    """
    Return the claims of a part with their targets.

    A part whose libraries are missing cannot say: then it falls short under its own name.
    """
    try:
        claims: parts.Claims = importlib.import_module('benchmarks._engine_' + name).CLAIMS
    except ImportError:
        return {name: (1.0, HIGHER)}
    return claims
