# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pair: a drone computes for the vehicle, and may vanish at any moment."""
from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from benchmarks import (
    _pair_demo,
    _pair_faults,
    _pair_fleet,
    _pair_fuzz,
    _pair_network,
    _pair_overhead,
    _pair_security,
)
from crowdhmt_ros.cli.figures import LOWER, Figure, claim
from crowdhmt_ros.errors import ConfigError, CrowdHMTError

BUNDLE = 'campus7'
Part = Callable[[Path, bool], List[Figure]]

PARTS: Dict[str, Part] = {
    'demo': lambda folder, quick: _pair_demo.demo_figures(BUNDLE, folder, quick=quick),
    'ros': lambda folder, quick: _pair_demo.ros_figures(BUNDLE, folder, quick=quick),
    'faults': lambda folder, quick: _pair_faults.fault_figures(folder / 'faults', quick=quick),
    'network': lambda folder, quick: _pair_network.network_figures(folder, quick=quick),
    'overhead': lambda folder, quick: _pair_overhead.overhead_figures(quick=quick),
    'security': lambda folder, quick: _pair_security.security_figures(quick=quick),
    'fuzz': lambda folder, quick: _pair_fuzz.fuzz_figures(quick=quick),
    'fleet': lambda folder, quick: _pair_fleet.fleet_figures(quick=quick)}
CLAIMS: Dict[str, Dict[str, Tuple[float, str]]] = {
    'demo': _pair_demo.CLAIMS, 'ros': _pair_demo.ROS_CLAIMS, 'faults': _pair_faults.CLAIMS,
    'network': _pair_network.CLAIMS,
    'overhead': {key: (bound, LOWER) for key, _, bound in _pair_overhead.SIZES},
    'security': {'unauthorized_accepted': (0, LOWER), 'unauthorized_uncounted': (0, LOWER)},
    'fuzz': _pair_fuzz.CLAIMS, 'fleet': _pair_fleet.CLAIMS}
"""Part -> its claims with their targets: they fall short, too, when the part cannot run."""


def run(options: argparse.Namespace) -> List[Figure]:
    """
    Measure every figure of the parts asked for, all by default.

    :raises ConfigError: unknown part
    """
    unknown = [part for part in options.only if part not in PARTS]
    if unknown:
        raise ConfigError('bench pair has no part %s: choose from %s' % (
            ', '.join(unknown), ', '.join(PARTS)))
    wanted = [name for name in PARTS if not options.only or name in options.only]
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        return in_folder(wanted, options.keep.resolve(), options.quick)
    with tempfile.TemporaryDirectory(prefix='crowdhmt-bench-') as folder:
        return in_folder(wanted, Path(folder), options.quick)


def in_folder(wanted: List[str], folder: Path, quick: bool) -> List[Figure]:
    """Return the figures of some parts, their recordings in a folder."""
    return [figure for name in wanted for figure in measured(name, folder, quick)]


def measured(name: str, folder: Path, quick: bool) -> List[Figure]:
    """Return the figures of a part; its claims, not held, with the reason where it failed."""
    try:
        return PARTS[name](folder, quick)
    except (CrowdHMTError, RuntimeError, subprocess.SubprocessError) as error:
        reason = 'not measured: %s' % ' '.join(str(error).split())
        return [claim(key, None, target, better=better, how=reason)
                for key, (target, better) in CLAIMS[name].items()]
