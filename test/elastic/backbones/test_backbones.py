# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every reference backbone behaves as a plain network that a user could have written."""
import copy
import functools
import io

import onnxruntime
import pytest
import torch
import torch.fx
from torch import nn

from crowdhmt_ros.elastic.backbones import BACKBONES, example_input
from crowdhmt_ros.errors import ConfigError

CLASSES = 5
PUBLISHED = {'resnet18': 11_689_512, 'resnet34': 21_797_672, 'vgg16': 138_365_992,
             'mobilenet_v2': 3_504_872}
"""Parameters at 224 pixels and 1000 classes; vgg16 is the one with normalisation."""
SMALL = {
    'residual': {'widths': (8, 16, 24), 'edge': 32},
    'resnet18': {'width': 8, 'edge': 32},
    'resnet34': {'width': 8, 'edge': 32},
    'vgg16': {'width': 8, 'edge': 32},
    'mobilenet_v2': {'width_multiplier': 0.25, 'edge': 32},
    'motion_cnn': {'width': 8, 'samples': 32},
    'spectrogram_cnn': {'width': 8, 'mels': 32, 'frames': 40},
    'vision_transformer': {'width': 32, 'head_size': 16, 'heads': 2, 'depth': 2},
}
"""Name -> options of a network that computes in milliseconds."""


@pytest.fixture(params=sorted(BACKBONES))
def name(request):
    return request.param


@functools.cache
def small(name):
    """Return a network with measured statistics, to be left as it is, and an input."""
    torch.manual_seed(1)
    network = BACKBONES[name](CLASSES, **SMALL[name])
    images = torch.randn_like(example_input(name, batch=8, **SMALL[name]))
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network(images)
    return network.eval(), images


@pytest.mark.parametrize('edge', [224, 64, 32])
@pytest.mark.parametrize('image_backbone', ['residual', *PUBLISHED])
def test_an_image_backbone_scores_the_classes_at_every_edge(image_backbone, edge):
    with torch.device('meta'):
        network = BACKBONES[image_backbone](CLASSES, edge=edge)
        images = example_input(image_backbone, edge=edge)
    assert images.shape == (2, 3, edge, edge)
    assert network(images).shape == (2, CLASSES)


@pytest.mark.parametrize(('other', 'options', 'shape'), [
    ('motion_cnn', {}, (2, 9, 128)),
    ('motion_cnn', {'channels': 6, 'samples': 50}, (2, 6, 50)),
    ('spectrogram_cnn', {}, (2, 1, 64, 128)),
    ('spectrogram_cnn', {'mels': 40, 'frames': 101}, (2, 1, 40, 101)),
    ('vision_transformer', {}, (2, 3, 32, 32)),
    ('vision_transformer', {'edge': 64, 'patch': 8}, (2, 3, 64, 64)),
])
def test_the_other_backbones_score_the_classes_of_inputs_of_their_shape(other, options, shape):
    with torch.device('meta'):
        network = BACKBONES[other](CLASSES, **options)
        inputs = example_input(other, **options)
    assert inputs.shape == shape
    assert network(inputs).shape == (2, CLASSES)


@pytest.mark.parametrize('published', PUBLISHED)
def test_a_published_network_has_the_published_number_of_parameters(published):
    with torch.device('meta'):
        network = BACKBONES[published](1000)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[published]


@pytest.mark.parametrize(('pixels', 'positions'), [(224, 7), (64, 4), (32, 4)])
@pytest.mark.parametrize('staged', ['residual', 'resnet34', 'mobilenet_v2'])
def test_the_last_stage_sees_enough_positions(staged, pixels, positions):
    with torch.device('meta'):
        network = BACKBONES[staged](CLASSES, edge=pixels)
        seen = network.stages(network.stem(example_input(staged, edge=pixels)))
    assert seen.shape[2:] == (positions, positions)


def test_the_traced_network_computes_the_same(name):
    network, inputs = small(name)
    traced = torch.fx.symbolic_trace(network)
    with torch.no_grad():
        assert torch.equal(traced(inputs), network(inputs))


def test_no_batch_size_is_baked_into_the_trace(name):
    network, inputs = small(name)
    traced = torch.fx.symbolic_trace(network)
    with torch.no_grad():
        scores = traced(inputs)
        assert torch.allclose(traced(inputs[:1]), scores[:1], atol=1e-4)
        assert torch.allclose(traced(inputs[:3]), scores[:3], atol=1e-4)


def test_no_layer_is_called_twice(name):
    network, _ = small(name)
    calls = [n.target for n in torch.fx.symbolic_trace(network).graph.nodes
             if n.op == 'call_module']
    assert len(calls) == len(set(calls))
    layers = {id(network.get_submodule(target)) for target in calls}
    assert len(layers) == len(calls)


def test_every_parameter_learns(name):
    original, inputs = small(name)
    network = copy.deepcopy(original).train()
    nn.functional.cross_entropy(network(inputs), torch.arange(8) % CLASSES).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    assert network.get_parameter(next(k for k, _ in network.named_parameters())).grad.any()


def test_the_seed_of_the_caller_decides_the_weights(name):
    first, second, other = (_state(name, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def _state(name, seed):
    torch.manual_seed(seed)
    return BACKBONES[name](CLASSES, **SMALL[name]).state_dict()


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::UserWarning')
def test_onnx_runtime_computes_the_same_for_any_batch(name):
    network, inputs = small(name)
    file = io.BytesIO()
    torch.onnx.export(network, (inputs[:2],), file, dynamo=False, opset_version=17,
                      input_names=['x'], dynamic_axes={'x': {0: 'batch'}})
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    with torch.no_grad():
        expected = network(inputs[:3])
    found = torch.from_numpy(session.run(None, {'x': inputs[:3].numpy()})[0])
    assert expected.std() > 1e-2  # else the next line says little
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(('wrong', 'options', 'message'), [
    ('resnet18', {'edge': 100}, 'edge is 100: this network is built for 224, 64, 32'),
    ('resnet34', {'width': 0}, 'widths is .*at least 1'),
    ('residual', {'widths': (8, 16), 'blocks': (1,)}, 'number of depths .*built for 2'),
    ('vgg16', {'edge': 96}, 'edge is 96'),
    ('mobilenet_v2', {'width_multiplier': 0.0}, 'width_multiplier is 0.0: give a number above 0'),
    ('motion_cnn', {'samples': 4}, 'at least 16'),
    ('spectrogram_cnn', {'frames': 5}, 'at least 16'),
    ('vision_transformer', {'patch': 5}, 'multiple of the patch, which is 5'),
    ('vision_transformer', {'depth': 0}, 'depth is 0'),
])
def test_a_network_that_cannot_be_built_is_refused(wrong, options, message):
    with pytest.raises(ConfigError, match=message):
        BACKBONES[wrong](CLASSES, **options)


def test_an_example_of_an_unknown_backbone_or_option_is_refused():
    with pytest.raises(ConfigError, match='no backbone .*resnet18'):
        example_input('resnet19')
    with pytest.raises(ConfigError, match='motion_cnn has no option .*samples'):
        example_input('motion_cnn', edge=32)
