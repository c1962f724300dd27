# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.operators.operator import StageConfig
from crowdhmt_ros.elastic.operators.scale import scale
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.plan import part_names, width_of
from crowdhmt_ros.elastic.structure import Group
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, Variant

from .networks import NAMES, conv_norm, elastic, random_variant


def variant_of(net, choices, exit_index=None):
    """Apply {stage: operators} to a network."""
    exits = net.structure.exits
    exit_index = len(exits) - 1 if exit_index is None else exit_index
    return Variant(tuple(tuple(choices.get(i, ())) for i in range(exits[exit_index])), exit_index)


@pytest.mark.parametrize(('size', 'grain', 'ratio', 'width'), [
    (64, 1, 0.5, 32), (64, 1, 0.01, 8), (64, 1, 1.0, 64), (24, 1, 0.5, 16), (12, 1, 0.5, 6),
    (8, 1, 0.25, 8), (96, 48, 0.5, 48), (96, 48, 0.1, 48), (10, 5, 0.5, 5)])
def test_widths_are_multiples_of_eight_and_of_heads(size, grain, ratio, width):
    assert width_of(Group(0, size, grain), StageConfig(ratio=ratio)) == width


def test_a_fixed_group_keeps_its_width():
    assert width_of(Group(0, 64, fixed='for a reason'), StageConfig(ratio=0.25)) == 64


def test_randomised_widths_differ_by_eighths_and_are_equal_between_peers():
    widths = {width_of(Group(i, 128, peers=i), StageConfig(ratio=0.5, seed=1)) for i in range(40)}
    assert widths == {32, 48, 64, 80, 96}
    bound = {width_of(Group(i, 128, peers=3), StageConfig(ratio=0.5, seed=1)) for i in range(40)}
    assert len(bound) == 1


def test_another_seed_draws_other_widths():
    drawn = [[width_of(Group(i, 128, peers=i), StageConfig(ratio=0.5, seed=s)) for i in range(9)]
             for s in (1, 2)]
    assert drawn[0] != drawn[1]


def test_depth_keeps_blocks_that_change_the_shape():
    net = elastic('resnet18').net
    for index, stage in enumerate(net.structure.stages):
        plan = net.plan(variant_of(net, {index: [depth(1)]}))
        gone = {b.border for b in stage.blocks if b.droppable}
        assert gone
        assert set(plan.aliases) >= gone
        kept = {u.block for u in net.structure.units_of(index) if u.node in plan.programs}
        assert 0 in kept
        assert plan.macs < net.plan(net.whole()).macs


def test_a_stride_divides_the_cost_of_what_follows():
    net = elastic('resnet18').net
    whole, halved = net.plan(net.whole()), net.plan(variant_of(net, {3: [scale(stride=2)]}))
    last = [u.macs for u in net.structure.units_of(3) if u.kernel]
    assert sum(last) * 0.7 < whole.macs - halved.macs < sum(last)


def test_a_stride_is_refused_where_no_resolution_would_be_left():
    net = elastic('resnet18').net
    stages = range(len(net.structure.stages))
    with pytest.raises(ExportError, match='strides grow in 4 stages; what follows works with 2'):
        net.plan(variant_of(net, {i: [scale(stride=2)] for i in stages}))


