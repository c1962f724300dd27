# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the elastic bench: which operators learn on which backbone.

Short trainings on real photos, windows and sounds. One epoch trains the backbone, and the forms
are derived from it. From there each operator's variant - the operator alone, in its harshest
choice, in every stage that offers it - is trained by itself for two epochs on the labels. The
operator works where its loss, over the inputs that it is trained on, falls: so short a training
shows that an operator learns, not what it generalises to.
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
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.transformation import transform
from crowdhmt_ros.types import Variant

logger = logging.getLogger(__name__)
Arrays = Tuple[NDArray[np.float32], NDArray[np.int64]]
Batch = Tuple[torch.Tensor, torch.Tensor]
EVERY_ETA = (1, 2, 3, 4, 5, 6)
INPUTS = 640
EPOCHS, SEED = 2, 1


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
    :param before: loss of its variant before its training, None where it does not apply
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
    torch.manual_seed(SEED)
    classes = int(train[1].max()) + 1
    elastic = make_elastic(BACKBONES[case.backbone](classes, **case.options),
                           example_input(case.backbone, **case.options))
    net = elastic.net
    batches = [(torch.from_numpy(train[0][i:i + case.batch_size]),
                torch.from_numpy(train[1][i:i + case.batch_size]))
               for i in range(0, len(train[1]) - case.batch_size + 1, case.batch_size)]
    _taught(net, net.whole(), batches, case, epochs=1)
    transform(net, [x for x, _ in batches])
    start = {name: value.clone() for name, value in net.state_dict().items()}
    sampler = Sampler(net, EVERY_ETA)
    found = {}
    for name, operator in OPERATORS.items():
        if name not in sampler.operators:
            found[name] = Worked(operator.eta, reason=_reason(elastic, name))
            continue
        net.load_state_dict(start)
        variant = _harshest(net, sampler, name)
        before = _loss(net, variant, batches)
        _taught(net, variant, batches, case, epochs=EPOCHS)
        found[name] = Worked(operator.eta, before, _loss(net, variant, batches))
    return found


def _taught(net: Supernet, variant: Variant, batches: Sequence[Batch], case: Case, *,
            epochs: int) -> None:
    """Train one variant on the labels."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), case.learning_rate)
    rng = np.random.default_rng(SEED)
    for _ in range(epochs):
        for index in rng.permutation(len(batches)):
            x, labels = batches[index]
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x, variant, every_exit=False)[-1], labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@torch.no_grad()
def _loss(net: Supernet, variant: Variant, batches: Sequence[Batch]) -> float:
    """Return the mean loss over all inputs, each batch normalised by itself."""
    net.eval()
    return float(np.mean([float(F.cross_entropy(net(x, variant, every_exit=False)[-1], labels))
                          for x, labels in batches]))


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
