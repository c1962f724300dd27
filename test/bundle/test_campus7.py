# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from crowdhmt_ros.bundle.reader import open_bundle

BANDS = ('noon', 'afternoon', 'dusk')


@pytest.fixture(scope='module')
def bundle():
    return open_bundle('campus7')


def test_package_carries_at_most_12_mb(bundle):
    size = sum(p.stat().st_size for p in bundle.directory.rglob('*') if p.is_file())
    assert size <= 12_000_000


def test_front_spans_ten_times_the_work_and_two_exits(bundle):
    macs = [bundle.macs(v) for v in bundle.manifest.front]
    assert len(macs) >= 5
    assert macs[0] >= 10 * macs[-1]
    variants = [bundle.manifest.variants[v].variant for v in bundle.manifest.front]
    assert {v.exit_index for v in variants} == {0, 1}


def test_accuracy_is_stated_per_light_band_on_enough_scenes(bundle):
    for entry in bundle.manifest.variants.values():
        for band in BANDS:
            assert entry.accuracy['scenes/' + band].count >= 3000
        assert entry.accuracy['photos'].count >= 5000


def test_real_photos_are_told_apart(bundle):
    photos = [bundle.accuracy(v)['photos'] for v in bundle.manifest.front]
    assert photos[0] >= 0.86
    assert photos[-1] >= 0.78
    assert photos[0] - photos[-1] >= 0.03


def test_each_light_band_has_its_brightness(bundle):
    assert set(bundle.manifest.luminance_bands) == set(BANDS)


def test_provenance_names_the_command_and_no_folder_of_a_machine(bundle):
    provenance = bundle.manifest.provenance
    assert str(provenance['command']).startswith('crowdhmt train campus7 ')
    assert '"/' not in json.dumps(provenance)


def test_every_variant_may_be_cut_where_little_crosses(bundle):
    frame_bytes = bundle.input.shape[2] * bundle.input.shape[3] * 3
    packed = {(c.variant_id, c.cut_id): c.bytes_mean for c in bundle.crossings
              if c.codec == 'int8'}
    assert {variant_id for variant_id, _ in packed} == set(bundle.manifest.front)
    assert all(size < frame_bytes for size in packed.values())
    assert len(packed) == len(bundle.manifest.cuts)


def test_crossings_are_measured_on_enough_scenes_and_cost_little_accuracy(bundle):
    for variant_id in bundle.manifest.front:
        figures = [c for c in bundle.crossings if c.variant_id == variant_id]
        assert {c.codec for c in figures} == {'jpeg', 'fp16', 'int8'}
        assert all(c.count >= 1500 for c in figures)
        assert all(c.accuracy_drop <= 0.01 for c in figures)
        assert all(abs(c.accuracy_drop) <= 0.002 for c in figures if c.cut_id)


def test_both_sides_of_a_cut_compute_all_of_the_variant(bundle):
    for cut_id in bundle.manifest.cuts:
        parts = [s for s in bundle.manifest.segments.values() if s.cut_id == cut_id]
        assert {s.role for s in parts} == {'head', 'tail'}
        macs = [sum(layer.macs for layer in s.layers) for s in parts]
        assert sum(macs) == bundle.macs(parts[0].variant_id)
        assert min(macs) >= 0.1 * sum(macs)