def test_as_many_strides_grow_as_the_layers_behind_can_bear():
    own = nn.Sequential(*(nn.Sequential(conv_norm(3 if i == 0 else 8, 8), nn.MaxPool2d(2))
                          for i in range(3)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(8, 3))
    net = make_elastic(own, torch.zeros(2, 3, 32, 32)).net
    found = net.structure.most_strides
    stages = [i for i, s in enumerate(net.structure.stages) if not s.stride_refused]
    for count in range(1, len(stages) + 1):
        for chosen in itertools.combinations(stages, count):
            variant = variant_of(net, {i: [scale(stride=2)] for i in chosen})
            if count <= found:
                assert net(torch.zeros(2, 3, 32, 32), variant)[-1].shape == (2, 3)
            else:
                with pytest.raises(ExportError, match='strides grow in'):
                    net.plan(variant)


def test_a_stride_is_refused_on_tokens():
    net = elastic('vision_transformer').net
    with pytest.raises(ExportError, match='tokens, which have no stride'):
        net.plan(variant_of(net, {1: [scale(stride=2)]}))


def test_kernels_shrink_as_far_as_their_padding_allows():
    net = elastic('places').net
    plan = net.plan(variant_of(net, {0: [scale(kernel=3)]}))
    kernels = {u.name: plan.programs[u.node][0] for u in net.structure.units if u.kernel}
    assert kernels['deep.0'].weight.shape[2:] == (3, 3)
    assert kernels['deep.0'].padding == (1, 1)
    assert kernels['stem'].weight.shape[2:] == (2, 2)  # even, and without padding


def test_equal_beginnings_have_equal_contexts_and_others_differ():
    net = elastic('resnet18').net
    one = net.plan(variant_of(net, {2: [channel(0.5)]}))
    other = net.plan(variant_of(net, {2: [svd(0.5)]}))
    early = [u.node for u in net.structure.units if u.stage < 2]
    late = [u.node for u in net.structure.units if u.stage > 2]
    assert all(one.contexts[n] == other.contexts[n] for n in early)
    assert not any(one.contexts[n] == other.contexts[n] for n in late)
    assert len(set(one.contexts.values())) == len(one.contexts)


def test_the_resolution_is_part_of_the_context():
    net = elastic('resnet18').net
    one, other = net.plan(net.whole()), net.plan(variant_of(net, {3: [scale(stride=2)]}))
    late = [u.node for u in net.structure.units if u.stage == 3]
    assert not any(one.contexts[n] == other.contexts[n] for n in late)


def test_contexts_name_no_address_of_this_process():
    first = elastic('vision_transformer').net
    functions = [n for n in first.graph.nodes if ' at 0x' in str(n.target)]
    assert functions
    context = first.plan(first.whole()).contexts[functions[0].name]
    target = functions[0].target

    def attend(*arguments):
        return target(*arguments)

    attend.__qualname__ = target.__qualname__
    functions[0].target = attend  # the same function at another address
    try:
        from crowdhmt_ros.elastic.plan import resolve

        again = resolve(first.structure, first.graph, first.whole())
        assert again.contexts[functions[0].name] == context
    finally:
        functions[0].target = target


@pytest.mark.parametrize('name', NAMES)
def test_paddings_and_widths_are_sound_for_any_variant(name):
    made = elastic(name)
    for seed in range(10):
        plan = made.net.plan(random_variant(made, seed))
        for program in plan.programs.values():
            for step in program:
                assert all(p >= 0 for p in getattr(step, 'padding', ()))
        for tensor in part_names(plan):
            assert made.net.has(tensor)
        assert plan.macs > 0


def test_an_early_exit_leaves_later_stages_out():
    net = elastic('vision_transformer').net
    plan = net.plan(variant_of(net, {0: [channel(0.5)]}, 0))
    assert not plan.is_whole
    assert {u.stage for u in net.structure.units if u.node in plan.programs} == {0}
    assert plan.exits == ((0, net.structure.stages[0].border, 16),)


@pytest.mark.parametrize(('choices', 'hint'), [
    ({0: [OperatorChoice('melt')]}, "operator 'melt' is not known; choose one of"),
    ({0: [channel(0.0)]}, 'give a ratio above 0'),
    ({0: [depth(9)]}, 'this stage has 1 to 3'),
    ({0: [scale(kernel=4)]}, 'give an odd number'),
    ({0: [scale(stride=3)]}, 'give 1 or 2'),
    ({0: [svd(0.5), svd(0.5)]}, 'name it once'),
])
def test_bad_parameters_are_one_clear_line(choices, hint):
    net = elastic('resnet18').net
    with pytest.raises(ExportError, match=hint) as error:
        net.plan(variant_of(net, choices))
    assert '\n' not in str(error.value)
