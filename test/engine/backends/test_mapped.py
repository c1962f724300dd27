# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import contextlib
import ctypes
import errno
import gc
import mmap
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import mapped
from crowdhmt_ros.engine.backends.kept import keep_rewritten
from crowdhmt_ros.engine.backends.mapped import LEAST_RELEASE, is_supported
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

EDGE = 32
MAP_FIXED_NOREPLACE = 0x100000
pytestmark = pytest.mark.skipif(not is_supported(onnxruntime.__version__),
                                reason='needs ONNX Runtime %d.%d' % LEAST_RELEASE)


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """Export a small residual network with its weights beside it."""
    onnx = pytest.importorskip('onnx')
    torch = pytest.importorskip('torch')
    from crowdhmt_ros.elastic.backbones import BACKBONES
    from crowdhmt_ros.elastic.export import to_onnx
    torch.manual_seed(0)
    net = BACKBONES['resnet18'](10, width=16, edge=EDGE).eval()
    folder = tmp_path_factory.mktemp('network')
    onnx.save_model(to_onnx(net, torch.zeros(1, 3, EDGE, EDGE)), folder / 'g.onnx',
                    save_as_external_data=True, location='g.bin', size_threshold=1024)
    return Segment('net/whole', 'a' * 64, str(folder / 'g.onnx'),
                   (TensorSpec('image', 'float32', (1, 3, EDGE, EDGE)),),
                   (TensorSpec('logits', 'float32', (1, 10)),),
                   (folder / 'g.bin').stat().st_size)


@pytest.fixture(scope='module')
def inputs():
    rng = np.random.default_rng(1)
    return [rng.standard_normal((1, 3, EDGE, EDGE)).astype(np.float32) for _ in range(3)]


def answers(executable, inputs):
    found = []
    for value in inputs:
        outputs = make_buffers(executable.outputs)
        executable.run((value,), outputs)
        found.append(outputs[0])
    return np.concatenate(found)


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('mode', mapped.MODES)
def test_every_mode_answers_as_the_engine_does_by_default(network, inputs, mode, threads):
    backend = OnnxRuntimeBackend()
    expected = answers(backend.compile(network, EngineOptions()), inputs)
    options = EngineOptions(memory_mode=mode, threads=threads, spinning=threads > 1)
    executable = backend.compile(network, options)
    np.testing.assert_allclose(answers(executable, inputs), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(answers(executable, inputs), answers(executable, inputs))


def test_all_modes_compute_the_same_bits(network, inputs):
    backend = OnnxRuntimeBackend()
    found = [answers(backend.compile(network, EngineOptions(memory_mode=mode)), inputs)
             for mode in mapped.MODES]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize('mode', mapped.MODES)
def test_every_mode_runs_a_segment_of_a_bundle(segments, image, mode):
    backend = OnnxRuntimeBackend()
    for segment in segments.values():
        if segment.segment_id.endswith('/whole'):
            expected = answers(backend.compile(segment, EngineOptions()), [image])
            found = backend.compile(segment, EngineOptions(memory_mode=mode))
            np.testing.assert_allclose(answers(found, [image]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('mode', mapped.MODES)
def test_buffers_are_checked_and_may_change(network, inputs, mode):
    executable = OnnxRuntimeBackend().compile(network, EngineOptions(memory_mode=mode))
    first, second = make_buffers(executable.outputs), make_buffers(executable.outputs)
    executable.run((inputs[0],), first)
    executable.run((inputs[1],), second)
    assert not np.array_equal(first[0], second[0])
    with pytest.raises(BackendError, match='expects'):
        executable.run((inputs[0].astype(np.float64),), first)
    kept = first[0].copy()
    executable.run((inputs[0],), first)
    np.testing.assert_array_equal(first[0], kept)


def test_threads_take_turns_over_one_arena(network, inputs):
    executable = OnnxRuntimeBackend().compile(network, EngineOptions(memory_mode='planned'))
    expected = answers(executable, inputs)
    wrong = []

    def work(number):
        for _ in range(20):
            if not np.array_equal(answers(executable, inputs[number:number + 1])[0],
                                  expected[number]):
                wrong.append(number)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize('mode', mapped.MODES)
def test_a_graph_that_is_not_what_the_bundle_says_is_refused(network, mode):
    wrong = replace(network, outputs=(TensorSpec('logits', 'float32', (1, 11)),))
    with pytest.raises(BackendError, match='the bundle declares'):
        OnnxRuntimeBackend().compile(wrong, EngineOptions(memory_mode=mode))


def test_an_older_engine_is_refused_with_what_to_choose():
    segment = Segment('net/whole', 'a' * 64, 'g.onnx', (), (), 0)
    with pytest.raises(BackendError, match=r'needs ONNX Runtime 1\.19 or newer, this is 1\.18\.1'):
        mapped.compile_mapped(segment, EngineOptions(memory_mode='mapped'),
                              engine_version='1.18.1', errors=())


def test_a_large_stem_runs_in_stripes_to_the_same_bits(tmp_path):
    onnx = pytest.importorskip('onnx')
    torch = pytest.importorskip('torch')
    from crowdhmt_ros.elastic.backbones import BACKBONES
    from crowdhmt_ros.elastic.export import to_onnx
    net = BACKBONES['resnet18'](10, width=16, edge=224).eval()
    onnx.save_model(to_onnx(net, torch.zeros(1, 3, 224, 224)), tmp_path / 'g.onnx',
                    save_as_external_data=True, location='g.bin', size_threshold=1024)
    segment = Segment('net/whole', 'b' * 64, str(tmp_path / 'g.onnx'),
                      (TensorSpec('image', 'float32', (1, 3, 224, 224)),),
                      (TensorSpec('logits', 'float32', (1, 10)),), 0)
    image = np.random.default_rng(2).standard_normal((1, 3, 224, 224)).astype(np.float32)
    backend = OnnxRuntimeBackend()
    whole, streamed = (backend.compile(segment, EngineOptions(memory_mode=mode))
                      for mode in ('mapped', 'streamed'))
    assert streamed._copies
    np.testing.assert_array_equal(answers(streamed, [image]), answers(whole, [image]))


def held_ranges(network):
    """Return {(address, address behind): resident bytes} of all rewritten weights of a network."""
    found = {}
    inside = None
    for line in Path('/proc/self/smaps').read_text().splitlines():
        parts = line.split(None, 5)
        if not parts[0].endswith(':'):
            named = len(parts) == 6 and parts[5].startswith(str(Path(network.path).parent))
            inside = tuple(int(p, 16) for p in parts[0].split('-')) if named else None
        elif inside and parts[0] == 'Rss:':
            found[inside] = 1024 * int(parts[1])
    return found


@contextlib.contextmanager
def occupied(ranges):
    """Have other memory at some addresses, full of sevens; yields what it holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    taken = []
    for start, stop in ranges:
        size = stop - start
        address = libc.mmap(ctypes.c_void_p(start), ctypes.c_size_t(size),
                            mmap.PROT_READ | mmap.PROT_WRITE,
                            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                            ctypes.c_long(0))
        if address == start:
            ctypes.memset(address, 7, size)
            taken.append((address, size))
    yield [np.frombuffer((ctypes.c_char * size).from_address(address), np.uint8)
           for address, size in taken]
    for address, size in taken:
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))


@pytest.mark.parametrize('mode', ['fast', *mapped.MODES])
def test_streaming_leaves_memory_alone_that_another_executable_of_the_segment_had(
        network, inputs, mode, caplog):
    backend = OnnxRuntimeBackend()
    keep_rewritten([network], EngineOptions(), backend.version)  # what 'fast' maps
    gc.collect()
    before = set(held_ranges(network))
    other = backend.compile(network, EngineOptions(memory_mode=mode))
    expected = answers(other, inputs)
    theirs = set(held_ranges(network)) - before
    assert theirs
    streamed = backend.compile(network, EngineOptions(memory_mode='streamed'))
    ours = set(held_ranges(network)) - before - theirs
    del other
    gc.collect()
    with occupied(theirs) as memory:
        assert memory
        for _ in range(2):
            np.testing.assert_allclose(answers(streamed, inputs), expected, rtol=1e-5, atol=1e-5)
            assert all((held == 7).all() for held in memory)
            assert sum(held_ranges(network)[each] for each in ours) == 0
    assert caplog.records == []


def test_the_names_that_streaming_gives_its_weights_do_not_stay(network, inputs):
    OnnxRuntimeBackend().compile(network, EngineOptions(memory_mode='streamed'))
    folder = Path(network.path).parent / 'optimised'
    assert [path.name for path in folder.iterdir() if path.name.startswith('.')] == []


def test_without_hard_links_streaming_keeps_its_weights_and_says_so(
        network, inputs, monkeypatch, caplog):
    def refuse(*paths):
        raise PermissionError(errno.EPERM, 'Operation not permitted')
    backend = OnnxRuntimeBackend()
    expected = answers(backend.compile(network, EngineOptions(memory_mode='streamed')), inputs)
    monkeypatch.setattr(os, 'link', refuse)
    kept = backend.compile(network, EngineOptions(memory_mode='streamed'))
    np.testing.assert_array_equal(answers(kept, inputs), expected)
    assert kept.memory_bytes >= network.weight_bytes
    assert 'its weights stay in memory' in caplog.text
    assert len(caplog.records) == 1
