# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which operators learn on which backbone: short trainings on real photos, windows and sounds.

One epoch trains the backbone and the forms are derived from it. From there each phase trains its
operators, which take turns, for half an epoch. An operator works where the loss of its own
variant - it alone, in every stage that offers it, in its harshest form - falls during its phase,
on the same 256 of the inputs that were trained on: so short a training shows that an operator
learns, not what it generalises to. The loss is the phase's own: for forms the distance from the
backbone's answers, for the others that and the labels' cross entropy; the backbone that is the
teacher stays the one from before.
"""
from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from crowdhmt_ros.datasets import open_dataset
from crowdhmt_ros.elastic.backbones import BACKBONES, example_input
from crowdhmt_ros.elastic.make_elastic import Elastic, make_elastic
from crowdhmt_ros.elastic.operators.table import OPERATORS
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.batches import MemoryBatches
from crowdhmt_ros.elastic.teaching.phases import PHASES
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.teaching.trainer import Trainer
from crowdhmt_ros.elastic.transformation import transform
from crowdhmt_ros.types import Variant

logger = logging.getLogger(__name__)
FINE = 0.25
"""Share of the backbone's learning rate in the phases behind it."""
Arrays = Tuple[NDArray[np.float32], NDArray[np.int64]]
EVERY_ETA = (1, 2, 3, 4, 5, 6)
MEASURED, INPUTS = 256, 640
SEEN = 10
"""Batches from which forms are derived, before the phases and in one of them alike."""
TURNS, FORM_TURNS = 2, 5
"""Operators that have their turn in each step; forms leave the backbone out, and are many."""


@dataclass(frozen=True)
class Case:
    """
    One backbone with its data.

    :param backbone: a key of `BACKBONES`
    :param data: 'photos', 'windows' or 'sounds'
    :param options: of the backbone
    :param learning_rate: peak
    :param batch_size: inputs per step
    """

    backbone: str
    data: str
    options: Mapping[str, Any]
    learning_rate: float = 0.002
    batch_size: int = 16


CASES_2D = (
    Case('resnet18', 'photos', {'width': 16, 'edge': 32}),
    Case('resnet34', 'photos', {'width': 16, 'edge': 32}),
    Case('vgg16', 'photos', {'width': 16, 'edge': 32}),
    Case('mobilenet_v2', 'photos', {'width_multiplier': 0.5, 'edge': 32}),
    Case('spectrogram_cnn', 'sounds', {'width': 16, 'mels': 64, 'frames': 128}, batch_size=8),
)
CASES_OTHER = (
    Case('motion_cnn', 'windows', {'width': 16}),
    Case('vision_transformer', 'photos', {'width': 64, 'depth': 4}, 0.002),
)


@dataclass(frozen=True)
class Worked:
    """
    What an operator did on a backbone.

    :param eta: its category
    :param before: loss of its variant before its phase, None where it does not apply
    :param after: behind it
    :param reason: why it does not apply, '' where it does
    """

    eta: int
    before: Optional[float] = None
    after: Optional[float] = None
    reason: str = ''

    @property
    def works(self) -> bool:
        """Whether the loss fell."""
        return self.before is not None and self.after is not None and self.after < self.before


def operators_working(data: Path, cases: Sequence[Case] = (*CASES_2D, *CASES_OTHER), *,
                      say: Callable[[str], None] = logger.info) -> Dict[str, Dict[str, Worked]]:
    """
    Train each backbone shortly and see which operators learn.

    :param data: folder with the photos, windows and sounds
    :param say: takes a line per backbone
    :returns: backbone -> operator -> what it did
    """
    sources = {name: load(data) for name, load in _SOURCES.items()
               if any(case.data == name for case in cases)}
    found = {}
    for case in cases:
        began_s = time.monotonic()
        found[case.backbone] = _try(case, sources[case.data])
        say('%s: eta %s of 1 to 6 work, %.0f s' % (
            case.backbone, ', '.join(map(str, etas_working(found[case.backbone]))),
            time.monotonic() - began_s))
    return found


def etas_working(worked: Mapping[str, Worked]) -> List[int]:
    """List the categories of which some member applies, and every one that applies works."""
    applied = {eta: [w for w in worked.values() if w.eta == eta and not w.reason]
               for eta in EVERY_ETA}
    return [eta for eta, members in applied.items()
            if members and all(w.works for w in members)]


