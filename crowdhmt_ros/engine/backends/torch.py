# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
PyTorch behind the engine seam (P III-C1): the graph's operators, one after the other.

It is the slowest engine and the most obliging one: what it computes is what the graph says, a
tensor lives until its last reader has run, and every step can be looked at. Memory mode 'fast'
keeps images with their channels last, which its convolutions like best; 'lean' runs straight on
the mapped weights; 'planned' does so over one planned arena (`torch_planned`).
"""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Type

import numpy as np

from crowdhmt_ros.engine.backends.common import (
    Abilities,
    EngineBackend,
    TurnExecutable,
    compare_specs,
    import_engine,
    refuse,
    writable_view,
)
from crowdhmt_ros.engine.backends.torch_operators import OPERATORS, NotForTorchError
from crowdhmt_ros.engine.onnx_file import GraphFile, Node, read_graph
from crowdhmt_ros.types import EngineOptions, Segment

_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
           MemoryError, OSError, NotForTorchError)
_OLDER_SOFTMAX = 13


class TorchExecutable(TurnExecutable):
    """
    One graph, interpreted.

    :param torch: the module
    :param graph: what to compute
    :param constants: its weights as tensors
    """

    def __init__(self, torch: Any, graph: GraphFile, constants: Mapping[str, Any],
                 options: EngineOptions, segment: Segment) -> None:
        super().__init__(segment, errors=_ERRORS)
        self._torch = torch
        self._graph = graph
        self._constants = constants
        self._options = options
        self._steps = tuple(zip(graph.nodes, last_reads(graph)))
        self._inputs: List[Any] = []
        self._outputs: List[Any] = []

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        self._inputs = [self._torch.from_numpy(writable_view(b)) for b in inputs]
        self._outputs = [self._torch.from_numpy(buffer) for buffer in outputs]

    def _compute(self) -> None:
        torch = self._torch
        if torch.get_num_threads() != self._options.threads:
            torch.set_num_threads(self._options.threads)
        with torch.inference_mode():
            values = self._flow(self._inputs, self._step)
            for spec, buffer in zip(self._graph.outputs, self._outputs):
                found = values[spec.name] if spec.name in values else self._constants[spec.name]
                buffer.copy_(found.reshape(buffer.shape))

    def _flow(self, inputs: Sequence[Any], step: Callable[[Node, Dict[str, Any]], None]
              ) -> Dict[str, Any]:
        """Take all steps; return what is alive behind the last."""
        values = {spec.name: _arranged(self._torch, tensor, self._options)
                  for spec, tensor in zip(self._graph.inputs, inputs)}
        for node, dying in self._steps:
            step(node, values)
            for name in dying:
                values.pop(name, None)
        return values

    def _step(self, node: Node, values: Dict[str, Any]) -> None:
        values.update(zip(node.outputs, self._results(node, self._given(node, values))))

    def _given(self, node: Node, values: Mapping[str, Any]) -> List[Any]:
        return [None if not name else values[name] if name in values else self._constants[name]
                for name in node.inputs]

    def _results(self, node: Node, given: Sequence[Any]) -> Tuple[Any, ...]:
        return OPERATORS[node.operator](self._torch, node, given)


def last_reads(graph: GraphFile) -> Tuple[Tuple[str, ...], ...]:
    """Return for each node the tensors that nothing after it reads."""
    alive = {spec.name for spec in graph.outputs}
    found = []
    for node in reversed(graph.nodes):
        dying = {name for name in (*node.inputs, *node.outputs) if name not in alive}
        found.append(tuple(sorted(dying)))
        alive |= dying
    return tuple(reversed(found))


class TorchBackend(EngineBackend[TorchExecutable]):
    """
    PyTorch on the processor; a quantised graph is computed as it says, in real numbers.

    :raises BackendError: when it is not installed
    """

    def __init__(self) -> None:
        self._torch = import_engine('torch', 'PyTorch', 'pip install crowdhmt-ros[train]')
        super().__init__(Abilities('torch', 'PyTorch', ('fp32', 'bf16'),
                                   ('fast', 'lean', 'planned')),
                         str(self._torch.__version__), _ERRORS)

    def _objection(self, segment: Segment) -> str:
        return self._unknown(segment, read_graph(segment.path))

    def _make(self, segment: Segment, options: EngineOptions) -> TorchExecutable:
        graph = read_graph(segment.path)
        compare_specs(segment, 'input', segment.inputs, graph.inputs)
        compare_specs(segment, 'output', segment.outputs, graph.outputs)
        refuse(self._unknown(segment, graph))
        constants = {name: _weight(self._torch, array, options)
                     for name, array in graph.constants.items()}
        made: Type[TorchExecutable] = TorchExecutable
        if options.memory_mode == 'planned':
            from crowdhmt_ros.engine.backends.torch_planned import PlannedTorchExecutable
            made = PlannedTorchExecutable
        return made(self._torch, graph, constants, options, segment)

    def _unknown(self, segment: Segment, graph: GraphFile) -> str:
        for node in graph.nodes:
            older = node.operator == 'Softmax' and graph.opset < _OLDER_SOFTMAX
            if node.domain or node.operator not in OPERATORS or older:
                which = node.label + (' of opset %d' % graph.opset if older else '')
                return self._not_for_me(segment, 'there is no function for ' + which)
        return ''


def _weight(torch: Any, array: np.ndarray, options: EngineOptions) -> Any:
    return _arranged(torch, torch.from_numpy(writable_view(array)), options)


def _arranged(torch: Any, tensor: Any, options: EngineOptions) -> Any:
    """Return a tensor in the precision and order in which it is computed with."""
    if options.precision == 'bf16' and tensor.is_floating_point():
        tensor = tensor.to(torch.bfloat16)
    if options.memory_mode == 'fast' and tensor.dim() == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor
