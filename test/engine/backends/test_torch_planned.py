# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import ENGINES, make_backend
from crowdhmt_ros.types import EngineOptions

from . import small_graphs

pytestmark = pytest.mark.skipif(not ENGINES['torch'].installed, reason='torch is not installed')


@pytest.fixture(scope='module')
def backend():
    return make_backend('torch')


def compiled(backend, segment, mode, **options):
    return backend.compile(segment, EngineOptions(backend='torch', memory_mode=mode, **options))


def answers(executable, seed):
    random = np.random.default_rng(seed)
    inputs = [random.standard_normal(s.shape).astype(s.dtype) for s in executable.inputs]
    outputs = make_buffers(executable.outputs)
    executable.run(inputs, outputs)
    return outputs


@pytest.mark.parametrize('graph', small_graphs.EVERYWHERE, ids=lambda g: g.__name__)
def test_over_one_arena_the_same_is_computed_again_and_again(backend, tmp_path, graph):
    segment = small_graphs.write(graph(), tmp_path, external=True)
    planned, lean = (compiled(backend, segment, mode) for mode in ('planned', 'lean'))
    for seed in (0, 1, 0):
        for found, wanted in zip(answers(planned, seed), answers(lean, seed)):
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_lower_precision_takes_half_the_arena(backend, tmp_path):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    whole, half = (compiled(backend, segment, 'planned', precision=p).plan.arena_bytes
                   for p in ('fp32', 'bf16'))
    assert half <= 0.6 * whole


def test_results_lie_where_the_plan_says(backend, tmp_path):
    executable = compiled(backend, small_graphs.write(small_graphs.residual(), tmp_path),
                          'planned')
    start = executable._arena.ctypes.data
    for name, offset in executable.plan.offsets.items():
        assert executable._places[name].data_ptr() == start + offset
    assert executable.plan.arena_vs_bound_ratio <= 1.15
    assert executable.plan.arena_bytes < sum(
        place.numel() * place.element_size() for place in executable._places.values())
