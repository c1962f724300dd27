# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs in whole numbers: what overflows nowhere, what stays, and what is refused."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='quantising needs the extra train')
pytest.importorskip('onnxruntime')

from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph.lower import (  # noqa: E402
    Deviation,
    Limits,
    deviation,
    fewest,
    outputs,
)
from crowdhmt_ros.graph.quantise import quantised, units  # noqa: E402
from crowdhmt_ros.graph.ranges import RULES, Observed, observe  # noqa: E402
from crowdhmt_ros.graph.rounding import LEVELS, grid, rounded_weights  # noqa: E402

RNG = np.random.default_rng(11)
MIXING = RNG.standard_normal((3, 3)).astype(np.float32)
SHAPES = {'w': (16, 3, 3, 3), 'b': (16,), 'd': (16, 1, 3, 3), 'v': (16, 4), 'c': (4,)}


def network(opset=17):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : %d]> g (float[1,3,12,12] x) => (float[1,4] y) {'
        'p = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b) r = Relu(p)'
        'e = Conv<pads=[1,1,1,1], group=16>(r, d) s = Add(e, r) m = GlobalAveragePool(s)'
        'f = Flatten(m) y = Gemm(f, v, c) }' % opset)
    rng = np.random.default_rng(4)
    for name, shape in SHAPES.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(
            rng.standard_normal(shape).astype(np.float32), name))
    return model


def pictures(count):
    """Channels that have much in common, as those of pictures do."""
    plain = RNG.standard_normal((count, 1, 3, 12, 12)).astype(np.float32)
    return [{'x': np.einsum('oc,nchw->nohw', MIXING, p).astype(np.float32)} for p in plain]


@pytest.fixture(scope='module')
def seen():
    model, calibration = network(), pictures(24)
    return model, observe(model, calibration), calibration


def test_weights_have_seven_bits_so_that_no_processor_overflows(seen):
    model, observed, calibration = seen
    for weights in (None, rounded_weights(model, calibration)):
        made = quantised(model, observed, weights=weights)
        whole = [onnx.numpy_helper.to_array(t) for t in made.graph.initializer
                 if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
        assert sorted(w.shape for w in whole) == sorted([(16, 3, 3, 3), (16, 1, 3, 3), (16, 4)])
        assert max(int(np.abs(w.astype(int)).max()) for w in whole) == LEVELS


def test_a_quantised_graph_is_valid_and_keeps_inputs_and_outputs(seen):
    model, observed, _ = seen
    made = quantised(model, observed)
    onnx.checker.check_model(made, full_check=True)
    assert made.graph.output == model.graph.output
    assert made.graph.input == model.graph.input
    last = next(n for n in made.graph.node if 'y' in n.output)
    assert last.op_type == 'Gemm'
    assert len(model.graph.node) == 7, 'the graph given is not changed'


def test_what_is_excluded_is_computed_in_fp32(seen):
    model, observed, _ = seen
    assert units(model) == ['p', 'e', 's', 'm', 'y']
    made = quantised(model, observed, exclude=('p', 'e', 's', 'm'))
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    assert kinds['w'] == kinds['d'] == onnx.TensorProto.FLOAT
    none = quantised(model, observed, exclude=units(model))
    assert not any('Quantize' in n.op_type for n in none.graph.node)


def test_kernels_compute_what_the_graph_says(seen):
    model, observed, _ = seen
    inputs = pictures(16)
    made = quantised(model, observed)
    from crowdhmt_ros.graph.compare import run_model
    as_written = [list(run_model(made, given, optimise=False).values()) for given in inputs]
    assert deviation(as_written, outputs(made, inputs)).output_error < 2e-3


def test_rounding_for_outputs_and_corrected_biases_come_nearer(seen):
    model, observed, calibration = seen
    inputs = pictures(64)
    wanted = outputs(model, inputs)
    made = rounded_weights(model, calibration)
    plain, better = (deviation(wanted, outputs(quantised(model, observed, weights=w), inputs))
                     for w in (None, made))
    assert better.output_error < plain.output_error
    rows = onnx.numpy_helper.to_array(model.graph.initializer[0]).reshape(16, -1)
    assert set(made) == {'p', 'y'}, 'grouped convolutions are rounded to the nearest'
    assert np.abs(made['p'].reshape(16, -1) * grid(rows) - rows).max() < 4 * grid(rows).max()


@pytest.mark.parametrize('rule', RULES)
def test_ranges_hold_zero_and_lie_in_what_was_seen(seen, rule):
    for one in seen[1].values():
        low, high = one.range_by(rule)
        assert min(one.low, 0.0) <= low <= 0.0 <= high <= max(one.high, 0.0)


def test_least_squares_cut_a_lone_outlier_off():
    counts = np.zeros(2048)
    counts[:200] = 5000.0
    counts[-1] = 1.0
    assert Observed(0.0, 100.0, counts, None).range_by('least_squares')[1] < 100.0


def test_what_cannot_be_quantised_is_told_in_one_line(seen):
    model, observed, _ = seen
    with pytest.raises(ExportError, match='needs calibration inputs'):
        observe(model, [])
    with pytest.raises(ExportError, match='not finite on a calibration input'):
        observe(model, [{'x': np.full((1, 3, 12, 12), np.nan, np.float32)}])
    with pytest.raises(ExportError, match='was not seen in the calibration'):
        quantised(model, {k: v for k, v in observed.items() if k != 'r'})
    with pytest.raises(ExportError, match='operator set 13'):
        quantised(network(11), observed)
    with pytest.raises(ExportError, match="not by 'guess'"):
        observed['r'].range_by('guess')


def test_limits_ask_for_error_and_for_agreement_where_there_are_scores():
    limits = Limits(0.01, 0.99)
    assert Deviation(0.01, 0.1, 0.99, 5).keeps(limits)
    assert Deviation(0.01, 0.1, None, 5).keeps(limits)
    assert not Deviation(0.011, 0.1, 1.0, 5).keeps(limits)
    assert not Deviation(0.0, 0.0, 0.98, 5).keeps(limits)
    same = [[np.array([[1.0, 2.0]], np.float32)]] * 2
    other = [[np.array([[1.0, 2.0]], np.float32)], [np.array([[2.0, 1.0]], np.float32)]]
    found = deviation(same, other)
    assert found.agreement == 0.5
    assert found.largest_error == pytest.approx(0.5)
    assert found.output_error == pytest.approx((0.5 * 0.25) ** 0.5)


@pytest.mark.parametrize(('guess', 'needed', 'most'), [
    (1, 1, 52), (1, 2, 52), (10, 41, 52), (5, 52, 52), (30, 30, 52), (1, 1, 1)])
def test_few_tries_find_the_fewest_operators_that_have_to_stay_in_fp32(guess, needed, most):
    tries = []

    def tried(count):
        tries.append(count)
        return SimpleNamespace(holds=count >= needed, count=count)
    assert fewest(tried, guess, most).count == max(guess, needed)
    assert len(tries) <= 2 * np.log2(most) + 2
    assert len(set(tries)) == len(tries)


def test_where_nothing_holds_the_last_is_told():
    found = fewest(lambda count: SimpleNamespace(holds=False, count=count), 3, 17)
    assert (found.holds, found.count) == (False, 17)
