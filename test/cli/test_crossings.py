# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the way to a peer costs, measured."""
from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.bundle.reader import Bundle, open_bundle  # noqa: E402
from crowdhmt_ros.cli import crossings  # noqa: E402
from crowdhmt_ros.cli.crossings import measure_crossings, prepared, thin  # noqa: E402
from crowdhmt_ros.elastic.teaching.images import Images  # noqa: E402
from crowdhmt_ros.offload.codec import encode_image  # noqa: E402
from crowdhmt_ros.vision.preprocess import Preprocessor  # noqa: E402

RNG = np.random.default_rng(5)
SETS = {band: Images(RNG.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8), np.arange(3))
        for band in ('noon', 'dusk')}


@pytest.fixture(scope='module')
def bundle():
    return open_bundle('campus7')


@pytest.fixture(scope='module')
def figures(bundle, tmp_path_factory):
    return measure_crossings(bundle, SETS, tmp_path_factory.mktemp('cache'), lambda *_: None)


def test_every_variant_gets_the_frame_and_each_cut_under_each_codec(bundle, figures):
    assert {(f.variant_id, f.cut_id, f.codec) for f in figures} == {
        (f.variant_id, f.cut_id, f.codec) for f in bundle.crossings}
    assert len(figures) == len(bundle.crossings)
    assert {f.count for f in figures} == {6}


def test_bytes_are_those_of_the_codecs(bundle, figures):
    frames = [p for images in SETS.values() for p in images.pixels]
    sent = np.mean([len(encode_image(np.ascontiguousarray(p[..., ::-1]))) for p in frames])
    for figure in figures:
        if figure.codec == 'jpeg':
            assert figure.bytes_mean == pytest.approx(sent)
        elif figure.codec == 'fp16':
            (tensor,) = bundle.manifest.cuts[figure.cut_id].tensors
            assert figure.bytes_mean == 2 * math.prod(tensor.shape)


def test_the_loss_is_a_difference_on_the_same_scenes(figures):
    for figure in figures:
        assert (figure.accuracy_drop * 6) == pytest.approx(round(figure.accuracy_drop * 6))
        if figure.codec == 'fp16':
            assert figure.accuracy_drop == 0.0


def test_a_head_in_whole_numbers_is_not_taken_for_the_one_in_fp32(bundle, monkeypatch):
    entries = {}
    for name, entry in bundle.manifest.segments.items():
        entries[name] = entry
        if entry.role in ('head', 'tail'):  # behind it, as bundles once carried them
            entries[name + '-int8'] = replace(entry, segment_id=name + '-int8', precision='int8')
    both = Bundle(bundle.directory, replace(bundle.manifest, segments=entries))
    monkeypatch.setattr(crossings, '_session', lambda path: path)
    segments = {name: SimpleNamespace(path=name) for name in entries}
    for variant_id in both.manifest.front:
        for head, tail, _ in crossings._graphs(both, variant_id, segments).parts.values():
            assert not head.endswith('-int8')
            assert not tail.endswith('-int8')


def test_images_are_prepared_as_on_the_robot(bundle):
    pixels = SETS['noon'].pixels[0]
    out = np.zeros(bundle.input.shape, np.float32)
    Preprocessor(bundle.input).into(np.ascontiguousarray(pixels[..., ::-1]), out)
    np.testing.assert_allclose(prepared(pixels, bundle.input), out, atol=1e-5)


def test_thinned_scenes_are_the_first_ones():
    few = thin(SETS['noon'], 2)
    assert len(few.labels) == 2
    assert np.array_equal(few.pixels, SETS['noon'].pixels[:2])
