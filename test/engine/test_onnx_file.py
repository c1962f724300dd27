# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crowdhmt_ros.engine.onnx_file import read_graph
from crowdhmt_ros.errors import BackendError

onnx = pytest.importorskip('onnx', reason='onnx is not installed (extra train)')
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper


def test_a_segment_is_read_as_the_bundle_declares_it(segments):
    for segment in segments.values():
        graph = read_graph(segment.path)
        assert (graph.inputs, graph.outputs) == (segment.inputs, segment.outputs)


def test_nodes_attributes_and_weights_are_those_of_the_file(segments):
    path = segments['wide/whole'].path
    graph, model = read_graph(path), onnx.load(path)
    assert graph.opset == model.opset_import[0].version
    assert [n.operator for n in graph.nodes] == [n.op_type for n in model.graph.node]
    for node, wanted in zip(graph.nodes, model.graph.node):
        assert (node.inputs, node.outputs) == (tuple(wanted.input), tuple(wanted.output))
        for attribute in wanted.attribute:
            value = helper.get_attribute_value(attribute)
            assert node.attributes[attribute.name] == (
                tuple(value) if isinstance(value, list) else value)
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(graph.constants[tensor.name], numpy_helper.to_array(tensor))


def tensor_graph(*tensors, nodes=(), shape=(1,)):
    graph = helper.make_graph(
        [helper.make_node('Identity', ['x'], ['y']), *nodes], 'g',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, shape)], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])


@pytest.mark.parametrize('dtype', ['float32', 'float16', 'float64', 'int64', 'int32', 'int8',
                                   'uint8', 'uint16', 'bool'])
@pytest.mark.parametrize('raw', [True, False])
def test_values_of_every_type_raw_or_one_by_one(tmp_path, dtype, raw):
    values = np.array([[0, 1, 3], [1, 0, 100]]).astype(dtype)
    if raw:
        tensor = numpy_helper.from_array(values, 'w')
    else:
        tensor = helper.make_tensor('w', helper.np_dtype_to_tensor_dtype(values.dtype),
                                    values.shape, values.reshape(-1).tolist())
    path = tmp_path / 'm.onnx'
    path.write_bytes(tensor_graph(tensor).SerializeToString())
    found = read_graph(str(path)).constants['w']
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, values)


def test_negative_numbers_zeros_and_empty_lists_survive(tmp_path):
    node = helper.make_node('Any', ['x'], ['z'], minus=-3, zero=0, none=0.0, text='word',
                            numbers=[-1, 0, 5], reals=[0.5, -2.0])
    empty = helper.make_attribute('empty', [1])
    del empty.ints[:]
    node.attribute.append(empty)
    path = tmp_path / 'm.onnx'
    path.write_bytes(tensor_graph(nodes=[node]).SerializeToString())
    assert dict(read_graph(str(path)).nodes[1].attributes) == {
        'minus': -3, 'zero': 0, 'none': 0.0, 'text': 'word', 'numbers': (-1, 0, 5),
        'reals': (0.5, -2.0), 'empty': ()}


def test_constant_nodes_are_constants(tmp_path):
    nodes = [helper.make_node('Constant', [], ['a'],
                              value=numpy_helper.from_array(np.float32([1, 2]))),
             helper.make_node('Constant', [], ['b'], value_ints=[4, 5])]
    path = tmp_path / 'm.onnx'
    path.write_bytes(tensor_graph(nodes=nodes).SerializeToString())
    graph = read_graph(str(path))
    assert [n.operator for n in graph.nodes] == ['Identity']
    np.testing.assert_array_equal(graph.constants['a'], [1, 2])
    np.testing.assert_array_equal(graph.constants['b'], [4, 5])


def test_weights_beside_the_file_are_mapped_and_never_written(segments, tmp_path):
    source = Path(segments['wide/whole'].path)
    path = shutil.copy(source, tmp_path)
    weights = tmp_path / 'initialisers.bin'
    weights.write_bytes(source.with_name('initialisers.bin').read_bytes())
    before = weights.read_bytes()
    for array in read_graph(path).constants.values():
        array[...] = 7
    assert weights.read_bytes() == before


@pytest.mark.parametrize('location', ['../secret.bin', '/etc/hostname', 'a/b.bin', ''])
def test_data_outside_the_folder_is_refused(tmp_path, location):
    tensor = TensorProto(name='w', dims=[1], data_type=TensorProto.FLOAT,
                         data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key='location', value=location)
    (tmp_path / 'secret.bin').write_bytes(b'1234')
    path = tmp_path / 'inner' / 'm.onnx'
    path.parent.mkdir()
    path.write_bytes(tensor_graph(tensor).SerializeToString())
    with pytest.raises(BackendError, match='materialise'):
        read_graph(str(path))


def test_weights_that_end_too_early_are_refused(segments, tmp_path):
    source = Path(segments['wide/whole'].path)
    path = shutil.copy(source, tmp_path)
    content = source.with_name('initialisers.bin').read_bytes()
    (tmp_path / 'initialisers.bin').write_bytes(content[:100])
    with pytest.raises(BackendError, match='ends beyond its file'):
        read_graph(path)


def test_a_shape_that_is_not_fixed_is_refused(tmp_path):
    path = tmp_path / 'm.onnx'
    path.write_bytes(tensor_graph(shape=('n',)).SerializeToString())
    with pytest.raises(BackendError, match='no fixed shape'):
        read_graph(str(path))


def test_a_tensor_that_nothing_writes_is_refused(tmp_path):
    path = tmp_path / 'm.onnx'
    path.write_bytes(tensor_graph(
        nodes=[helper.make_node('Relu', ['ghost'], ['z'])]).SerializeToString())
    with pytest.raises(BackendError, match='ghost'):
        read_graph(str(path))


@settings(max_examples=150, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_damaged_is_one_clear_line_or_harmless(segments, tmp_path, data):
    source = Path(segments['wide/whole'].path)
    content = bytearray(source.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / 'm.onnx'
    path.write_bytes(bytes(content))
    shutil.copy(source.with_name('initialisers.bin'), tmp_path)
    said = ''
    try:
        read_graph(str(path))
    except BackendError as error:
        said = str(error)
    assert '\n' not in said
