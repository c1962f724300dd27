# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Each rule alone: it preserves numbers where it applies, and says why where it may not."""
from __future__ import annotations

import numpy as np
import pytest

from .rule_cases import APPLIES, NORM, REFUSES, X4, Y4, number, onnx, written

from crowdhmt_ros.graph.model import read_graph  # isort: skip
from crowdhmt_ros.graph.passes import inference  # isort: skip
from crowdhmt_ros.graph.transform import difference_of  # isort: skip


def kinds(model) -> str:
    return ' '.join(sorted(n.op_type for n in model.graph.node))


@pytest.mark.parametrize('case', APPLIES, ids=lambda c: c.name)
def test_the_rule_alone_preserves_numbers(case):
    model = case.model()
    result = case.rewrite(read_graph(model, keep=case.keep))
    after = result.model.to_model()
    onnx.checker.check_model(after, full_check=True)
    assert result.modified
    assert kinds(after) == ' '.join(sorted(case.left.split()))
    assert [o.name for o in after.graph.output] == [o.name for o in model.graph.output]
    assert difference_of(model, after) <= 1e-5
    assert all(r.reason and r.rule == case.rewrite.name for r in result.removed)


@pytest.mark.parametrize('case', APPLIES, ids=lambda c: c.name)
def test_the_rule_comes_to_rest(case):
    once = case.rewrite(read_graph(case.model(), keep=case.keep)).model
    again = case.rewrite(once)
    assert not again.modified
    assert again.model is once


@pytest.mark.parametrize('case', REFUSES, ids=lambda c: c.name)
def test_the_rule_refuses_and_says_why(case):
    model = case.model()
    result = case.rewrite(read_graph(model, keep=case.keep))
    assert not result.removed
    assert kinds(result.model.to_model()) == kinds(model)
    assert any(case.left in r.reason for r in result.refused), result.refused


def test_training_is_set_to_inference():
    model = written(X4, Y4, 't, p, q = BatchNormalization<training_mode=1>(x, g, b, m, v) '
                    'y = Dropout(t, r, f)',
                    {**NORM, 'r': number(0.5), 'f': np.asarray(True)})
    plain = written(X4, Y4, 'y = BatchNormalization(x, g, b, m, v)', NORM)
    result = inference.PASS(read_graph(model))
    assert {a.reason for a in result.added} == {
        'set to inference: uses its running statistics', 'set to inference: drops nothing'}
    assert difference_of(plain, result.model.to_model()) <= 1e-6


def test_statistics_of_the_batch_that_are_read_keep_a_network_in_training():
    model = written(X4, 'float[1,4,6,6] y, float[4] p',
                    'y, p, q = BatchNormalization<training_mode=1>(x, g, b, m, v)', NORM)
    result = inference.PASS(read_graph(model))
    assert not result.modified
    assert 'p are read' in result.refused[0].reason
