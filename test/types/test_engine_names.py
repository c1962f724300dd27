# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engine options are read back from the names that candidates have."""
from __future__ import annotations

import itertools

import pytest

from crowdhmt_ros.types import PRECISIONS, EngineOptions, engine_named


def test_every_name_is_read_back():
    choices = list(itertools.product(
        ('onnxruntime', 'ncnn'), (1, 2, 16), (False, True), PRECISIONS,
        ('none', 'linear', 'linear+conv_bn'), ('fast', 'lean', 'mapped')))
    for choice in choices:
        options = EngineOptions(*choice)
        assert engine_named(options.name) == options
    assert len({EngineOptions(*choice).name for choice in choices}) == len(choices)


@pytest.mark.parametrize('name', ['', 'onnxruntime', 'onnxruntime/2t', 'onnxruntime/two/fast',
                                  'onnxruntime/t/fast', 'onnxruntime/2t/fast/none',
                                  'onnxruntime/2t/fast/', 'onnxruntime/02t/fast'])
def test_what_is_no_name_is_not_read(name):
    assert engine_named(name) is None


@pytest.mark.parametrize(('precision', 'graph'), [('fp32', 'fp32'), ('bf16', 'fp32'),
                                                  ('fp16', 'fp32'), ('int8', 'int8')])
def test_only_whole_numbers_have_a_graph_of_their_own(precision, graph):
    assert EngineOptions(precision=precision).graph_precision == graph
