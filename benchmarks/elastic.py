# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Elastic models: six operators on any network, thousands of variants, one bundle."""
from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping

from benchmarks import parts
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.errors import DataError

if TYPE_CHECKING:
    from benchmarks._elastic_operators import Worked

OPERATORS: Dict[str, int] = {
    'resnet18': 6, 'resnet34': 6, 'vgg16': 6, 'mobilenet_v2': 6, 'spectrogram_cnn': 6}
"""Backbones on images, or on what is like them -> how many of eta1..eta6 must work."""
OTHERS = ('motion_cnn', 'vision_transformer')
"""Backbones on which operators must work or say why they do not apply."""
QUICK_BACKBONES = ('resnet18', 'motion_cnn')
WORKING, KILLED, RANKS = 'operators_working/%s', 'killed_run_identical', 'ranks_relative_diff'
RANKS_TARGET = 1e-4


def _structure(quick: bool) -> List[Figure]:
    from benchmarks._elastic_structure import structure_figures
    return structure_figures(quick=quick)


def _operators(quick: bool) -> List[Figure]:
    from benchmarks._elastic_operators import CASES_2D, CASES_OTHER, operators_working
    cases = [c for c in (*CASES_2D, *CASES_OTHER) if not quick or c.backbone in QUICK_BACKBONES]
    found = operators_working(_data(), cases, say=parts.say)
    return [_working(name, worked) for name, worked in found.items()]


def _working(name: str, worked: Mapping[str, Worked]) -> Figure:
    """Count the categories of which every member that applies learns."""
    from benchmarks._elastic_operators import EVERY_ETA, etas_working
    applied = {w.eta for w in worked.values() if not w.reason}
    losses = ['%s %.3g to %.3g' % (o, w.before, w.after) for o, w in worked.items()
              if w.before is not None and w.after is not None]
    reasons = ['%s: %s' % (o, w.reason) for o, w in worked.items() if w.reason]
    return claim(WORKING % name, len(etas_working(worked)),
                 OPERATORS.get(name, max(1, len(applied))), better=HIGHER,
                 how='of eta1 to eta%d; loss before and after: %s%s' % (
                     len(EVERY_ETA), ', '.join(losses),
                     '; left out: ' + '; '.join(reasons) if reasons else ''))


def _training(quick: bool) -> List[Figure]:
    from benchmarks._elastic_training import KILLS, killed_run_identical, ranks_agree

    def killed() -> List[Figure]:
        found = killed_run_identical()
        return [claim(KILLED, float(found['identical']), 1.0, better=HIGHER,
                      how='killed with SIGKILL %d times, after steps %s (seed %d): %d tensors '
                      'bit by bit as of a run that was not' % (
                          KILLS, found['killed_after_steps'], found['kill_seed'],
                          found['tensors']))]

    def ranks() -> List[Figure]:
        found = ranks_agree()
        return [claim(RANKS, found['max_relative_diff'], RANKS_TARGET, better=LOWER,
                      how='two gloo ranks against one with the doubled batch after %d steps, '
                      'largest over %d tensors that moved: %s' % (
                          found['steps'], found['tensors_trained'], found['worst']))]

    return [*parts.tried((KILLED,), TRAINING, killed), *parts.tried((RANKS,), TRAINING, ranks)]


def _search(quick: bool) -> List[Figure]:
    from benchmarks._elastic_search import (
        search_figures,
        switch_back_identical,
        variants_distinct,
    )
    figures = [variants_distinct(), switch_back_identical()]
    if quick:
        return [*figures, inform('search', None, how='not part of a quick run')]
    return [*figures, *parts.tried(
        SEARCHED, SEARCH, lambda: search_figures(_data(), say=parts.say))]


def _transform(quick: bool) -> List[Figure]:
    from benchmarks._elastic_transform import figures_of, measure_one, test_models
    models = test_models()[::4 if quick else 1]
    return figures_of([measure_one(name, model) for name, model in models])


def _bundle(quick: bool) -> List[Figure]:
    from benchmarks._elastic_bundle import bundle_figures
    return bundle_figures(quick=quick)


def _zero_shot(quick: bool) -> List[Figure]:
    from benchmarks._elastic_zero_shot import zero_shot_figures
    return zero_shot_figures(quick=quick)


PARTS: Dict[str, Callable[[bool], List[Figure]]] = {
    'structure': _structure, 'operators': _operators, 'training': _training, 'search': _search,
    'transform': _transform, 'bundle': _bundle, 'zero_shot': _zero_shot}
TRAINING: Dict[str, parts.Target] = {KILLED: (1.0, HIGHER), RANKS: (RANKS_TARGET, LOWER)}
SEARCHED = ('search_space_ratio', 'front_hypervolume_ratio')
SEARCH: Dict[str, parts.Target] = {
    'variants_distinct': (10_000, HIGHER), 'switch_back_identical': (1.0, HIGHER),
    'search_space_ratio': (0.05, LOWER), 'front_hypervolume_ratio': (0.98, HIGHER)}
CLAIMS: Dict[str, parts.Claims] = {
    'operators': {**{WORKING % name: (etas, HIGHER) for name, etas in OPERATORS.items()},
                  **{WORKING % name: (1, HIGHER) for name in OTHERS}},
    'training': TRAINING, 'search': SEARCH}
"""Part -> its claims with their targets; the other parts' modules state theirs as CLAIMS."""


def run(options: argparse.Namespace) -> List[Figure]:
    """
    Measure every figure of the parts asked for, all by default.

    :raises ConfigError: unknown part
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before torch is imported
    return [figure for name in parts.chosen('elastic', tuple(PARTS), options.only)
            for figure in measured(name, options.quick)]


def measured(name: str, quick: bool) -> List[Figure]:
    """Return the figures of a part; its claims, not held, with the reason where it failed."""
    return parts.measured(lambda: PARTS[name](quick), lambda: claims_of(name))


def claims_of(name: str) -> parts.Claims:
    """
    Return the claims of a part with their targets.

    A part whose libraries are missing cannot say: then it falls short under its own name.
    """
    if name in CLAIMS:
        return CLAIMS[name]
    try:
        claims: parts.Claims = importlib.import_module('benchmarks._elastic_' + name).CLAIMS
    except ImportError:
        return {name: (1.0, HIGHER)}
    return claims


def _data() -> Path:
    """
    Return the folder with the data sets.

    :raises DataError: none is named, or it lacks one
    """
    named = os.environ.get('CROWDHMT_DATA')
    if not named:
        raise DataError('no data: set CROWDHMT_DATA to the folder that has the archives')
    return Path(named)
