# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention is one call in the trace, serves any number of heads, and is the usual one."""
import pytest
import torch
import torch.fx

from crowdhmt_ros.elastic.backbones.transformer import attend, vision_transformer


@pytest.mark.parametrize('heads', [1, 2, 3])
def test_attention_is_the_one_of_torch_for_any_number_of_heads(heads):
    torch.manual_seed(heads)
    q, k, v = (torch.randn(2, 7, heads * 16) for _ in range(3))
    split = (x.view(2, 7, heads, 16).transpose(1, 2) for x in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(*split)
    found = attend(q, k, v, 16)
    assert torch.allclose(found, expected.transpose(1, 2).reshape(2, 7, heads * 16), atol=1e-5)


def test_the_trace_keeps_each_attention_as_one_call():
    network = vision_transformer(5, width=32, heads=2, head_size=16, depth=3)
    nodes = torch.fx.symbolic_trace(network).graph.nodes
    calls = [n for n in nodes if n.op == 'call_function' and n.target is attend]
    assert len(calls) == 3
    assert not [n for n in nodes if n.op == 'call_method' and n.target == 'softmax']


def test_tokens_change_places_with_their_positions_only():
    torch.manual_seed(5)
    network = vision_transformer(5, edge=8, width=32, heads=2, head_size=16, depth=1).eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        there, swapped = network(images), network(images.flip(-1))
        network.positions.zero_()
        network.patches.weight.copy_(network.patches.weight.flip(-1) + network.patches.weight)
        assert torch.allclose(network(images), network(images.flip(-1)), atol=1e-5)
    assert not torch.allclose(there, swapped, atol=1e-5)
