# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip('onnx', reason='onnx is not installed (extra train)')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from crowdhmt_ros.engine.memory.pieces import ROWS, live_bytes  # noqa: E402
from crowdhmt_ros.engine.memory.stripes import striped  # noqa: E402
from crowdhmt_ros.engine.memory.wire import piece, read_wire, value_info  # noqa: E402
from crowdhmt_ros.types import TensorSpec  # noqa: E402

IMAGE = TensorSpec('x', 'float32', (1, 3, 37, 20))


def attributes(kernel, stride, pad, dilation=1):
    return {'kernel_shape': [kernel] * 2, 'strides': [stride] * 2, 'pads': [pad] * 4,
            'dilations': [dilation] * 2}


def saved(path, *, pool=None, first=None, kernel=7, extra=()):
    """Save two convolutions with a pooling between; the first result is by far the largest."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
               for n, s in (('v', (32, 3, kernel, kernel)), ('w', (8, 32, 3, 3)))]
    nodes = [helper.make_node('Conv', ['x', 'v'], ['a'], **(first or attributes(7, 1, 3))),
             helper.make_node('MaxPool', ['a'], ['b'], **(pool or attributes(3, 2, 1))),
             helper.make_node('Conv', ['b', 'w'], ['c'], **attributes(3, 1, 2, 2)),
             helper.make_node('Relu', ['c'], ['y']), *extra]
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info('x', TensorProto.FLOAT, IMAGE.shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)], weights)
    onnx.save_model(helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid('', 17)]), path)
    return read_wire(path)


def run(graph, nodes, tensors, names, wanted):
    """Run some operators and return tensors."""
    model = piece(graph, nodes, inputs={n: value_info(n, tensors[n]) for n in names},
                  outputs={n: value_info(n) for n in wanted})
    session = onnxruntime.InferenceSession(model)
    return dict(zip(wanted, session.run(list(wanted), {n: names[n] for n in names})))


def flows(graph):
    """Return what flows when all runs at once."""
    value = np.random.default_rng(1).standard_normal(IMAGE.shape).astype(np.float32)
    found = run(graph, graph.nodes, {'x': IMAGE}, {'x': value},
                [n.outputs[0] for n in graph.nodes])
    specs = {n: TensorSpec(n, 'float32', a.shape) for n, a in found.items()}
    return {'x': value, **found}, specs


def run_striped(found, image):
    """Run operator by operator, copying rows where the graph says so."""
    values = {'x': image}
    for node in found.graph.nodes:
        if node.domain == ROWS:
            copy = found.copies[node.name]
            rows = slice(copy.first, copy.first + found.tensors[copy.stripe].shape[2])
            if copy.taken:
                values[copy.stripe] = np.ascontiguousarray(values[copy.whole][:, :, rows])
            else:
                whole = values.setdefault(
                    copy.whole, np.full(found.tensors[copy.whole].shape, np.nan, np.float32))
                whole[:, :, rows] = values[copy.stripe]
        else:
            given = {n: values[n] for n in node.inputs if n in values}
            values.update(run(found.graph, [node], {'x': IMAGE, **found.tensors}, given,
                              node.outputs))
    return values['y']


def test_stripes_compute_the_same_values_in_less_memory(tmp_path):
    graph = saved(tmp_path / 'g.onnx')
    whole, specs = flows(graph)
    found = striped(graph, specs, {'x': IMAGE})
    assert live_bytes(found.graph, found.tensors) < 0.6 * live_bytes(graph, specs)
    assert {c.whole for c in found.copies.values()} >= {'x'}
    np.testing.assert_allclose(run_striped(found, whole['x']), whole['y'], rtol=1e-6, atol=1e-6)


def test_every_stripe_has_the_shape_that_is_said(tmp_path):
    graph = saved(tmp_path / 'g.onnx', kernel=5, first=attributes(5, 2, 1),
                  pool=attributes(2, 1, 0))
    whole, specs = flows(graph)
    found = striped(graph, specs, {'x': IMAGE})
    assert found.copies
    np.testing.assert_allclose(run_striped(found, whole['x']), whole['y'], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('changes', [
    {'first': {'auto_pad': 'SAME_UPPER', 'kernel_shape': [7, 7]}},
    {'pool': {**attributes(3, 2, 1), 'ceil_mode': 1}},
    {'extra': [helper.make_node('GlobalMaxPool', ['a'], ['z'])]}])
def test_what_cannot_be_cut_stays_as_it_is(tmp_path, changes):
    graph = saved(tmp_path / 'g.onnx', **changes)
    _, specs = flows(graph)
    found = striped(graph, specs, {'x': IMAGE})
    assert not any(c.whole == 'x' for c in found.copies.values())


def test_a_graph_whose_shapes_are_unknown_stays_as_it_is(tmp_path):
    graph = saved(tmp_path / 'g.onnx')
    assert striped(graph, {}, {'x': IMAGE}).graph is graph
