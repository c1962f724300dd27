# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The networks on which lower precisions are measured, and the pictures they are calibrated on.

Neither time nor memory hangs on what a network learnt, so the five of the claims are drawn, their
normalisations settled on pictures of the campus. What precision does to right answers is measured
on the trained family that comes with the package.
"""
from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from crowdhmt_ros.bundle.entries import PrecisionFigure
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.bundle.reopen import description_of, family_of
from crowdhmt_ros.bundle.writer import write_bundle
from crowdhmt_ros.campus.scene import independent_scene
from crowdhmt_ros.cli import campus7
from crowdhmt_ros.cli.build_precision import Measured, precisions
from crowdhmt_ros.cli.crossings import prepared
from crowdhmt_ros.elastic.backbones import BACKBONES
from crowdhmt_ros.elastic.export import to_onnx
from crowdhmt_ros.elastic.teaching.images import Images
from crowdhmt_ros.graph.lower import Limits
from crowdhmt_ros.graph.ranges import Given
from crowdhmt_ros.types import InputSpec

NETWORKS: Mapping[str, Tuple[str, Dict[str, Any]]] = {
    'resnet18': ('resnet18', {'edge': 224}), 'resnet34': ('resnet34', {'edge': 224}),
    'vgg16': ('vgg16', {'edge': 224}), 'mobilenet_v2': ('mobilenet_v2', {'edge': 224}),
    'resnet18_32': ('resnet18', {'edge': 32})}
CLASSES = 1000
SETTLED, CALIBRATION, HELD_BACK = 32, 48, 16
TESTED = 16
"""Pictures that nothing is chosen on."""


class Counts(NamedTuple):
    """How many pictures a network is settled, calibrated, lowered and tested on."""

    settled: int = SETTLED
    calibration: int = CALIBRATION
    held_back: int = HELD_BACK
    tested: int = TESTED


COUNTS: Mapping[str, Counts] = {'vgg16': Counts(16, 16, 4, 8)}
"""Where others than usual: a picture takes VGG16 half a second."""
SEED, SCENE_SEED = 20261121, 90211
BANDS = ('noon', 'afternoon')
INPUT, OUTPUT = 'image', 'logits'
FAMILY = 'campus7'
FAMILY_CALIBRATION, FAMILY_HELD_BACK = 256, 800


def scenes(count: int, edge: int, first: int = 0) -> List[NDArray[np.float32]]:
    """Return pictures of the campus as networks take them, (1, 3, edge, edge) each."""
    spec = replace(campus7.input_spec(), shape=(1, 3, edge, edge))
    return [_prepared(independent_scene(SCENE_SEED, i, BANDS[i % len(BANDS)])[0], spec)
            for i in range(first, first + count)]


def _prepared(image: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    size = (spec.shape[3], spec.shape[2])
    enlarged = size[0] > image.shape[1]
    resized = cv2.resize(image, size,
                         interpolation=cv2.INTER_LINEAR if enlarged else cv2.INTER_AREA)
    return prepared(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), spec)


def settled(network: nn.Module, pictures: Sequence[NDArray[np.float32]]) -> nn.Module:
    """Give normalisations the statistics of pictures, as training would."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.train()
    with torch.no_grad():
        for i in range(0, len(pictures), 8):
            network(torch.from_numpy(np.concatenate(pictures[i:i + 8])))
    return network.eval()


def drawn(name: str, settings: Mapping[str, Any], pictures: Sequence[NDArray[np.float32]]
          ) -> onnx.ModelProto:
    """Return a network of the project's own backbones, drawn and settled."""
    torch.manual_seed(SEED)
    network = settled(BACKBONES[name](CLASSES, **settings), pictures)
    return to_onnx(network, torch.zeros(1, 3, settings['edge'], settings['edge']))


def given(pictures: Sequence[NDArray[np.float32]]) -> List[Given]:
    """Return pictures as inputs."""
    return [{INPUT: picture} for picture in pictures]


def saved(model: onnx.ModelProto, path: Path) -> str:
    """Write a model in one file."""
    onnx.save_model(model, str(path))
    return str(path)


def _photos(train: bool, count: int) -> Optional[Images]:
    """Return photos in a drawn order, None where the data is not there."""
    folder = os.environ.get('CROWDHMT_DATA')
    if not folder:
        return None
    found = campus7.photos(Path(folder), train=train)
    order = np.random.default_rng(SEED).permutation(len(found.labels))[:count]
    return Images(found.pixels[order], found.labels[order])


def family_inputs() -> Tuple[List[Given], List[Given], str]:
    """Return inputs to calibrate and to compare the trained family on, and what they are."""
    spec = campus7.input_spec()
    count = FAMILY_CALIBRATION + FAMILY_HELD_BACK
    photos = _photos(True, count // 2)
    rendered = given(scenes(count - (0 if photos is None else len(photos.labels)), campus7.EDGE))
    real = [] if photos is None else [{INPUT: prepared(p, spec)} for p in photos.pixels]
    mixed = [rendered[i] for i in range(len(rendered))] + real
    order = np.random.default_rng(SEED).permutation(len(mixed))
    inputs = [mixed[i] for i in order]
    said = 'scenes alone, since CROWDHMT_DATA is not set' if photos is None else (
        'half training photos, half scenes')
    return inputs[:FAMILY_CALIBRATION], inputs[FAMILY_CALIBRATION:], said


def family_tests(count: int) -> Tuple[List[Given], NDArray[np.int64], str]:
    """Return inputs and labels that nothing was chosen on: test photos, else other scenes."""
    photos = _photos(False, count)
    spec = campus7.input_spec()
    if photos is not None:
        return ([{INPUT: prepared(p, spec)} for p in photos.pixels],
                np.asarray(photos.labels, np.int64), 'test photos')
    labels = np.array([independent_scene(SCENE_SEED, i, BANDS[i % len(BANDS)])[1]
                       for i in range(10000, 10000 + count)], np.int64)
    return given(scenes(count, campus7.EDGE, 10000)), labels, 'scenes'


def family_in_int8(folder: Path, only: Sequence[str] = ()) -> Tuple[Bundle, Measured, str]:
    """
    Write the trained family with its variants in int8.

    :param only: of its variants, all when empty
    :returns: the bundle, what was measured, and what it was calibrated on
    """
    plain = open_bundle(FAMILY)
    family = family_of(plain)
    if only:
        family = replace(family, graphs=tuple(
            g for g in family.graphs if g.variant_id in only))
    calibration, held_back, said = family_inputs()
    found = precisions(family, calibration, held_back, Limits(), lambda done, total: None)
    chosen = {g.variant_id for g in family.graphs}
    described = description_of(plain)
    write_bundle(family, replace(
        described, accuracy={v: a for v, a in described.accuracy.items() if v in chosen},
        crossings=tuple(c for c in described.crossings if c.variant_id in chosen),
        precisions=found.figures), folder / 'family', lowered=found.lowered)
    return open_bundle(folder / 'family'), found, said


def int8_figure(bundle: Bundle, variant_id: str) -> Optional[PrecisionFigure]:
    """Return what int8 costs a variant, None where it has none."""
    return bundle.precision_figure(variant_id, 'int8')
