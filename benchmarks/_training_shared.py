# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What several parts of the training bench need, opened or measured once in a run of it.

To open CIFAR-100 takes longer than to judge a family on it.
"""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np

from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.material import Labelled, Material, open_material
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.types import Variant

MOST_OPEN = 4
"""Materials in memory: two tasks by two seeds, 1 GiB of CIFAR-100."""
_KNOWN: Dict[Tuple[str, str, Variant], float] = {}
_OPEN: Dict[str, Material] = {}


def material_for(task: Task, data: Path, *, held_out: Sequence[str] = (), seed: int = 0
                 ) -> Material:
    """
    Open a task's data, or give what another task of the same data and inputs opened.

    :param held_out: folds or subjects of the test part
    :raises DataError: as `open_material`
    :raises ConfigError: likewise
    """
    key = repr((task.data, task.normalisation, task.variation, task.backbone.classes,
                tuple(task.backbone.example().shape[1:]), data, tuple(held_out), seed))
    material = _OPEN.pop(key, None) or open_material(task, data, held_out=held_out, seed=seed)
    _OPEN[key] = material  # the last one used is the last to go
    while len(_OPEN) > MOST_OPEN:
        del _OPEN[next(iter(_OPEN))]
    return material


def reached(sha256: str, net: Supernet, variants: Mapping[str, Variant], statistics: Statistics,
            part: Labelled, *, balanced: bool = False) -> Dict[str, float]:
    """
    Measure a family, but for what was measured of this file on these inputs before.

    :param sha256: of the family's file
    :param part: inputs and labels
    :returns: name -> accuracy
    """
    digest = hashlib.sha256(part.inputs.numpy().tobytes() + part.labels.numpy().tobytes())
    data = digest.hexdigest()
    new = {n: v for n, v in variants.items() if (sha256, data, v) not in _KNOWN}
    if new:
        found = accuracies(net, new, statistics, part, balanced=balanced)
        _KNOWN.update({(sha256, data, new[n]): accuracy for n, accuracy in found.items()})
    return {n: _KNOWN[sha256, data, v] for n, v in variants.items()}


def thinned(part: Labelled, count: int) -> Labelled:
    """Return about so many inputs, evenly from the whole part."""
    if len(part) <= count:
        return part
    chosen = np.linspace(0, len(part) - 1, count).round().astype(int)
    return Labelled(part.inputs[chosen], part.labels[chosen])
