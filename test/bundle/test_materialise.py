# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from crowdhmt_ros.bundle import materialise as module
from crowdhmt_ros.bundle.entries import Recipe, StoreTensor
from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.errors import BundleError


@pytest.fixture
def bundle(tiny_path):
    return open_bundle(tiny_path)


def folder_of(bundle, cache):
    return cache / bundle.sha256[:16]


def states(folder):
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()
            if p.name != '.lock'}


def test_every_initialiser_is_slice_times_scale(bundle, tmp_path):
    materialise(bundle, tmp_path)
    content = (folder_of(bundle, tmp_path) / 'initialisers.bin').read_bytes()
    assert len(content) == bundle.manifest.initialisers_bytes
    store = (bundle.directory / 'weights.bin').read_bytes()
    tensors = bundle.manifest.tensors
    weight, scale = tensors['conv.weight'], tensors['scale.narrow']
    whole = np.frombuffer(store, '<f2', 8 * 27, weight.offset).reshape(8, 3, 3, 3)
    factors = np.frombuffer(store, '<f4', 4, scale.offset)
    recipe = next(r for r in bundle.manifest.recipes if r.scale == 'scale.narrow')
    found = np.frombuffer(content, '<f4', 4 * 27, recipe.offset).reshape(4, 3, 3, 3)
    np.testing.assert_array_equal(
        found, whole[:4].astype(np.float32) * factors[:, None, None, None])


def test_segments_name_files_that_lie_beside_their_weights(bundle, tmp_path):
    segments = materialise(bundle, tmp_path)
    assert set(segments) == {'wide/whole', 'narrow/whole'}
    for segment in segments.values():
        path = Path(segment.path)
        assert (path.parent / 'initialisers.bin').is_file()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == segment.sha256
    assert segments['wide/whole'].weight_bytes == 4 * (27 * 8 + 8 + 8 * 4 + 4)


def test_progress_grows_to_the_whole(bundle, tmp_path):
    calls = []
    materialise(bundle, tmp_path, progress=lambda done, total: calls.append((done, total)))
    done = [d for d, _ in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1] > 0
    assert len({total for _, total in calls}) == 1


def test_what_is_fresh_is_used_again(bundle, tmp_path):
    first = materialise(bundle, tmp_path)
    before = states(folder_of(bundle, tmp_path))
    called = []
    again = materialise(bundle, tmp_path, progress=lambda *a: called.append(a), verify=True)
    assert first == again
    assert states(folder_of(bundle, tmp_path)) == before
    assert not called


def test_a_subset_leaves_holes_and_grows_without_losing_the_first(bundle, tmp_path):
    materialise(bundle, tmp_path, ['narrow/whole'])
    folder = folder_of(bundle, tmp_path)
    assert not (folder / 'wide.onnx').exists()
    assert (folder / 'initialisers.bin').stat().st_size == bundle.manifest.initialisers_bytes
    materialise(bundle, tmp_path, ['wide/whole'])
    before = states(folder)
    materialise(bundle, tmp_path, verify=True)
    assert states(folder) == before


@pytest.mark.parametrize('name', ['initialisers.bin', 'wide.onnx'])
def test_a_damaged_file_is_rebuilt(bundle, tmp_path, name):
    materialise(bundle, tmp_path)
    path = folder_of(bundle, tmp_path) / name
    good = path.read_bytes()
    path.write_bytes(good[:-5])
    materialise(bundle, tmp_path)
    assert path.read_bytes() == good
    path.unlink()
    materialise(bundle, tmp_path)
    assert path.read_bytes() == good


def test_a_silent_change_is_found_when_asked_to_verify(bundle, tmp_path):
    materialise(bundle, tmp_path)
    path = folder_of(bundle, tmp_path) / 'initialisers.bin'
    good, times = path.read_bytes(), path.stat()
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    materialise(bundle, tmp_path)
    assert path.read_bytes() != good
    materialise(bundle, tmp_path, verify=True)
    assert path.read_bytes() == good


@pytest.mark.parametrize('stamp', ['', '[]', '{}', '{"bundle_sha256": 3, "segments": {}}', None])
def test_a_broken_stamp_means_a_rebuild(bundle, tmp_path, stamp):
    materialise(bundle, tmp_path)
    path = folder_of(bundle, tmp_path) / module.STAMP_NAME
    if stamp is None:
        held = json.loads(path.read_text())
        stamp = json.dumps({**held, 'files': []})
    path.write_text(stamp)
    materialise(bundle, tmp_path)
    assert json.loads(path.read_text())['bundle_sha256'] == bundle.sha256


def test_a_recipe_that_gives_other_bytes_is_refused_and_leaves_nothing(copy, tmp_path):
    copy.edit(lambda m: m['initialisers']['recipes'][2].update(sha256='0' * 64))
    bundle = open_bundle(copy.directory)
    with pytest.raises(BundleError, match='recipe 2'):
        materialise(bundle, tmp_path / 'cache')
    left = [p.name for p in folder_of(bundle, tmp_path / 'cache').iterdir()]
    assert left == ['.lock']


