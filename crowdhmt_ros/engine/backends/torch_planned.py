# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
PyTorch over one planned arena (P III-C1): what each operator gives lies where the plan says.

PyTorch by itself asks for memory at every operator. Here all of it is one piece that stays, as
large as the plan. Operators that can, write to their place at once - over their dying operand
where that is safe; of the others the result is copied there and let go.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

from crowdhmt_ros.engine.backends.piecewise import arena_of
from crowdhmt_ros.engine.backends.torch import TorchExecutable
from crowdhmt_ros.engine.memory.pieces import ELEMENT_WISE
from crowdhmt_ros.engine.memory_plan import MemoryPlan, Step, plan_memory
from crowdhmt_ros.engine.onnx_file import Node
from crowdhmt_ros.engine.trim import trim
from crowdhmt_ros.types import EngineOptions, Segment

_Into = Callable[[Any, Node, Sequence[Any], Any], Any]


def _clipped(torch: Any, node: Node, inputs: Sequence[Any], out: Any) -> Any:
    limits = [node.attributes.get(name) for name in ('min', 'max')]
    for index, given in enumerate(inputs[1:3]):
        limits[index] = limits[index] if given is None else given.item()
    return None if limits == [None, None] else torch.clamp(inputs[0], *limits, out=out)


def _product(torch: Any, node: Node, inputs: Sequence[Any], out: Any) -> Any:
    a, b = (x.t() if node.attributes.get(name, 0) else x
            for name, x in zip(('transA', 'transB'), inputs))
    if len(inputs) < 3 or inputs[2] is None:
        return None
    return torch.addmm(inputs[2], a, b, beta=node.attributes.get('beta', 1.0),
                       alpha=node.attributes.get('alpha', 1.0), out=out)


def _pair(function: str) -> _Into:
    def into(torch: Any, node: Node, inputs: Sequence[Any], out: Any) -> Any:
        alike = len(inputs) == 2 and inputs[0].dtype == inputs[1].dtype == out.dtype
        return getattr(torch, function)(*inputs, out=out) if alike else None
    return into


def _one(function: str) -> _Into:
    return lambda torch, node, inputs, out: getattr(torch, function)(inputs[0], out=out)


INTO: Mapping[str, _Into] = {
    'Relu': lambda torch, node, inputs, out: torch.clamp(inputs[0], min=0, out=out),
    'Clip': _clipped, 'Gemm': _product, 'MatMul': _pair('matmul'), 'Add': _pair('add'),
    'Sub': _pair('sub'), 'Mul': _pair('mul'), 'Sigmoid': _one('sigmoid'), 'Tanh': _one('tanh'),
    'Concat': lambda torch, node, inputs, out: torch.cat(
        list(inputs), dim=node.attributes.get('axis', 0), out=out)}
"""Operators that write to a place; None where they cannot in that form."""


class PlannedTorchExecutable(TorchExecutable):
    """
    One graph, interpreted over one arena.

    It is run once on zeros to see what flows. For the parameters see `TorchExecutable`.

    :raises BackendError: the verifier refuses the plan
    """

    def __init__(self, torch: Any, graph: Any, constants: Mapping[str, Any],
                 options: EngineOptions, segment: Segment) -> None:
        super().__init__(torch, graph, constants, options, segment)
        self._places: Dict[str, Any] = {}
        flows = self._observed()
        trim()
        self.plan = _plan(graph, flows)
        self._arena = arena_of(self.plan.arena_bytes)
        whole = torch.from_numpy(self._arena)
        for name, offset in self.plan.offsets.items():
            dtype, shape, size = flows[name]
            self._places[name] = whole[offset:offset + size].view(dtype).reshape(shape)

    def _observed(self) -> Dict[str, Tuple[Any, Tuple[int, ...], int]]:
        """Return type, shape and bytes of all that flows."""
        torch, found = self._torch, {}

        def step(node: Node, values: Dict[str, Any]) -> None:
            super(PlannedTorchExecutable, self)._step(node, values)
            for name in (n for n in node.outputs if n in values):
                value = values[name]
                found[name] = (value.dtype, tuple(value.shape),
                               value.numel() * value.element_size())
        with torch.inference_mode():
            self._flow([torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype))
                        for spec in self.inputs], step)
        return found

    def _step(self, node: Node, values: Dict[str, Any]) -> None:
        given = self._given(node, values)
        place = self._places.get(node.outputs[0])
        written = None
        if place is not None and node.operator in INTO:
            written = INTO[node.operator](self._torch, node, given, place)
        if written is None:
            for name, result in zip(node.outputs, self._results(node, given)):
                if name in self._places:
                    self._places[name].copy_(result)
        values.update((name, self._places[name]) for name in node.outputs
                      if name in self._places)


def _plan(graph: Any, flows: Mapping[str, Tuple[Any, Tuple[int, ...], int]]) -> MemoryPlan:
    steps = tuple(Step(node.label, tuple(n for n in dict.fromkeys(node.inputs) if n in flows),
                       tuple(n for n in node.outputs if n in flows), _in_place(node, flows))
                  for node in graph.nodes)
    return plan_memory(steps, {name: size for name, (_, _, size) in flows.items()},
                       kept=[spec.name for spec in graph.outputs if spec.name in flows])


def _in_place(node: Node, flows: Mapping[str, Tuple[Any, Tuple[int, ...], int]]
              ) -> Tuple[Tuple[str, str], ...]:
    """Return the operands that the result may be written over: of its very size and type."""
    if node.domain or node.operator not in ELEMENT_WISE:
        return ()
    result = node.outputs[0]
    return tuple((result, name) for name in node.inputs if name in flows
                 and flows[name][0] == flows[result][0] and flows[name][2] == flows[result][2])
