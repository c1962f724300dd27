# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading

import numpy as np
import pytest

from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import ENGINES
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.engine.backends.several import SeveralBackend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import (
    Candidate,
    EngineOptions,
    Placement,
    SegmentPlacement,
    Variant,
)


class Made:
    """Counts how often an engine is made."""

    def __init__(self, failure=''):
        self.count, self.failure = 0, failure

    def __call__(self):
        self.count += 1
        if self.failure:
            raise BackendError(self.failure)
        return OnnxRuntimeBackend(name='other')


@pytest.fixture
def other():
    return Made()


@pytest.fixture
def several(other):
    return SeveralBackend('onnxruntime', {'onnxruntime': OnnxRuntimeBackend, 'other': other})


def test_an_engine_starts_when_it_is_named_and_once(several, other, segments):
    segment = segments['wide/whole']
    several.compile(segment, EngineOptions())
    assert other.count == 0
    threads = [threading.Thread(target=several.compile, args=(
        segment, EngineOptions(backend='other'))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.count == 1


def test_an_engine_that_does_not_start_refuses_with_its_reason_and_is_not_tried_again(segments):
    failing = Made('OpenVINO cannot be used: it is not installed')
    several = SeveralBackend('onnxruntime', {'onnxruntime': OnnxRuntimeBackend, 'other': failing})
    options = EngineOptions(backend='other')
    assert several.refusal(segments['wide/whole'], options) == failing.failure
    with pytest.raises(BackendError, match='not installed'):
        several.compile(segments['wide/whole'], options)
    assert failing.count == 1
    assert several.refusal(segments['wide/whole'], EngineOptions()) == ''


def test_an_unknown_engine_is_refused_by_name(several, segments):
    assert 'onnxruntime, other' in several.refusal(
        segments['wide/whole'], EngineOptions(backend='none'))


def test_a_pool_holds_executables_of_several_engines(bundle, segments, image):
    names = [name for name in ('onnxruntime', 'openvino', 'ncnn', 'torch')
             if ENGINES[name].installed]
    pool = Pool(SeveralBackend('onnxruntime', {n: ENGINES[n].make for n in names}), segments)
    results = []
    for name in names:
        candidate = Candidate('wide', Variant(((),), 0), Placement((
            SegmentPlacement('whole', 'wide/whole'),)), EngineOptions(backend=name))
        executable = pool.prepare(candidate)
        outputs = make_buffers(executable.outputs)
        executable.run((image,), outputs)
        results.append(outputs[0])
        assert pool.get(candidate) is executable
    for found in results[1:]:
        np.testing.assert_allclose(found, results[0], rtol=1e-4, atol=1e-4)
    pool.close()


class Failing(OnnxRuntimeBackend):
    """Answers a few frames, then fails."""

    def __init__(self, good_runs):
        super().__init__(name='other')
        self.left, self.compiled = good_runs, 0

    def compile(self, segment, options):
        self.compiled += 1
        made = super().compile(segment, options)
        inner = made.run

        def run(inputs, outputs):
            self.left -= 1
            if self.left < 0:
                raise BackendError('the device is gone')
            inner(inputs, outputs)
        made.run = run
        return made


def test_an_engine_that_fails_while_it_runs_gives_way_and_no_frame_is_lost(segments, image,
                                                                           caplog):
    failing = Failing(2)
    several = SeveralBackend('onnxruntime', {
        'onnxruntime': OnnxRuntimeBackend, 'other': lambda: failing})
    segment, options = segments['wide/whole'], EngineOptions(backend='other')
    expected = several.compile(segment, EngineOptions())
    executable = several.compile(segment, options)
    wanted, outputs = make_buffers(expected.outputs), make_buffers(executable.outputs)
    expected.run((image,), wanted)
    for _ in range(4):
        outputs[0][...] = 0.0
        executable.run((image,), outputs)
        np.testing.assert_allclose(outputs[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert failing.left == -1
    assert len(several.warnings) == 1
    assert 'other failed at wide/whole' in several.warnings[0]
    assert 'onnxruntime goes on' in several.warnings[0]
    assert several.warnings[0] in caplog.text
    several.compile(segment, options).run((image,), outputs)
    assert failing.compiled == 1


def test_buffers_that_do_not_fit_are_the_callers_fault(segments, image):
    failing = Failing(100)
    several = SeveralBackend('onnxruntime', {
        'onnxruntime': OnnxRuntimeBackend, 'other': lambda: failing})
    executable = several.compile(segments['wide/whole'], EngineOptions(backend='other'))
    with pytest.raises(BackendError, match='the model expects'):
        executable.run((image[:, :1],), make_buffers(executable.outputs))
    assert several.warnings == ()


def test_where_the_first_engine_fails_too_its_reason_is_told(segments, image):
    class Both(Failing):
        def __init__(self):
            super().__init__(0)
            self._able = OnnxRuntimeBackend()._able

    several = SeveralBackend('onnxruntime', {
        'onnxruntime': Both, 'other': lambda: Failing(0)})
    executable = several.compile(segments['wide/whole'], EngineOptions(backend='other'))
    with pytest.raises(BackendError, match='the device is gone'):
        executable.run((image,), make_buffers(executable.outputs))


def test_an_engine_that_may_not_run_a_precision_gives_way_in_one_that_may(segments, image):
    class Coarse(Failing):
        def __init__(self):
            super().__init__(0)
            self._able = type(self._able)('other', 'Other', ('fp32', 'bf16'))

    several = SeveralBackend('onnxruntime', {
        'onnxruntime': OnnxRuntimeBackend, 'other': Coarse})
    executable = several.compile(segments['wide/whole'],
                                 EngineOptions(backend='other', precision='bf16'))
    outputs = make_buffers(executable.outputs)
    executable.run((image,), outputs)
    assert np.isfinite(outputs[0]).all()
