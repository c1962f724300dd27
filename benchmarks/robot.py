# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One robot: nothing lost, nothing late, better than any fixed plan, true to its manifest."""
from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from benchmarks import _robot_accuracy, _robot_demo, _robot_switch, _robot_timing
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim
from crowdhmt_ros.errors import ConfigError, CrowdHMTError

BUNDLE = 'campus7'


def demo(options: argparse.Namespace) -> List[Figure]:
    """Return the figures of the default demo and of the best fixed plans."""
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        return _robot_demo.demo_figures(BUNDLE, options.keep.resolve(), quick=options.quick)
    with tempfile.TemporaryDirectory(prefix='crowdhmt-bench-') as folder:
        return _robot_demo.demo_figures(BUNDLE, Path(folder), quick=options.quick)


def accuracy(options: argparse.Namespace) -> List[Figure]:
    """Return accuracy on real photos and on fresh scenes."""
    bundle = open_bundle(BUNDLE)
    return [*_robot_accuracy.photo_figures(bundle, quick=options.quick),
            *_robot_accuracy.live_figures(bundle, BUNDLE, quick=options.quick)]


def overhead(options: argparse.Namespace) -> List[Figure]:
    """Return what the node costs beside the bare engine."""
    return _robot_timing.overhead_figures(BUNDLE, quick=options.quick)


def switch(options: argparse.Namespace) -> List[Figure]:
    """Return how fast a resident plan comes into force."""
    return _robot_switch.switch_figures(BUNDLE, quick=options.quick)


PARTS: Dict[str, Callable[[argparse.Namespace], List[Figure]]] = {
    'demo': demo, 'accuracy': accuracy, 'overhead': overhead, 'switch': switch}
CLAIMS: Dict[str, Dict[str, Tuple[float, str]]] = {
    'demo': {'frames_lost': (0, LOWER), 'late_ratio': (0.01, LOWER),
             'switch_gap_frames_max': (1, LOWER), 'plans_distinct': (3, HIGHER),
             'budget_violation_ratio': (0.05, LOWER),
             'best_static_violations_ratio': (3.0, HIGHER)},
    'accuracy': {'photos_accuracy_rich': (0.80, HIGHER),
                 'photos_accuracy_lean': (0.70, HIGHER),
                 'photos_accuracy_gap': (0.03, HIGHER),
                 'accuracy_live_gap_pt': (2.0, LOWER)},
    'overhead': {'node_overhead_ratio': (_robot_timing.OVERHEAD_BOUND, LOWER)},
    'switch': {'switch_resident_us': (_robot_switch.SWITCH_BOUND_US, LOWER)}}
"""Part -> its claims with their targets: they fall short, too, when the part cannot run."""


def run(options: argparse.Namespace) -> List[Figure]:
    """
    Measure every figure of the parts asked for, all by default.

    :raises ConfigError: unknown part
    """
    unknown = [part for part in options.only if part not in PARTS]
    if unknown:
        raise ConfigError('bench robot has no part %s: choose from %s' % (
            ', '.join(unknown), ', '.join(PARTS)))
    return [figure for name in PARTS if not options.only or name in options.only
            for figure in measured(name, options)]


def measured(name: str, options: argparse.Namespace) -> List[Figure]:
    """Return the figures of a part; its claims, not held, with the reason where it failed."""
    try:
        return PARTS[name](options)
    except (CrowdHMTError, RuntimeError, subprocess.SubprocessError) as error:
        reason = 'not measured: %s' % ' '.join(str(error).split())
        return [claim(key, None, target, better=better, how=reason)
                for key, (target, better) in CLAIMS[name].items()]
