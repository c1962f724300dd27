# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest

from crowdhmt_ros.types import OperatorChoice, Variant


def variant(*parameters, exit_index=0):
    return Variant(((OperatorChoice('channel', parameters),),), exit_index)


def test_variants_have_one_order_whatever_the_types_of_their_parameters():
    ordered = [Variant((), 0), variant(), variant(('mode', 2)), variant(('mode', 2.5)),
               variant(('mode', 10)), variant(('mode', 10), exit_index=1),
               variant(('mode', '1')), variant(('mode', 'a')), variant(('ratio', 0.5))]
    for given in itertools.islice(itertools.permutations(ordered), 0, 400000, 997):
        assert sorted(given) == ordered
    assert sorted(ordered, key=lambda v: v.sort_key) == ordered


@pytest.mark.parametrize('parameters', [
    (('ratio', 0.5), ('depth', 1)), (('ratio', 0.5), ('ratio', 0.25))])
def test_parameters_out_of_order_or_twice_are_refused(parameters):
    with pytest.raises(ValueError, match='ascending order'):
        OperatorChoice('channel', parameters)
