# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a graph becomes for ncnn, without ncnn."""
import numpy as np
import pytest

from crowdhmt_ros.engine.backends.ncnn_layers import FLOAT32_TAG, MAGIC
from crowdhmt_ros.engine.backends.ncnn_rules import to_ncnn
from crowdhmt_ros.engine.backends.ncnn_writer import NotForNcnnError
from crowdhmt_ros.engine.onnx_file import read_graph

from . import small_graphs
from .small_graphs import Builder


def translated(model, folder):
    return to_ncnn(read_graph(small_graphs.write(model, folder).path))


def layers_of(found):
    lines = found.text.splitlines()
    assert lines[0] == MAGIC
    layers = [line.split() for line in lines[2:]]
    blobs = sum(int(words[3]) for words in layers)
    assert lines[1] == '%d %d' % (len(layers), blobs)
    return layers


def kinds_of(found):
    return [words[0] for words in layers_of(found)]


@pytest.mark.parametrize('graph', small_graphs.EVERYWHERE, ids=lambda g: g.__name__)
def test_every_blob_is_written_once_and_read_at_most_once(tmp_path, graph):
    found = translated(graph(), tmp_path)
    written, read = [], list(found.outputs)
    for words in layers_of(found):
        count_in, count_out = int(words[2]), int(words[3])
        inputs = words[4:4 + count_in]
        assert set(inputs) <= set(written), 'a blob is read before it is written'
        read += inputs
        written += words[4 + count_in:4 + count_in + count_out]
    assert len(set(written)) == len(written)
    assert len(set(read)) == len(read)


def test_normalisation_and_activation_become_part_of_the_convolution(tmp_path):
    found = translated(small_graphs.normalised(), tmp_path)
    assert kinds_of(found) == ['Input', 'Convolution', 'ConvolutionDepthWise']
    assert '9=1' in layers_of(found)[1]


def test_an_activation_that_is_not_the_only_reader_stays_a_layer(tmp_path):
    b = Builder(x=(1, 3, 8, 8))
    x = b.conv('x', 3, 3, pads=(1, 1, 1, 1))
    found = translated(b.model(b.node('Add', b.node('Relu', x), x)), tmp_path)
    assert kinds_of(found) == ['Input', 'Convolution', 'Split', 'ReLU', 'BinaryOp']


def test_what_is_pooled_to_a_vector_is_not_shaped_back_and_forth(tmp_path):
    found = translated(small_graphs.classifier(), tmp_path)
    assert kinds_of(found) == ['Input', 'Pooling', 'Flatten', 'InnerProduct', 'InnerProduct',
                               'Softmax']


def test_weights_come_in_order_each_with_its_tag_and_bias_without(tmp_path):
    b = Builder(x=(1, 2, 5, 5))
    model = b.model(b.conv('x', 2, 3))
    graph = read_graph(small_graphs.write(model, tmp_path).path)
    tag, weight, bias = to_ncnn(graph).weights
    assert bytes(tag) == FLOAT32_TAG
    np.testing.assert_array_equal(np.frombuffer(weight, 'f4').reshape(3, 2, 3, 3),
                                  graph.constants['w0'])
    np.testing.assert_array_equal(np.frombuffer(bias, 'f4'), graph.constants['w1'])


def test_weights_that_are_not_changed_are_not_copied(tmp_path):
    b = Builder(x=(1, 2, 5, 5))
    graph = read_graph(small_graphs.write(b.model(b.conv('x', 2, 3)), tmp_path).path)
    weight = np.frombuffer(to_ncnn(graph).weights[1], np.uint8)
    assert np.shares_memory(weight, graph.constants['w0'])


@pytest.mark.parametrize(('graph', 'lent'), [
    (small_graphs.plain_convolution, True), (small_graphs.input_changed_in_place, False),
    (small_graphs.input_passed_on, False), (small_graphs.pools, False)],
    ids=lambda value: getattr(value, '__name__', str(value)))
def test_only_an_input_that_stays_as_it_is_is_lent(tmp_path, graph, lent):
    assert translated(graph(), tmp_path).lent == (lent,)


def unsupported():
    b = Builder(x=(1, 3, 6, 6))
    yield 'a batch of two', Builder(x=(2, 3, 6, 6)), lambda b: b.conv('x', 3, 3)
    yield 'one spatial axis', Builder(x=(1, 3, 6)), lambda b: b.node(
        'Conv', 'x', b.weight(4, 3, 3))
    yield 'computed weights', Builder(x=(1, 3, 6, 6), w=(4, 3, 3, 3)), lambda b: b.node(
        'Conv', 'x', 'w')
    yield 'a transposition', b, lambda b: b.node('Transpose', 'x', perm=(0, 2, 3, 1))
    yield 'dilated pools', Builder(x=(1, 3, 9, 9)), lambda b: b.node(
        'MaxPool', 'x', kernel_shape=(2, 2), dilations=(2, 2))
    yield 'averages rounded up', Builder(x=(1, 3, 8, 8)), lambda b: b.node(
        'AveragePool', 'x', kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1)
    yield 'other means', Builder(x=(1, 3, 8, 8)), lambda b: b.node('ReduceMean', 'x', axes=(1,))
    yield 'reflections', Builder(x=(1, 3, 8, 8)), lambda b: b.node(
        'Pad', 'x', b.whole(0, 0, 1, 1, 0, 0, 1, 1), mode='reflect')
    yield 'steps', Builder(x=(1, 3, 8, 8)), lambda b: b.node(
        'Slice', 'x', b.whole(0), b.whole(8), b.whole(2), b.whole(2))
    yield 'growing constants', Builder(x=(1, 1, 4, 4)), lambda b: b.node(
        'Add', 'x', b.weight(1, 3, 4, 4))
    yield 'a constant answer', Builder(x=(1, 3, 4, 4)), lambda b: b.node(
        'Identity', b.weight(1, 2))


@pytest.mark.parametrize(('builder', 'node'), [
    pytest.param(b, node, id=name) for name, b, node in unsupported()])
def test_what_no_rule_covers_is_refused_in_one_line(tmp_path, builder, node):
    with pytest.raises(NotForNcnnError) as caught:
        translated(builder.model(node(builder)), tmp_path)
    assert '\n' not in str(caught.value)