def test_an_interrupted_run_is_rebuilt_and_its_leftovers_go(bundle, tmp_path):
    class StopError(Exception):
        pass

    def stop(done, total):
        raise StopError

    with pytest.raises(StopError):
        materialise(bundle, tmp_path, progress=stop)
    folder = folder_of(bundle, tmp_path)
    assert not (folder / module.STAMP_NAME).exists()
    (folder / '.new-abc').write_bytes(b'left by a kill')
    materialise(bundle, tmp_path)
    assert not list(folder.glob('.new-*'))


def test_unknown_segment_is_refused_before_anything_is_written(bundle, tmp_path):
    with pytest.raises(BundleError, match="'other'"):
        materialise(bundle, tmp_path / 'cache', ['other'])
    assert not (tmp_path / 'cache').exists()


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_path_and_bytes(bundle, tmp_path, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.os, 'fsync', full)
    with pytest.raises(BundleError) as caught:
        materialise(bundle, tmp_path)
    message = str(caught.value)
    assert '\n' not in message
    assert str(tmp_path) in message
    assert 'is full' in message
    assert 'CROWDHMT_CACHE' in message
    needed = int(message.split('needs ')[1].split(' bytes')[0])
    assert needed > 1000
    monkeypatch.undo()
    assert not list(folder_of(bundle, tmp_path).glob('.new-*'))
    materialise(bundle, tmp_path, verify=True)


def test_a_really_full_disk_is_told(bundle):
    if not os.path.exists('/dev/full'):
        pytest.skip('this system has no /dev/full')
    with open('/dev/full', 'wb', buffering=0) as stream:
        writing = module._write_initialisers(bundle, ['wide/whole'], stream)
        with pytest.raises(OSError, match=r'[Ss]pace') as caught:
            list(writing)
    assert 'is full' in module._no_room(Path('/'), 1, caught.value)


def test_a_folder_that_cannot_be_made_is_told(bundle, tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(BundleError, match='CROWDHMT_CACHE'):
        materialise(bundle, tmp_path / 'file')


def test_a_read_only_cache_that_is_complete_is_used(bundle, tmp_path):
    expected = materialise(bundle, tmp_path)
    folder = folder_of(bundle, tmp_path)
    folder.chmod(0o555)
    try:
        assert materialise(bundle, tmp_path) == expected
    finally:
        folder.chmod(0o755)


def test_two_processes_at_once_both_end_with_the_same(tiny_path, tmp_path):
    code = ('import sys; from crowdhmt_ros.bundle.reader import open_bundle; '
            'from crowdhmt_ros.bundle.materialise import materialise; import time; '
            'b = open_bundle(sys.argv[1]); time.sleep(max(0, float(sys.argv[3]) - time.time())); '
            '[materialise(b, sys.argv[2], verify=True) for _ in range(5)]')
    start = str(time.time() + 1.5)
    processes = [subprocess.Popen([sys.executable, '-c', code, str(tiny_path), str(tmp_path),
                                   start], cwd=Path(__file__).parents[2]) for _ in range(4)]
    assert [p.wait(60) for p in processes] == [0, 0, 0, 0]
    bundle = open_bundle(tiny_path)
    before = states(folder_of(bundle, tmp_path))
    materialise(bundle, tmp_path, verify=True)
    assert states(folder_of(bundle, tmp_path)) == before


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('CROWDHMT_CACHE', str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv('CROWDHMT_CACHE')
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    assert default_cache_dir() == Path.home() / '.cache' / 'crowdhmt'


@pytest.mark.parametrize(('stored', 'wanted', 'scaled'), [
    ('int8', 'int8', False), ('uint8', 'uint8', False), ('int32', 'int32', False),
    ('int8', 'float32', True), ('uint8', 'float16', False), ('float32', 'float16', True),
    ('float16', 'float32', False)])
def test_a_recipe_has_the_type_that_it_names(stored, wanted, scaled):
    values = np.arange(8).reshape(2, 4)
    factors = np.array([0.5, 0.25], '<f4')
    first = values.astype(stored).tobytes()
    store = np.frombuffer(first + factors.tobytes(), np.uint8)
    tensors = {'t': StoreTensor('t', stored, (2, 4), 0, len(first)),
               's': StoreTensor('s', 'float32', (2,), len(first), 8)}
    recipe = Recipe(offset=0, shape=(2, 2), dtype=wanted, tensor='t', slices=((0, 2), (1, 3)),
                    scale='s' if scaled else None, scale_axis=0, sha256='')
    content = module.compute_recipe(store, tensors, recipe)
    assert len(content) == recipe.size_bytes
    expected = values[:, 1:3] * (factors[:, None] if scaled else 1)
    np.testing.assert_array_equal(np.frombuffer(content, wanted).reshape(2, 2), expected)
