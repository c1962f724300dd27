# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Each rule of fusion alone: equal numbers where it applies, a reason where it may not."""
from __future__ import annotations

import pytest

from .rule_cases import onnx
from .test_rules import kinds

from .fuse_cases import APPLIES, REFUSES  # isort: skip
from crowdhmt_ros.graph.model import read_graph  # isort: skip
from crowdhmt_ros.graph.transform import difference_of  # isort: skip


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
    again = case.rewrite(result.model)
    assert again.model is result.model


@pytest.mark.parametrize('case', REFUSES, ids=lambda c: c.name)
def test_the_rule_refuses_and_says_why(case):
    model = case.model()
    result = case.rewrite(read_graph(model, keep=case.keep))
    assert not result.removed
    assert kinds(result.model.to_model()) == kinds(model)
    assert any(case.left in r.reason for r in result.refused), result.refused
