# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One robot: nothing lost, nothing late, better than any fixed plan, true to its manifest."""
from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Callable, Dict, List

from benchmarks import _robot_accuracy, _robot_demo, _robot_timing
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli.figures import Figure
from crowdhmt_ros.errors import ConfigError

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
    return _robot_timing.switch_figures(BUNDLE, quick=options.quick)


PARTS: Dict[str, Callable[[argparse.Namespace], List[Figure]]] = {
    'demo': demo, 'accuracy': accuracy, 'overhead': overhead, 'switch': switch}


def run(options: argparse.Namespace) -> List[Figure]:
    """
    Measure every figure of the parts asked for, all by default.

    :raises ConfigError: unknown part
    """
    unknown = [part for part in options.only if part not in PARTS]
    if unknown:
        raise ConfigError('bench robot has no part %s: choose from %s' % (
            ', '.join(unknown), ', '.join(PARTS)))
    return [figure for name, part in PARTS.items() if not options.only or name in options.only
            for figure in part(options)]
