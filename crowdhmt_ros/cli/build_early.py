# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Variants of a bundle that stop at the first exit that is sure: which ones, and how good."""
from __future__ import annotations

from typing import Callable, Dict, Mapping

import numpy as np
import torch

from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.tasks.cascade import Cascade, cascade_of, steps_of
from crowdhmt_ros.tasks.material import Labelled
from crowdhmt_ros.types import Variant

SUFFIX = 'x'
"""Of the name of a variant, for the one that stops early in it."""
ROUNDS = 60
"""Turns of each session that is timed."""
Progress = Callable[[int, int], None]


def early_variants(net: Supernet, variants: Mapping[str, Variant], statistics: Statistics,
                   values: torch.Tensor, labels: torch.Tensor, *, half: bool, progress: Progress
                   ) -> Dict[str, Cascade]:
    """
    Choose thresholds for each variant that has early exits, and keep those that they make faster.

    :param variants: name -> variant
    :param values: inputs that thresholds are chosen on, (n, ...)
    :param labels: their classes
    :param half: store weights of several axes in float16
    :returns: name -> cascade; the names are those of the variants with `SUFFIX`
    :raises DataError: there are no inputs
    """
    found: Dict[str, Cascade] = {}
    for number, (name, variant) in enumerate(variants.items(), 1):
        if variant.exit_index:
            own = _free(name + SUFFIX, variants)
            cascade = cascade_of(net, variant, statistics, Labelled(values, labels),
                                 variant_id=own, half=half, rounds=ROUNDS)
            if cascade.early_exits:
                found[own] = cascade
        progress(number, len(variants))
    return found


def _free(name: str, taken: Mapping[str, Variant]) -> str:
    while name in taken:
        name += SUFFIX
    return name


def accuracy_of(cascade: Cascade, values: torch.Tensor, labels: torch.Tensor) -> float:
    """
    Measure how often a cascade is right, answering step by step through ONNX Runtime.

    :param values: inputs, float32 (n, ...)
    :param labels: (n,)
    """
    runs, stops = steps_of(cascade)
    answers = [int(runs.answer(v[None], stops)[1].argmax()) for v in values.numpy()]
    return float(np.mean(np.array(answers) == labels.numpy()))
