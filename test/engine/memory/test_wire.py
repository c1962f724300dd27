# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip('onnx', reason='onnx is not installed (extra train)')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from crowdhmt_ros.engine.memory.wire import Place, piece, read_wire, value_info  # noqa: E402
from crowdhmt_ros.errors import BackendError  # noqa: E402
from crowdhmt_ros.types import TensorSpec  # noqa: E402

SPEC = TensorSpec('x', 'float32', (1, 300))


def model():
    weight = np.arange(300, dtype=np.float32)
    nodes = [helper.make_node('Mul', ['x', 'w'], ['a'], name='scale'),
             helper.make_node('Relu', ['a'], ['b']),
             helper.make_node('Add', ['b', 'a'], ['y'])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 300]) for n in 'xy']
    return helper.make_model(
        helper.make_graph(nodes, 'g', values[:1], values[1:],
                          [numpy_helper.from_array(weight, 'w')]),
        opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


@pytest.fixture
def path(tmp_path):
    onnx.save_model(model(), tmp_path / 'g.onnx', save_as_external_data=True, location='g.bin',
                    size_threshold=0)
    return tmp_path / 'g.onnx'


def test_what_a_file_holds_is_read(path):
    graph = read_wire(path)
    assert [(n.name, n.operator, n.inputs, n.outputs) for n in graph.nodes] == [
        ('scale', 'Mul', ('x', 'w'), ('a',)), ('b', 'Relu', ('a',), ('b',)),
        ('y', 'Add', ('b', 'a'), ('y',))]
    assert graph.places == {'w': Place('g.bin', 0, 1200)}
    assert list(graph.inputs) == ['x']
    assert list(graph.outputs) == ['y']
    assert [graph.weight_bytes(n) for n in graph.nodes] == [1200, 0, 0]
    assert not any(n.nested for n in graph.nodes)


def test_pieces_one_after_another_give_what_the_graph_gives(path, tmp_path):
    graph = read_wire(path)
    info = {n: value_info(n, TensorSpec(n, 'float32', (1, 300))) for n in 'ab'}
    cuts = [(graph.nodes[:1], graph.inputs, {'a': info['a']}),
            (graph.nodes[1:], {'a': info['a']}, graph.outputs)]
    value = np.random.default_rng(0).standard_normal((1, 300)).astype(np.float32)
    expected = onnxruntime.InferenceSession(str(path)).run(None, {'x': value})[0]
    for number, (nodes, inputs, outputs) in enumerate(cuts):
        whole = piece(graph, nodes, inputs=inputs, outputs=outputs)
        onnx.checker.check_model(onnx.load_from_string(whole), full_check=True) if number else None
        (tmp_path / 'piece.onnx').write_bytes(whole)
        session = onnxruntime.InferenceSession(str(tmp_path / 'piece.onnx'))
        (value,) = session.run(None, {session.get_inputs()[0].name: value})
    np.testing.assert_array_equal(value, expected)


def test_a_tensor_is_described_as_onnx_describes_it():
    said = onnx.ValueInfoProto.FromString(value_info('x', SPEC))
    assert said == helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 300])
    assert onnx.ValueInfoProto.FromString(value_info('x')).name == 'x'


def test_an_operator_that_holds_a_graph_is_known(tmp_path):
    inner = helper.make_graph([helper.make_node('Relu', ['x'], ['r'])], 'i', [], [
        helper.make_tensor_value_info('r', TensorProto.FLOAT, None)])
    node = helper.make_node('If', ['c'], ['y'], then_branch=inner, else_branch=inner)
    infos = [helper.make_tensor_value_info('c', TensorProto.BOOL, [1]),
             helper.make_tensor_value_info('x', TensorProto.FLOAT, [1])]
    outer = helper.make_graph([node], 'g', infos, [
        helper.make_tensor_value_info('y', TensorProto.FLOAT, [1])])
    onnx.save_model(helper.make_model(outer), tmp_path / 'g.onnx')
    assert read_wire(tmp_path / 'g.onnx').nodes[0].nested


@pytest.mark.parametrize('content', [b'', b'\x00', b'\x0b', b'\xff' * 20, b'\x3a\x7f\x01', b'PK'])
def test_what_is_no_graph_is_refused_in_one_line(tmp_path, content):
    (tmp_path / 'g.onnx').write_bytes(content)
    with pytest.raises(BackendError, match='is no graph that can be read'):
        read_wire(tmp_path / 'g.onnx')


def test_any_cut_of_the_bytes_is_refused_or_read(path, tmp_path):
    content = path.read_bytes()
    for length in range(len(content)):
        (tmp_path / 'cut.onnx').write_bytes(content[:length])
        try:
            read_wire(tmp_path / 'cut.onnx')
        except BackendError:
            continue