def _try(case: Case, train: Arrays) -> Dict[str, Worked]:
    torch.manual_seed(0)
    classes = int(train[1].max()) + 1
    elastic = make_elastic(BACKBONES[case.backbone](classes, **case.options),
                           example_input(case.backbone, **case.options))
    net = elastic.net
    _train(net, train, case, _plan('backbone', case))
    part: Arrays = (train[0][:len(train[1]) // 2], train[1][:len(train[1]) // 2])
    same: Arrays = (part[0][:MEASURED], part[1][:MEASURED])
    transform(net, MemoryBatches(*part).unvaried(SEEN, case.batch_size, 0))
    start = {name: value.clone() for name, value in net.state_dict().items()}
    found = {name: Worked(operator.eta, reason=_reason(elastic, name))
             for name, operator in OPERATORS.items()}
    for name in ('transformation', 'distillation', 'mutation'):
        net.load_state_dict(start)
        found.update(_phase(net, case, name, part, same))
    return found


def _phase(net: Supernet, case: Case, name: str, train: Arrays, same: Arrays
           ) -> Dict[str, Worked]:
    """Train one phase and measure its operators before and behind it."""
    plan = _plan(name, case)
    phase = PHASES[name](net, plan, Recipe((plan,)))
    tried = {o: _harshest(net, phase.sampler, o) for o in phase.sampler.operators}
    teacher = F.softmax(_answers(net, net.whole(), same), 1)

    def losses() -> Dict[str, float]:
        return {o: float(phase.variant_loss([_answers(net, v, same)], [teacher],
                                            torch.from_numpy(same[1]))) for o, v in tried.items()}

    before = losses()
    _train(net, train, case, plan)
    after = losses()
    return {o: Worked(OPERATORS[o].eta, before[o], after[o]) for o in tried}


def _plan(name: str, case: Case) -> PhaseRecipe:
    gentler = 1.0 if name == 'backbone' else FINE
    turns = FORM_TURNS if name == 'transformation' else TURNS
    return PhaseRecipe(name, 1, gentler * case.learning_rate, variants=turns, hard_share=0.7)


def _train(net: Supernet, train: Arrays, case: Case, plan: PhaseRecipe) -> None:
    recipe = Recipe((plan,), case.batch_size, 'adamw', transformation_batches=SEEN)
    Trainer(net, recipe, MemoryBatches(*train), seed=1).run()


@torch.no_grad()
def _answers(net: Supernet, variant: Variant, same: Arrays) -> torch.Tensor:
    """Return the scores of a variant's last exit, normalised by this one batch."""
    net.eval()
    scores: torch.Tensor = net(torch.from_numpy(same[0]), variant, every_exit=False)[-1]
    return scores


def _harshest(net: Supernet, sampler: Sampler, operator: str) -> Variant:
    """Return the operator's cheapest variant: the one with most to learn."""
    count = max(map(len, sampler.offers[operator]))
    return min((sampler.alone(operator, number) for number in range(count)),
               key=lambda variant: net.plan(variant).macs)


def _reason(elastic: Elastic, operator: str) -> str:
    """Return the commonest reason why an operator was left out."""
    said = [a.reason for a in elastic.left_alone if a.what == operator]
    return max(set(said), key=lambda r: (said.count(r), r)) if said else 'no stage offers it'


def _photos(data: Path) -> Arrays:
    """Some photos of CIFAR-10, for a network that takes 32 pixels."""
    opened = open_dataset(data / 'cifar10_train5k.npz', split='train', check='none')
    pixels, labels = opened.take(range(INPUTS))
    values = (pixels.astype(np.float32) / 255.0 - 0.47) / 0.26
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)), labels


def _windows(data: Path) -> Arrays:
    """Some inertial windows of many subjects."""
    opened = open_dataset(data / 'har_train21.npz', split='train', check='none')
    rows = np.random.default_rng(0).permutation(len(opened))[:INPUTS]
    windows, labels = opened.take([int(row) for row in rows])
    values = windows / windows.std((0, 1), keepdims=True)
    return np.ascontiguousarray(values.transpose(0, 2, 1)).astype(np.float32), labels


def _sounds(data: Path) -> Arrays:
    """Log-mel spectrograms of ESC-10, the first 128 frames."""
    opened = open_dataset(data / 'esc10_16k_folds1-3.npz', split='train', check='none')
    clips, labels = opened.take(range(len(opened)))
    values = (clips[..., :128] - clips.mean()) / clips.std()
    return np.ascontiguousarray(values).astype(np.float32), labels


_SOURCES: Dict[str, Callable[[Path], Arrays]] = {
    'photos': _photos, 'windows': _windows, 'sounds': _sounds}
