# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
import shutil

import pytest

from crowdhmt_ros.bundle import reader
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.errors import BundleError


def refusal(copy):
    with pytest.raises(BundleError) as caught:
        open_bundle(copy.directory)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_bundle_offers_every_combination_richest_first(tiny_path):
    candidates = open_bundle(tiny_path).candidates(threads=(1, 2), memory_modes=('fast', 'lean'))
    assert [c.candidate_id for c in candidates] == [
        '%s/local/onnxruntime/%dt/%s' % (variant, threads, mode)
        for variant in ('wide', 'narrow') for mode in ('fast', 'lean') for threads in (1, 2)]
    assert candidates[0].placement.segments[0].segment_id == 'wide/whole'


def test_bundle_answers_for_its_variants(tiny_path):
    bundle = open_bundle(tiny_path)
    assert bundle.accuracy('narrow')['scenes/dusk'] == pytest.approx(0.75)
    assert bundle.macs('wide') == sum(c.macs for c in bundle.layer_costs('wide/whole'))
    assert bundle.segment_for('narrow') == 'narrow/whole'
    assert bundle.classes[-1] == 'other'


def test_unknown_names_are_bundle_errors(tiny_path):
    bundle = open_bundle(tiny_path)
    for call in (bundle.variant, bundle.segment, bundle.segment_for, bundle.file_sha256):
        with pytest.raises(BundleError, match='nothing'):
            call('nothing')


@pytest.mark.parametrize('name', ['weights.bin', 'graphs/wide.onnx'])
def test_any_changed_byte_is_found(copy, name):
    path = copy.directory / name
    content = bytearray(path.read_bytes())
    for at in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        assert '%s was changed' % name in refusal(copy)
    path.write_bytes(content)
    open_bundle(copy.directory)


def test_missing_and_longer_and_shorter_files_are_told_together(copy):
    (copy.directory / 'graphs/wide.onnx').unlink()
    with open(copy.directory / 'weights.bin', 'ab') as stream:
        stream.write(b'x')
    path = copy.directory / 'graphs/narrow.onnx'
    path.write_bytes(path.read_bytes()[:-1])
    message = refusal(copy)
    assert 'graphs/wide.onnx is missing' in message
    assert 'weights.bin has 721 bytes, expected 720' in message
    assert 'graphs/narrow.onnx has 645 bytes' in message


def test_a_folder_in_place_of_a_file_is_refused(copy):
    (copy.directory / 'weights.bin').unlink()
    (copy.directory / 'weights.bin').mkdir()
    assert 'weights.bin' in refusal(copy)


def test_a_link_out_of_the_bundle_must_still_have_the_right_bytes(copy, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.write_bytes(b'secret')
    (copy.directory / 'weights.bin').unlink()
    os.symlink(elsewhere, copy.directory / 'weights.bin')
    assert 'weights.bin has 6 bytes' in refusal(copy)


@pytest.mark.parametrize('name', ['', 'no-such-bundle', '/no/such/folder', '../bundles', '.'])
def test_what_is_no_bundle_is_told(name):
    with pytest.raises(BundleError, match='bundle'):
        open_bundle(name)


def test_a_shipped_bundle_is_found_by_its_name(tiny_path, tmp_path, monkeypatch):
    shutil.copytree(tiny_path, tmp_path / 'shipped' / 'tiny7')
    monkeypatch.setattr(reader, 'SHIPPED', tmp_path / 'shipped')
    monkeypatch.chdir(tmp_path)
    assert reader.shipped_names() == ('tiny7',)
    assert open_bundle('tiny7').manifest.name == 'tiny'
    with pytest.raises(BundleError, match='tiny7'):
        open_bundle('tiny8')


@pytest.mark.parametrize('name', reader.shipped_names() or ['none'])
def test_what_ships_can_be_opened(name):
    if name == 'none':
        pytest.skip('this tree has no bundle')
    bundle = open_bundle(name)
    assert bundle.candidates()
