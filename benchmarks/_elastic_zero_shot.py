# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the elastic bench: what parameter transformation alone keeps, without training a variant.

A backbone is trained by itself - no variant ever takes part - on the campus7 photos at their own
32 pixels, transformed with some training images, and its variants are judged on the test photos.
"""
from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch

from crowdhmt_ros.campus.scene import CLASSES
from crowdhmt_ros.cli import campus7
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
from crowdhmt_ros.datasets.campus_photos import load_photos
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.refit import refit
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.operators.table import FORMS
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.images import Images
from crowdhmt_ros.elastic.teaching.mixture import Mixture
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe
from crowdhmt_ros.elastic.teaching.trainer import Trainer
from crowdhmt_ros.elastic.transformation import calibrate, transform
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import OperatorChoice, Variant

LOG = logging.getLogger(__name__)
CLAIMS: Dict[str, Tuple[float, str]] = {
    'zero_shot_svd_lost_pt': (5.0, LOWER), 'zero_shot_channel_lost_pt': (5.0, LOWER)}
EDGE, EPOCHS, PER_EPOCH, PEAK_RATE, SEED = 32, 8, 12000, 0.05, 7
CALIBRATION_BATCHES, BATCH = 8, 256
CHANNEL = OperatorChoice('channel', (('ratio', 0.75),))


def zero_shot_figures(*, quick: bool = False) -> List[Figure]:
    """
    Train a backbone, transform it, and judge the variants.

    :raises DataError: the photos are not at hand
    """
    torch.set_num_threads(os.cpu_count() or 1)
    start = time.monotonic()
    net, batches, test = _trained(1 if quick else EPOCHS)
    trained_s = time.monotonic() - start
    transform(net, batches)
    found = _accuracies(net, batches, test)
    whole = found.pop('whole')
    how = ('balanced accuracy on %d test photos, backbone trained alone in %.0f s: %.3f; '
           % (len(test.labels), trained_s, whole))
    lost = {name: 100.0 * (whole - value) for name, value in found.items()}
    return [
        _claimed('zero_shot_svd_lost_pt', lost.pop('svd 0.5'), how + 'rank 1/2 in every layer'),
        _claimed('zero_shot_channel_lost_pt', lost.pop('refit 0.75'),
                 how + '3/4 of the channels, least-squares re-fit'),
        *(inform('zero_shot_%s_lost_pt' % name.replace(' ', '_'), value, how='points')
          for name, value in sorted(lost.items()))]


def _claimed(key: str, value: float, how: str) -> Figure:
    target, better = CLAIMS[key]
    return claim(key, value, target, better=better, how=how)


def _trained(epochs: int) -> Tuple[Supernet, Sequence[torch.Tensor], Images]:
    named = os.environ.get('CROWDHMT_DATA')
    if not named:
        raise DataError('no photos: set CROWDHMT_DATA to the folder that has them')
    train, test = (_images(Path(named), train) for train in (True, False))
    none = Images(train.pixels[:0], train.labels[:0])
    mixture = Mixture(train, none, PER_EPOCH, 0, (1.0,) * len(CLASSES), campus7.NORMALISATION)
    torch.manual_seed(SEED)
    net = make_elastic(campus7.BACKBONE.build(), campus7.BACKBONE.example()).net
    recipe = Recipe((PhaseRecipe('backbone', epochs, PEAK_RATE, ((0.0, EDGE),)),))
    Trainer(net, recipe, mixture, seed=SEED).run(
        lambda p: LOG.info('%s %d/%d', p.phase, p.epoch + 1, p.epochs), report_steps=50)
    return net, mixture.unvaried(CALIBRATION_BATCHES, BATCH, EDGE), test


def _images(folder: Path, train: bool) -> Images:
    data = load_photos(folder, CLASSES, train=train, size=EDGE)
    pixels, labels = data.take(range(len(data)))
    return Images(np.asarray(pixels, np.uint8), labels)


def _variants(net: Supernet) -> Mapping[str, Variant]:
    """Return the variants that have one choice in all stages."""
    last, stages = len(net.structure.exits) - 1, net.structure.stages
    offered = {name: form.choices(stages[-1], net.structure.units_of(len(stages) - 1))[0]
               for name, form in FORMS.items()}
    chosen = {'svd 0.5': svd(0.5), 'svd 0.25': svd(0.25), 'refit 0.75': refit(),
              'channel 0.75': CHANNEL,
              **{n: c for n, c in offered.items() if n not in ('svd', 'refit')}}
    return {'whole': net.whole(),
            **{name: Variant(((choice,),) * len(stages), last) for name, choice in chosen.items()}}


@torch.no_grad()
def _accuracies(net: Supernet, batches: Sequence[torch.Tensor], test: Images) -> Dict[str, float]:
    variants = _variants(net.eval())
    norms = FixedNorms(calibrate(net, variants.values(), batches))
    found = {}
    for name, variant in variants.items():
        answers = [net(campus7.NORMALISATION.of_pixels(test.pixels[i:i + BATCH]), variant, norms,
                       every_exit=False)[-1].argmax(1).numpy()
                   for i in range(0, len(test.labels), BATCH)]
        right = np.concatenate(answers) == test.labels
        found[name] = float(np.mean([right[test.labels == c].mean()
                                     for c in range(len(CLASSES))]))
    return found
