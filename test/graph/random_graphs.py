# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random graphs of the operators that the rewrites know, for property tests."""
from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MOST_ELEMENTS = 4000


class RandomGraph:
    """
    Draws one graph.

    :param seed: of all choices
    :param length: operators to draw, about
    """

    def __init__(self, seed: int, length: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: List[onnx.NodeProto] = []
        self.constants: List[onnx.TensorProto] = []
        self.shapes: Dict[str, Tuple[int, ...]] = {}
        batch = int(self.rng.integers(1, 3))
        self.inputs = {'x': (batch, 4, 6, 6), 'z': (batch, 6, 8)}
        self.shapes.update(self.inputs)
        draws = [getattr(self, name) for name in sorted(dir(self)) if name.startswith('draw_')]
        while len(self.nodes) < length:
            draws[self.rng.integers(len(draws))](self.recent())

    def recent(self) -> str:
        """Return a tensor, late ones more often."""
        names = list(self.shapes)
        return names[int(len(names) * self.rng.random() ** 0.4)]

    def whole(self, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def constant(self, *shape: int, around: float = 0.0) -> str:
        """Add random numbers."""
        value = around + 0.5 * self.rng.standard_normal(shape)
        return self.given(value.astype(np.float32))

    def given(self, value) -> str:
        """Add a constant."""
        name = 'c%d' % len(self.constants)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        """Add whole numbers."""
        return self.given(np.asarray(values, np.int64))

    def op(self, kind: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]],
           **attributes) -> List[str]:
        """Add an operator and its results of some shapes."""
        if any(int(np.prod(s)) > MOST_ELEMENTS for s in shapes):
            return []
        made = ['t%d_%d' % (len(self.nodes), i) for i in range(len(shapes))]
        self.nodes.append(helper.make_node(kind, inputs, made, 'n%d' % len(self.nodes),
                                           **attributes))
        for name, shape in zip(made, shapes):
            self.shapes[name] = tuple(int(e) for e in shape)
        return made

    def draw_unary(self, x: str) -> None:
        kind = ['Relu', 'Neg', 'Sigmoid', 'Identity', 'Tanh', 'Dropout', 'Abs'][self.whole(0, 6)]
        self.op(kind, [x], [self.shapes[x]])

    def draw_clamp(self, x: str) -> None:
        bound = self.given(np.float32(self.whole(-2, 2) / 2))
        kind = ['Min', 'Max', 'Clip'][self.whole(0, 2)]
        pair = [x, bound] if kind == 'Clip' or self.whole(0, 1) else [bound, x]
        self.op(kind, pair, [self.shapes[x]])

    def draw_constant_operand(self, x: str) -> None:
        shape = self.shapes[x]
        kept = [e if self.whole(0, 1) else 1 for e in shape][self.whole(0, len(shape)):]
        kind = ['Add', 'Mul', 'Sub', 'Div'][self.whole(0, 3)]
        number = self.constant(*kept, around=3.0 if kind == 'Div' else 1.0)
        if self.whole(0, 4) == 0:
            number = self.given(np.float32({'Add': 0, 'Sub': 0}.get(kind, 1)))
        swapped = self.whole(0, 1) and kind != 'Div'
        self.op(kind, [number, x] if swapped else [x, number], [shape])

    def draw_two(self, x: str) -> None:
        same = [n for n, s in self.shapes.items() if s == self.shapes[x]]
        other = same[self.whole(0, len(same) - 1)]
        self.op(['Add', 'Mul', 'Max', 'Sum'][self.whole(0, 3)], [x, other], [self.shapes[x]])

    def draw_transpose(self, x: str) -> None:
        shape = self.shapes[x]
        perm = [int(a) for a in self.rng.permutation(len(shape))]
        if len(shape) == 4 and self.whole(0, 2):
            perm = [[0, 2, 3, 1], [0, 3, 1, 2]][self.whole(0, 1)]
        made = self.op('Transpose', [x], [[shape[a] for a in perm]], perm=perm)
        if made and self.whole(0, 1):
            back = [int(a) for a in np.argsort(perm)]
            self.op('Transpose', made, [shape], perm=back)

    def draw_view(self, x: str) -> None:
        shape, choice = list(self.shapes[x]), self.whole(0, 3)
        if choice == 0 and len(shape) < 6:
            axis = self.whole(0, len(shape))
            self.op('Unsqueeze', [x, self.integers(axis)], [shape[:axis] + [1] + shape[axis:]])
        elif choice == 1 and 1 in shape and len(shape) > 1:
            axis = shape.index(1)
            self.op('Squeeze', [x, self.integers(axis)], [shape[:axis] + shape[axis + 1:]])
        elif choice == 2:
            axis = self.whole(0, len(shape))
            self.op('Flatten', [x], [[np.prod(shape[:axis]), np.prod(shape[axis:])]], axis=axis)
        elif len(shape) > 1:
            axis = self.whole(0, len(shape) - 2)
            merged = shape[:axis] + [shape[axis] * shape[axis + 1]] + shape[axis + 2:]
            self.op('Reshape', [x, self.integers(*merged)], [merged])

    def draw_split_axis(self, x: str) -> None:
        shape = list(self.shapes[x])
        axis = self.whole(0, len(shape) - 1)
        if shape[axis] % 2 == 0 and len(shape) < 6:
            parts = shape[:axis] + [2, shape[axis] // 2] + shape[axis + 1:]
            self.op('Reshape', [x, self.integers(*parts)], [parts])

    def draw_computed_view(self, x: str) -> None:
        shape = self.shapes[x]
        made = self.op('Shape', [x], [[len(shape)]])
        first = self.op('Slice', [made[0], self.integers(0), self.integers(1)], [[1]])
        rest = int(np.prod(shape[1:]))
        target = self.op('Concat', [first[0], self.integers(rest)], [[2]], axis=0)
        for name in (*made, *first, *target):
            del self.shapes[name]
        self.op('Reshape', [x, target[0]], [[shape[0], rest]])

    def draw_slice(self, x: str) -> None:
        shape = list(self.shapes[x])
        axis = self.whole(0, len(shape) - 1)
        start, step = self.whole(0, shape[axis] - 1), self.whole(1, 2)
        taken = len(range(shape[axis])[start::step])
        self.op('Slice', [x, self.integers(start), self.integers(2**31), self.integers(axis),
                          self.integers(step)], [shape[:axis] + [taken] + shape[axis + 1:]])

    def draw_concat(self, x: str) -> None:
        shape = list(self.shapes[x])
        axis = self.whole(0, len(shape) - 1)
        self.op('Concat', [x, x], [shape[:axis] + [2 * shape[axis]] + shape[axis + 1:]],
                axis=axis)

    def draw_split(self, x: str) -> None:
        shape = list(self.shapes[x])
        axis = self.whole(0, len(shape) - 1)
        if shape[axis] > 1:
            sizes = [1, shape[axis] - 1]
            parts = self.op('Split', [x, self.integers(*sizes)],
                            [shape[:axis] + [s] + shape[axis + 1:] for s in sizes], axis=axis)
            if self.whole(0, 1):
                self.op('Concat', parts, [shape], axis=axis)

    def draw_reduce(self, x: str) -> None:
        shape = list(self.shapes[x])
        axis, keep = self.whole(0, len(shape) - 1), self.whole(0, 1)
        if len(shape) > 1:
            left = shape[:axis] + [1] * keep + shape[axis + 1:]
            self.op(['ReduceMean', 'ReduceMax'][self.whole(0, 1)], [x], [left], axes=[axis],
                    keepdims=keep)

    def draw_softmax(self, x: str) -> None:
        self.op('Softmax', [x], [self.shapes[x]], axis=self.whole(-1, len(self.shapes[x]) - 1))

    def draw_pad(self, x: str) -> None:
        shape = self.shapes[x]
        pads = [self.whole(0, 1) if i % len(shape) > 1 else 0 for i in range(2 * len(shape))]
        wide = [e + pads[i] + pads[i + len(shape)] for i, e in enumerate(shape)]
        made = self.op('Pad', [x, self.integers(*pads)], [wide])
        if made:
            self.draw_window(made[0])

    def draw_window(self, x: str) -> None:
        shape = self.shapes[x]
        if len(shape) != 4 or min(shape[2:]) < 3:
            return
        result = (*shape[:2], shape[2] - 1, shape[3] - 1)
        kind = ['MaxPool', 'AveragePool'][self.whole(0, 1)]
        self.op(kind, [x], [result], kernel_shape=[2, 2])

    def draw_conv(self, x: str) -> None:
        shape = self.shapes[x]
        if len(shape) != 4 or min(shape[2:]) < 3 or shape[1] > 16:
            return
        pad, outputs = self.whole(0, 1), self.whole(1, 2) * 2
        group = 2 if shape[1] % 2 == 0 and self.whole(0, 1) else 1
        inputs = [x, self.constant(outputs, shape[1] // group, 3, 3)]
        inputs += [self.constant(outputs)] * self.whole(0, 1)
        grown = 2 * pad - 2
        made = self.op('Conv', inputs, [(shape[0], outputs, shape[2] + grown, shape[3] + grown)],
                       kernel_shape=[3, 3], pads=[pad] * 4, group=group)
        if made and self.whole(0, 2) == 0:
            self.draw_constant_operand(made[0])

    def draw_norm(self, x: str) -> None:
        shape = self.shapes[x]
        if len(shape) > 1:
            width = shape[1]
            positive = self.given((0.5 + self.rng.random(width)).astype(np.float32))
            self.op('BatchNormalization', [
                x, self.constant(width, around=1.0), self.constant(width),
                self.constant(width), positive], [shape])

    def draw_product(self, x: str) -> None:
        shape = self.shapes[x]
        if len(shape) < 2 or shape[-1] > 64:
            return
        outputs = self.whole(1, 2) * 4
        made = self.op('MatMul', [x, self.constant(shape[-1], outputs)],
                       [[*shape[:-1], outputs]])
        if made and self.whole(0, 2):
            self.op('Add', [self.constant(outputs), made[0]], [self.shapes[made[0]]])

    def draw_gemm(self, x: str) -> None:
        shape = self.shapes[x]
        if len(shape) == 2 and max(shape) <= 300:
            turned = self.whole(0, 1)
            weights = self.constant(*((6, shape[1]) if turned else (shape[1], 6)))
            self.op('Gemm', [x, weights] + [self.constant(6)] * self.whole(0, 1),
                    [[shape[0], 6]], transB=turned, alpha=0.5, beta=0.5)

    def draw_casts(self, x: str) -> None:
        wide = self.op('Cast', [x], [self.shapes[x]], to=TensorProto.DOUBLE)
        del self.shapes[wide[0]]
        self.op('Cast', wide, [self.shapes[x]], to=TensorProto.FLOAT)

    def model(self) -> onnx.ModelProto:
        """Return the graph with some of its last tensors as outputs."""
        last = [n for n in list(self.shapes)[-12:] if n not in self.inputs]
        outputs = [n for i, n in enumerate(last) if i == len(last) - 1 or self.whole(0, 2) == 0]
        graph = helper.make_graph(
            self.nodes, 'random',
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
             for n, s in self.inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n])
             for n in outputs], self.constants)
        return helper.make_model(graph, ir_version=8,
                                 opset_imports=[helper.make_opsetid('', 17)])


def random_graph(seed: int, length: int = 24) -> onnx.ModelProto:
    """Return a valid random graph."""
    return RandomGraph(seed, length).model()
