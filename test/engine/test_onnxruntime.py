# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import logging
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle, shipped_names
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend, OnnxRuntimeExecutable
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, TensorSpec

MODES = [EngineOptions(threads=t, memory_mode=m, spinning=s)
         for t in (1, 2) for m in ('fast', 'lean') for s in (False, True)]


def reference(bundle, variant, image):
    """Compute the tiny model by hand from the store."""
    store = (bundle.directory / 'weights.bin').read_bytes()
    width = {'wide': 8, 'narrow': 4}[variant]

    def load(name):
        t = bundle.manifest.tensors[name]
        kind = '<f2' if t.dtype == 'float16' else '<f4'
        return np.frombuffer(store, kind, int(np.prod(t.shape)), t.offset).reshape(
            t.shape).astype(np.float32)

    weight = load('conv.weight')[:width] * load('scale.' + variant)[:, None, None, None]
    padded = np.pad(image[0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    out = np.einsum('cijkl,ockl->oij', windows, weight) + load('conv.bias')[:width, None, None]
    mean = np.maximum(out, 0).mean(axis=(1, 2))
    return load('fc.weight')[:, :width] @ mean + load('fc.bias')


@pytest.mark.parametrize('options', MODES, ids=str)
@pytest.mark.parametrize('variant', ['wide', 'narrow'])
def test_every_mode_computes_the_model(bundle, segments, image, variant, options):
    executable = OnnxRuntimeBackend().compile(segments[variant + '/whole'], options)
    outputs = make_buffers(executable.outputs)
    executable.run((image,), outputs)
    np.testing.assert_allclose(
        outputs[0][0], reference(bundle, variant, image), rtol=1e-4, atol=1e-4)


def thread_times_s():
    """Return thread -> seconds of processor time so far, of this process."""
    return {path.name: int((path / 'schedstat').read_text().split()[0]) / 1e9
            for path in Path('/proc/self/task').iterdir()}


@pytest.mark.skipif(not Path('/proc/self/schedstat').exists(), reason='no times of threads')
@pytest.mark.parametrize('mode', ['fast', 'mapped'])
def test_threads_that_spin_stop_with_the_answer(segments, image, mode):
    before = thread_times_s()
    executable = OnnxRuntimeBackend().compile(
        segments['wide/whole'], EngineOptions(threads=2, spinning=True, memory_mode=mode))
    outputs = make_buffers(executable.outputs)
    for _ in range(20):
        executable.run((image,), outputs)
    answered = thread_times_s()
    time.sleep(0.3)
    spent_s = [t - answered[name] for name, t in thread_times_s().items()
               if name in answered and name not in before]
    assert spent_s, 'no thread of its own'
    assert max(spent_s) < 0.01, 'they spin for 0.04 s if nothing stops them'


def test_buffers_belong_to_the_caller_and_may_change(segments, image):
    executable = OnnxRuntimeBackend().compile(segments['wide/whole'], EngineOptions())
    first, second = make_buffers(executable.outputs), make_buffers(executable.outputs)
    executable.run((image,), first)
    executable.run((2 * image,), second)
    assert not np.array_equal(first[0], second[0])
    kept = first[0].copy()
    own = image.copy()
    executable.run((own,), first)
    np.testing.assert_array_equal(first[0], kept)
    own *= 2
    executable.run((own,), first)
    np.testing.assert_array_equal(first[0], second[0])


def test_bindings_survive_that_the_caller_drops_its_buffers(segments, image):
    executable = OnnxRuntimeBackend().compile(segments['wide/whole'], EngineOptions())
    for _ in range(50):
        outputs = make_buffers(executable.outputs)
        executable.run((image.copy(),), outputs)
        last = outputs[0].copy()
        del outputs
    expected = make_buffers(executable.outputs)
    executable.run((image,), expected)
    np.testing.assert_array_equal(last, expected[0])


@pytest.mark.parametrize('bad', [
    lambda i, o: ((i[:, :, ::2],), o), lambda i, o: ((i.astype(np.float64),), o),
    lambda i, o: ((i.transpose(0, 1, 3, 2),), o), lambda i, o: ((i, i), o),
    lambda i, o: ((), o), lambda i, o: ((i,), ()),
    lambda i, o: ((i,), (np.zeros((1, 3), np.float32),)),
    lambda i, o: ((i,), (np.broadcast_to(np.float32(0), (1, 4)),))])
def test_buffers_that_do_not_fit_are_refused(segments, image, bad):
    executable = OnnxRuntimeBackend().compile(segments['wide/whole'], EngineOptions())
    outputs = make_buffers(executable.outputs)
    with pytest.raises(BackendError):
        executable.run(*bad(image, outputs))
    executable.run((image,), outputs)
    assert outputs[0].any()


def test_a_missing_provider_is_a_warning_and_the_processor_answers(segments, image, caplog):
    with caplog.at_level(logging.WARNING):
        backend = OnnxRuntimeBackend(('NoSuchExecutionProvider', 'CPUExecutionProvider'))
    assert 'NoSuchExecutionProvider' in caplog.text
    assert 'NoSuchExecutionProvider' in backend.warnings[0]
    executable = backend.compile(segments['wide/whole'], EngineOptions())
    executable.run((image,), make_buffers(executable.outputs))
    assert backend.providers() == ('CPUExecutionProvider',)


def test_a_provider_that_does_not_start_is_a_warning(segments, monkeypatch):
    monkeypatch.setattr(onnxruntime, 'get_available_providers',
                        lambda: ['CPUExecutionProvider', 'FastExecutionProvider'])
    backend = OnnxRuntimeBackend(('FastExecutionProvider', 'CPUExecutionProvider'))
    assert backend.warnings == ()
    backend._compare_providers(['CPUExecutionProvider'])
    backend._compare_providers(['CPUExecutionProvider'])
    assert len(backend.warnings) == 1
    assert backend.providers() == ('CPUExecutionProvider',)


def test_the_usual_providers_give_no_warning(segments):
    backend = OnnxRuntimeBackend()
    backend.compile(segments['wide/whole'], EngineOptions())
    assert backend.warnings == ()


@pytest.mark.parametrize('change', [
    {'inputs': (TensorSpec('image', 'float32', (1, 3, 32, 32)),)},
    {'inputs': (TensorSpec('picture', 'float32', (1, 3, 64, 64)),)},
    {'inputs': (TensorSpec('image', 'uint8', (1, 3, 64, 64)),)},
    {'outputs': (TensorSpec('logits', 'float32', (1, 7)),)},
    {'outputs': ()}])
def test_a_graph_that_is_not_what_the_bundle_declares_is_refused(segments, change):
    segment = replace(segments['wide/whole'], **change)
    with pytest.raises(BackendError, match='the bundle declares'):
        OnnxRuntimeBackend().compile(segment, EngineOptions())


@pytest.mark.parametrize('options', [
    EngineOptions(backend='tensorrt'), EngineOptions(precision='int8'),
    EngineOptions(memory_mode='tiny'), EngineOptions(threads=0), EngineOptions(threads=100000)],
    ids=str)
def test_options_that_it_cannot_follow_are_refused(segments, options):
    with pytest.raises(BackendError):
        OnnxRuntimeBackend().compile(segments['wide/whole'], options)


def test_a_damaged_graph_is_one_clear_line(segments, tmp_path):
    path = tmp_path / 'bad.onnx'
    for content in (b'', b'garbage', Path(segments['wide/whole'].path).read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(BackendError, match='wide/whole') as caught:
            OnnxRuntimeBackend().compile(
                replace(segments['wide/whole'], path=str(path)), EngineOptions())
        assert '\n' not in str(caught.value)


def test_missing_weights_or_graph_is_one_clear_line(segments, tmp_path):
    path = shutil.copy(segments['wide/whole'].path, tmp_path)
    for segment in (replace(segments['wide/whole'], path=path),
                    replace(segments['wide/whole'], path=str(tmp_path / 'none.onnx'))):
        with pytest.raises(BackendError, match='wide/whole') as caught:
            OnnxRuntimeBackend().compile(segment, EngineOptions())
        assert '\n' not in str(caught.value)


def test_weights_cut_short_are_refused(segments, tmp_path):
    source = segments['wide/whole'].path
    path = shutil.copy(source, tmp_path)
    weights = Path(source).with_name('initialisers.bin').read_bytes()
    (tmp_path / 'initialisers.bin').write_bytes(weights[:100])
    with pytest.raises(BackendError):
        OnnxRuntimeBackend().compile(replace(segments['wide/whole'], path=path), EngineOptions())


@pytest.mark.parametrize('error', [MemoryError(), OSError(12, 'Cannot allocate memory')])
def test_a_machine_without_room_is_a_backend_error(segments, monkeypatch, error):
    def no_room(*arguments, **named):
        raise error
    monkeypatch.setattr(onnxruntime, 'InferenceSession', no_room)
    with pytest.raises(BackendError, match='wide/whole cannot be compiled') as caught:
        OnnxRuntimeBackend().compile(segments['wide/whole'], EngineOptions())
    assert '\n' not in str(caught.value)


class StubbornBinding:
    """A session that cannot bind what it is given."""

    def io_binding(self):
        return self

    def bind_input(self, *arguments):
        raise RuntimeError('no such device')


def test_a_buffer_that_the_engine_cannot_bind_is_a_backend_error(segments, image):
    segment = segments['wide/whole']
    executable = OnnxRuntimeExecutable(StubbornBinding(), segment.inputs, segment.outputs,
                                       memory_bytes=1)
    with pytest.raises(BackendError, match='no such device'):
        executable.run((image,), make_buffers(segment.outputs))


def test_threads_that_share_an_executable_take_turns(segments, image):
    executable = OnnxRuntimeBackend().compile(segments['wide/whole'], EngineOptions())
    expected = []
    for factor in (1, 2):
        expected.append(make_buffers(executable.outputs))
        executable.run((factor * image,), expected[-1])
    wrong = []

    def ask(factor):
        inputs, outputs = (factor * image,), make_buffers(executable.outputs)
        for _ in range(200):
            executable.run(inputs, outputs)
            if not np.array_equal(outputs[0], expected[factor - 1][0]):
                wrong.append(factor)

    threads = [threading.Thread(target=ask, args=(factor,)) for factor in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_is_at_least_weights_and_buffers(segments):
    for mode in ('fast', 'lean'):
        executable = OnnxRuntimeBackend().compile(
            segments['wide/whole'], EngineOptions(memory_mode=mode))
        assert executable.memory_bytes >= segments['wide/whole'].weight_bytes + 4 * 3 * 64 * 64


def test_a_run_costs_little_over_the_bare_session(segments, image):
    segment = segments['narrow/whole']
    executable = OnnxRuntimeBackend().compile(segment, EngineOptions())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare = onnxruntime.InferenceSession(segment.path, options,
                                        providers=['CPUExecutionProvider'])
    outputs = make_buffers(executable.outputs)
    inputs = (image,)
    ours, theirs = [], []
    for _ in range(500):
        start = time.perf_counter()
        executable.run(inputs, outputs)
        middle = time.perf_counter()
        bare.run(None, {'image': image})
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    assert statistics.median(ours) <= statistics.median(theirs) + 50e-6


def test_a_repeated_inference_is_the_same_and_slower(segments, image):
    calls = []

    class Counting:
        inputs = (TensorSpec('image', 'float32', (1, 3, 64, 64)),)
        outputs = (TensorSpec('logits', 'float32', (1, 4)),)
        memory_bytes = 5

        def run(self, inputs, outputs):
            calls.append(1)

    class Inner:
        name, warnings = 'onnxruntime', ()

        def providers(self):
            return ('x',)

        def compile(self, segment, options):
            return Counting()

    from crowdhmt_ros.engine.backends.repeating import RepeatingBackend
    backend = RepeatingBackend(Inner(), 7)
    executable = backend.compile(segments['wide/whole'], EngineOptions())
    executable.run((), ())
    assert len(calls) == 7
    assert (backend.name, backend.providers(), executable.memory_bytes) == (
        'onnxruntime', ('x',), 5)
    plain = make_backend('onnxruntime').compile(segments['wide/whole'], EngineOptions())
    slow = make_backend('onnxruntime', repeat=3).compile(segments['wide/whole'], EngineOptions())
    one, three = make_buffers(plain.outputs), make_buffers(slow.outputs)
    plain.run((image,), one)
    slow.run((image,), three)
    np.testing.assert_array_equal(one[0], three[0])


@pytest.mark.parametrize('repeat', [0, -1, 1.5])
def test_a_repetition_below_one_is_refused(repeat):
    with pytest.raises(BackendError, match='repeat'):
        make_backend('onnxruntime', repeat=repeat)


def test_unknown_backend_names_those_there_are():
    with pytest.raises(BackendError, match='onnxruntime'):
        make_backend('magic')


PRIVATE_GROWTH = """
import re, sys
from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool

def private_bytes():
    with open('/proc/self/status') as status:
        return 1024 * int(re.search(r'RssAnon:\\s+(\\d+)', status.read()).group(1))

bundle = open_bundle('campus7')
pool = Pool(make_backend('onnxruntime'), materialise(bundle, sys.argv[1]))
candidates = bundle.candidates((1,), (sys.argv[2],))
pool.prepare(candidates[-1])
before = private_bytes()
pool.prepare(candidates[0])
print(private_bytes() - before)
"""


def test_lean_leaves_the_weights_in_the_file(tmp_path):
    if 'campus7' not in shipped_names() or not Path('/proc/self/status').exists():
        pytest.skip('needs the bundle campus7 and /proc')
    grown = {}
    for mode in ('fast', 'lean'):
        run = subprocess.run(
            [sys.executable, '-c', PRIVATE_GROWTH, str(tmp_path), mode], text=True, timeout=120,
            capture_output=True, cwd=Path(__file__).parents[2], check=True)
        grown[mode] = int(run.stdout)
    assert grown['lean'] <= 0.5 * grown['fast']
    bundle = open_bundle('campus7')
    weights = materialise(bundle, tmp_path, [bundle.segment_for(bundle.manifest.front[0])])
    assert grown['lean'] <= 0.5 * next(iter(weights.values())).weight_bytes
