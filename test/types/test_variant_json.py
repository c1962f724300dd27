# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.types import OperatorChoice, Variant, variant_from_json, variant_to_json

values = st.one_of(st.integers(-2**40, 2**40), st.text(min_size=1, max_size=8),
                   st.floats(-1e6, 1e6, allow_nan=False))
choices = st.builds(
    lambda name, given: OperatorChoice(name, tuple(sorted(given.items()))),
    st.text(min_size=1, max_size=8), st.dictionaries(st.text(max_size=6), values, max_size=3))
variants = st.builds(
    Variant, st.lists(st.lists(choices, max_size=3).map(tuple), max_size=4).map(tuple),
    st.integers(0, 1000), st.sampled_from(('fp32', 'fp16', 'bf16', 'int8')))


@given(variants)
def test_every_variant_comes_back_as_it_was(variant):
    assert variant_from_json(json.loads(json.dumps(variant_to_json(variant)))) == variant


def test_other_keys_are_left_alone():
    value = dict(variant_to_json(Variant(((),), 0)), macs=7)
    assert variant_from_json(value) == Variant(((),), 0)


@pytest.mark.parametrize(('value', 'words'), [
    ([], 'variant is \\[\\], expected an object'),
    ({'exit_index': 0}, 'variant.stages is None, expected an array'),
    ({'stages': [], 'exit_index': True}, 'exit_index is True, expected an integer'),
    ({'stages': [], 'exit_index': -1}, 'exit_index is -1'),
    ({'stages': [], 'exit_index': 0, 'precision': 'fp8'}, "precision is 'fp8'"),
    ({'stages': [3], 'exit_index': 0}, 'stages\\[0\\] is 3, expected an array'),
    ({'stages': [[3]], 'exit_index': 0}, 'stages\\[0\\]\\[0\\] is 3, expected an object'),
    ({'stages': [[{}]], 'exit_index': 0}, 'operator is None, expected a text'),
    ({'stages': [[{'operator': 'a', 'parameters': {'b': None}}]], 'exit_index': 0},
     'parameters.b is None, expected a number or a text'),
    ({'stages': [[{'operator': 'a', 'parameters': {'b': float('nan')}}]], 'exit_index': 0},
     'parameters.b is nan'),
    ({'stages': [[{'operator': 'a', 'parameters': [1]}]], 'exit_index': 0},
     'parameters is \\[1\\], expected an object'),
])
def test_what_is_wrong_is_said_in_one_line(value, words):
    with pytest.raises(ConfigError, match=words) as caught:
        variant_from_json(value)
    assert '\n' not in str(caught.value)


def test_all_problems_are_named_at_once_with_their_place():
    with pytest.raises(ConfigError, match='front\\[3\\].stages .*; front\\[3\\].exit_index'):
        variant_from_json({}, 'front[3]')
