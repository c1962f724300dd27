# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the training bench claims: every target once, apart from the parts that measure.

A part that cannot be measured, or not even imported, falls short in each of its claims.
"""
from __future__ import annotations

from typing import Dict, Optional

from benchmarks.parts import Claims, Target
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim

CLAIMS: Dict[str, Claims] = {
    'gap': {'recycle_gap_mean_pt': (0.5, LOWER), 'recycle_gap_max_pt': (1.5, LOWER),
            'training_cost_ratio': (0.40, LOWER)},
    'random': {'cifar100_backbone_accuracy': (0.68, HIGHER),
               'largest_member_lost_pt': (0.5, LOWER),
               'cifar100_loss_pt_at_4x': (3.0, LOWER), 'cifar100_loss_pt_at_10x': (8.0, LOWER),
               'random_variants_near_front': (0.9, HIGHER)},
    'full_width': {'cifar100_full_backbone_accuracy': (0.762, HIGHER),
                   'cifar100_full_loss_pt_at_4x': (1.5, LOWER),
                   'cifar100_full_loss_pt_at_10x': (4.0, LOWER)},
    'exits': {'exit_speedup': (1.3, HIGHER)},
    'fronts': {'reevaluated_diff_pt': (0.1, LOWER),
               'har_accuracy': (0.94, HIGHER), 'har_accuracy_worst': (0.88, HIGHER),
               'har_loss_pt_at_8x_macs': (4.0, LOWER),
               'esc10_accuracy': (0.80, HIGHER), 'esc10_loss_pt_at_8x_macs': (6.0, LOWER)},
    'baselines': {'baseline_margin_pt': (1.0, HIGHER), 'baseline_margin_ofa_pt': (0.0, HIGHER)},
    'campus7': {'campus7_photos_richest': (0.86, HIGHER),
                'campus7_photos_leanest': (0.78, HIGHER),
                'campus7_scenes_change_pt/noon': (0.0, HIGHER),
                'campus7_scenes_change_pt/afternoon': (0.0, HIGHER),
                'campus7_scenes_change_pt/dusk': (0.0, HIGHER)}}
"""Part -> key of a figure -> its target, and which side of it is better."""
WHOLE: Claims = {'bench_training_minutes': (30.0, LOWER)}
"""Of all parts together."""
RETRAINED: Claims = {'retrained_diff_pt': (1.0, LOWER)}
_TARGETS: Dict[str, Target] = {
    key: target for claims in (*CLAIMS.values(), WHOLE, RETRAINED)
    for key, target in claims.items()}


def held(key: str, value: Optional[float], *, how: str, also: bool = True) -> Figure:
    """
    Return the figure of a claim.

    :param value: None where it could not be measured
    :param how: one line: what was measured, over how much
    :param also: a further condition for it to hold
    """
    target, better = _TARGETS[key]
    return claim(key, value, target, better=better, how=how, also=also)
