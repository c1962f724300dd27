# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How values flow through a graph: orders, chains and what is live behind each operator. Offline.

Only what lies between the graph's inputs and its outputs flows. Sets of operators are integers
with one bit an operator.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple

import onnx

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.counts import node_macs
from crowdhmt_ros.graph.inference import inferred
from crowdhmt_ros.graph.split import reads

Shape = Tuple[int, ...]
TRAVELLING = {'float16': 2, 'float32': 4, 'float64': 8, 'int8': 1, 'uint8': 1, 'int32': 4,
              'int64': 8, 'bool': 1}
"""Types that may cross a cut -> bytes of one element."""


@dataclass(frozen=True)
class Flow:
    """
    A chain of operators that each read only the one before (an operation flow, P III-B1).

    :param operators: places in the topological order, ascending
    :param inputs: flowing tensors that the first reads
    :param outputs: tensors that the last gives
    :param level: flows of one level do not rest on each other
    """

    operators: Tuple[int, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    level: int


@dataclass(frozen=True)
class Position:
    """
    The state behind an operator of an order.

    :param live: tensors that are computed and still needed, in the order of the graph
    :param waiting: inputs of the graph that are still needed
    """

    live: Tuple[str, ...]
    waiting: Tuple[str, ...]


class Dataflow:
    """
    The operators between inputs and outputs, by their index in the model.

    :param model: it is not changed
    :ivar names: of all operators, the first output where one has none
    :ivar inputs: of the graph, without initialisers
    :ivar outputs: of the graph
    :ivar work: per operator its multiply-accumulates; the elements it gives where the whole
        graph has none
    :ivar makers: flowing tensor -> operator
    :ivar readers: flowing tensor or input -> operators, ascending
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._reads = [reads(node) for node in graph.node]
        self._gives = [tuple(n for n in node.output if n) for node in graph.node]
        self._weights = {t.name: _tensor_bytes(t) for t in graph.initializer}
        self._infos = _infos(model)
        self.names = tuple(node.name or node.output[0] for node in graph.node)
        self.inputs = tuple(v.name for v in graph.input if v.name not in self._weights)
        self.outputs = tuple(v.name for v in graph.output)
        self._all_makers = {n: i for i, given in enumerate(self._gives) for n in given}
        self._before = self._masks()
        self.flowing = self._between()
        self.makers = {n: i for i in self.flowing for n in self._gives[i]}
        self.readers = self._read_by()
        self.work = self._works(graph.node)
        self._own_weights, self._shared_weights = self._weight_readers()

    def _masks(self) -> List[int]:
        """Return for each operator all that it rests on, itself among them."""
        masks: List[int] = []
        for i, names in enumerate(self._reads):
            mask = 1 << i
            for maker in {self._all_makers[n] for n in names if n in self._all_makers}:
                if maker >= i:
                    raise ExportError('operator %s runs before what it reads; sort the graph'
                                      % self.names[i])
                mask |= masks[maker]
            masks.append(mask)
        return masks

    def _between(self) -> Tuple[int, ...]:
        """Return the operators that rest on an input and that an output rests on."""
        needed = 0
        for name in self.outputs:
            if name in self._all_makers:
                needed |= self._before[self._all_makers[name]]
        known = set(self.inputs)
        found: List[int] = []
        for i, names in enumerate(self._reads):
            if known.intersection(names):
                known.update(self._gives[i])
                if needed >> i & 1:
                    found.append(i)
        return tuple(found)

    def _read_by(self) -> Dict[str, Tuple[int, ...]]:
        found: Dict[str, List[int]] = {}
        for i in self.flowing:
            for name in self._reads[i]:
                if name in self.makers or name in self.inputs:
                    found.setdefault(name, []).append(i)
        return {name: tuple(used) for name, used in found.items()}

    def _works(self, nodes: Sequence[onnx.NodeProto]) -> Tuple[int, ...]:
        shapes = {n: shape for n, (_, shape) in self._infos.items() if shape is not None}
        work = [0] * len(nodes)
        for i in self.flowing:
            work[i] = node_macs(nodes[i], shapes)
        if not any(work):
            for i in self.flowing:
                work[i] = sum(math.prod(shapes[n]) for n in self._gives[i] if n in shapes)
        return tuple(work)

    def _weight_readers(self) -> Tuple[List[int], List[Tuple[int, int]]]:
        """Return the bytes that one operator alone reads, and (bytes, readers) of the rest."""
        used: Dict[str, int] = {}
        for i, names in enumerate(self._reads):
            for name in names:
                if name in self._weights:
                    used[name] = used.get(name, 0) | 1 << i
        own, shared = [0] * len(self._reads), []
        for name, mask in used.items():
            if mask & (mask - 1):
                shared.append((self._weights[name], mask))
            else:
                own[mask.bit_length() - 1] += self._weights[name]
        return own, shared

    def order(self, *, short_first: bool) -> Tuple[int, ...]:
        """
        Return a topological order of what flows, one branch after the other.

        :param short_first: which branch of a fork runs first: the one with the fewest operators
            still to come on its longest way, or the most
        """
        after = {i: sorted({r for n in self._gives[i] for r in self.readers.get(n, ())})
                 for i in self.flowing}
        height: Dict[int, int] = {}
        for i in reversed(self.flowing):
            height[i] = 1 + max((height[r] for r in after[i]), default=0)
        sign = -1 if short_first else 1
        missing = {i: len({self.makers[n] for n in self._reads[i] if n in self.makers})
                   for i in self.flowing}
        ready = sorted((i for i in self.flowing if not missing[i]),
                       key=lambda i: (sign * height[i], -i))
        done: List[int] = []
        while ready:
            done.append(ready.pop())
            for reader in after[done[-1]]:
                missing[reader] -= 1
            ready += sorted((r for r in after[done[-1]] if not missing[r]),
                            key=lambda r: (sign * height[r], -r))
        return tuple(done)

    def positions(self, order: Sequence[int]) -> Tuple[Position, ...]:
        """Return the state behind each operator of an order but the last."""
        left = {name: len(used) for name, used in self.readers.items()}
        live: Dict[str, None] = {}
        waiting = dict.fromkeys(n for n in self.inputs if left.get(n))
        found: List[Position] = []
        for i in order[:-1]:
            for name in {n for n in self._reads[i] if n in left}:
                left[name] -= 1
                if not left[name]:
                    live.pop(name, None)
                    waiting.pop(name, None)
            live.update(dict.fromkeys(n for n in self._gives[i] if left.get(n)))
            found.append(Position(tuple(sorted(live, key=lambda n: (self.makers[n], n))),
                                  tuple(waiting)))
        return tuple(found)

    def flows(self, order: Sequence[int]) -> Tuple[Flow, ...]:
        """Return the chains of an order; every operator is in exactly one."""
        place = {index: k for k, index in enumerate(order)}
        makers = {i: {self.makers[n] for n in self._reads[i] if n in self.makers} for i in order}
        readers = {i: {r for n in self._gives[i] for r in self.readers.get(n, ())} for i in order}
        chains: List[List[int]] = []
        chain_of: Dict[int, int] = {}
        level: List[int] = []
        for i in order:
            if (len(makers[i]) == 1 and not any(n in self.inputs for n in self._reads[i])
                    and len(readers[next(iter(makers[i]))]) == 1):
                chain_of[i] = chain_of[next(iter(makers[i]))]
                chains[chain_of[i]].append(i)
                continue
            chain_of[i] = len(chains)
            chains.append([i])
            level.append(1 + max((level[chain_of[m]] for m in makers[i]), default=-1))
        return tuple(
            Flow(tuple(place[i] for i in chain),
                 tuple(n for n in self._reads[chain[0]] if n in self.makers or n in self.inputs),
                 tuple(n for n in self._gives[chain[-1]] if n in self.readers
                       or n in self.outputs), depth)
            for chain, depth in zip(chains, level))

    def carried(self, tensors: Sequence[str]) -> Optional[Tuple[str, ...]]:
        """
        Return the outputs that a head computes beside the tensors that cross.

        They rest on none of these, as `graph.split` demands.

        :param tensors: live behind some operator of an order
        :returns: None where an output rests on such a tensor and on what lies before it
        """
        cut, found = set(tensors), []
        for name in self.outputs:
            if name in cut:
                continue
            reached = self._reached(name, cut)
            if reached.intersection(self.inputs):
                if reached & cut:
                    return None
                found.append(name)
        return tuple(found)

    def _reached(self, start: str, stop: Set[str]) -> Set[str]:
        seen: Set[str] = set()
        waiting = [start]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                if name in self._all_makers and name not in stop:
                    waiting.extend(self._reads[self._all_makers[name]])
        return seen

    def upstream(self, tensors: Sequence[str]) -> Tuple[int, ...]:
        """Return all operators that some tensors rest on, ascending."""
        mask = 0
        for name in tensors:
            if name in self._all_makers:
                mask |= self._before[self._all_makers[name]]
        return tuple(i for i, bit in enumerate(reversed(bin(mask)[2:])) if bit == '1')

    def weight_bytes(self, operators: Sequence[int]) -> int:
        """Return the size of all initialisers that some operators read, each once."""
        mask = sum(1 << i for i in operators)
        return (sum(self._own_weights[i] for i in operators)
                + sum(size for size, used in self._shared_weights if used & mask))

    def size_bytes(self, tensor: str) -> Optional[int]:
        """Return the size of a tensor, None where it is not known or may not cross."""
        dtype, shape = self._infos.get(tensor, ('', None))
        if shape is None or dtype not in TRAVELLING or not all(shape):
            return None
        return math.prod(shape) * TRAVELLING[dtype]


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return int(math.prod(tensor.dims) * kind.itemsize)


def _infos(model: onnx.ModelProto) -> Dict[str, Tuple[str, Optional[Shape]]]:
    """Return type and fixed shape of every tensor, None for a shape that is not known."""
    graph = inferred(model, strict=False)
    found: Dict[str, Tuple[str, Optional[Shape]]] = {
        t.name: (dtype_of(t.data_type), tuple(t.dims)) for t in model.graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        extents = [d.dim_value if d.HasField('dim_value') else -1 for d in kind.shape.dim]
        known = kind.HasField('shape') and all(e >= 0 for e in extents)
        found[value.name] = (dtype_of(kind.elem_type), tuple(extents) if known else None)
    return found


def dtype_of(element_type: int) -> str:
    """Return the numpy type name of an ONNX element type, '' where there is none."""
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(element_type).name)
    except KeyError:
        return ''
