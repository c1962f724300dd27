# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From any `nn.Module` to a graph whose parameterised layers are submodules (E1, P III-A1).

torch.fx traces what has no data-dependent control flow; torch.export is tried where it fails.
Calls of functions with a layer's parameters (`F.conv2d(x, self.weight)`, what torch.export
writes) are turned back into layers, so that what follows sees one form only.
"""
from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import parametrize

from crowdhmt_ros.errors import ExportError

Shape = Tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Traced:
    """
    A network as a graph of layers.

    :param module: graph and layers; parameters are copies of the user's
    :param shapes: node -> shape of its value for the example, where that is one tensor
    :param method: 'torch.fx' or 'torch.export'
    :param numbers: nodes whose values hold no tensor: extents, what is computed from them
    """

    module: fx.GraphModule
    shapes: Mapping[str, Shape]
    method: str
    numbers: FrozenSet[str] = frozenset()

    def layer(self, node: fx.Node) -> Optional[nn.Module]:
        """Return the layer that a node calls, None for a function."""
        return self.module.get_submodule(str(node.target)) if node.op == 'call_module' else None

    def node(self, name: str) -> fx.Node:
        """Return a node by its name."""
        found: fx.Node = next(n for n in self.module.graph.nodes if n.name == name)
        return found

    def is_parameter(self, node: fx.Node) -> bool:
        """Tell whether a node is a parameter, as opposed to a constant."""
        return node.op == 'get_attr' and isinstance(_value(self.module, node), nn.Parameter)


class _Tracer(fx.Tracer):
    """Stops at torch's own layers only; subclasses of them are looked into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m).__module__.startswith('torch.nn') and not isinstance(m, nn.Sequential)


def trace(module: nn.Module, example: torch.Tensor) -> Traced:
    """
    Trace a network.

    :param module: with one tensor as its input; it is not changed
    :param example: an input, batch of at least 2 first
    :raises ExportError: neither torch.fx nor torch.export can read it, or it cannot run
    """
    own = _plain(copy.deepcopy(module).eval())
    try:
        found, method = fx.GraphModule(own, _Tracer().trace(own)), 'torch.fx'
    except Exception as reason:  # noqa: BLE001 - tracing runs the user's code
        found, method = _exported(own, example, reason), 'torch.export'
    ranks = {n: len(s) for n, s in _recorded(found, example).shapes.items()}
    _as_layers(found, ranks)
    for node in list(found.graph.nodes)[::-1]:  # the user's checks of extents
        if node.target is torch._assert:
            found.graph.erase_node(node)
    found.graph.eliminate_dead_code()
    found.delete_all_unused_submodules()
    found.recompile()
    recorder = _recorded(found, example)
    return Traced(found, recorder.shapes, method, frozenset(recorder.numbers))


def _plain(module: nn.Module) -> nn.Module:
    """Turn parametrised weights into plain ones, and further inputs into their defaults."""
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer):
            assert isinstance(layer.parametrizations, nn.ModuleDict)
            values = {name: getattr(layer, name).detach() for name in layer.parametrizations}
            layer.__class__ = type(layer).__bases__[0]  # its own class is the user's layer's too
            del layer.parametrizations
            for name, value in values.items():
                layer.register_parameter(name, nn.Parameter(value.clone()))
    kind = type(module)
    if len(inspect.signature(kind.forward).parameters) > 2:
        module.__class__ = type(kind.__name__, (kind,), {
            _Tracer.traced_func_name: lambda self, x: kind.forward(self, x)})
    return module


def _exported(module: nn.Module, example: torch.Tensor, reason: Exception) -> fx.GraphModule:
    batch = torch.export.Dim('batch', min=1)
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
        found = program.module()
    except Exception as error:  # noqa: BLE001 - as above
        raise ExportError(
            'the network cannot be traced: torch.fx says "%s", torch.export says "%s"; take '
            'control flow that depends on data out of forward()'
            % (_first_line(reason), _first_line(error))) from error
    assert isinstance(found, fx.GraphModule)
    for node in list(found.graph.nodes):  # the guards of the example's shape
        if node.op == 'call_module' and 'guard' in str(node.target):
            found.graph.erase_node(node)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


class _Recorder(fx.Interpreter):
    """Runs the graph and notes the shapes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: Dict[str, Shape] = {}
        self.numbers: List[str] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.shapes[n.name] = tuple(value.shape)
        elif not _holds_tensor(value):
            self.numbers.append(n.name)
        return value


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(v) for v in value)
    return isinstance(value, torch.Tensor)


def _recorded(module: fx.GraphModule, example: torch.Tensor) -> _Recorder:
    recorder = _Recorder(module)
    try:
        with torch.no_grad():
            recorder.run(example)
    except Exception as error:  # noqa: BLE001 - runs the user's code
        raise ExportError('the network does not run on the example of shape %s: %s'
                          % (tuple(example.shape), _first_line(error))) from error
    return recorder


def _is_parameter(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == 'get_attr'


def _attribute(module: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition('.')
    return getattr(module.get_submodule(owner), name)


def _value(module: nn.Module, node: Any) -> Any:
    return None if node is None else _attribute(module, str(node.target))


Arguments = Mapping[str, Any]
_CONVS: Dict[int, Any] = {3: nn.Conv1d, 4: nn.Conv2d}
_NORMS: Dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d,
                          5: nn.BatchNorm3d}


def _conv(weight: torch.Tensor, bias: Any, arguments: Arguments) -> Optional[nn.Module]:
    kind = _CONVS.get(weight.ndim)
    padding = arguments.get('padding', 0)
    if kind is None or isinstance(padding, str):
        return None
    groups = int(arguments.get('groups', 1))
    layer: nn.Module = kind(
        weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]),
        arguments.get('stride', 1), padding, arguments.get('dilation', 1), groups,
        bias is not None)
    return layer


def _linear(weight: torch.Tensor, bias: Any, arguments: Arguments) -> Optional[nn.Module]:
    return nn.Linear(weight.shape[1], weight.shape[0], bias is not None)


_CALLS: Dict[Any, Tuple[Callable[..., Optional[nn.Module]], Tuple[str, ...]]] = {
    F.conv1d: (_conv, ('stride', 'padding', 'dilation', 'groups')),
    F.conv2d: (_conv, ('stride', 'padding', 'dilation', 'groups')),
    torch.ops.aten.conv1d.default: (_conv, ('stride', 'padding', 'dilation', 'groups')),
    torch.ops.aten.conv2d.default: (_conv, ('stride', 'padding', 'dilation', 'groups')),
    F.linear: (_linear, ()),
    torch.ops.aten.linear.default: (_linear, ()),
}
"""Function of (input, weight, bias, *names) -> the layer that does the same."""


def _as_layers(module: fx.GraphModule, ranks: Mapping[str, int]) -> None:
    """Turn calls of functions with a layer's parameters into calls of layers."""
    for node in list(module.graph.nodes):
        if node.op != 'call_function':
            continue
        made: Optional[nn.Module] = None
        if node.target in _CALLS:
            made = _layer_of_call(module, node)
        elif node.target in (F.batch_norm, torch.ops.aten.batch_norm.default):
            made = _norm_of_call(module, node, ranks[node.name])
        elif node.target in (F.layer_norm, torch.ops.aten.layer_norm.default):
            made = _layer_norm_of_call(module, node)
        elif node.target is F.dropout:  # traced without effect; training wants it back
            given = dict(zip(('input', 'p'), node.args), **node.kwargs)
            made = nn.Dropout(float(given.get('p', 0.5))).eval()
        if made is not None:
            _replace(module, node, made)


def _layer_of_call(module: fx.GraphModule, node: fx.Node) -> Optional[nn.Module]:
    make, names = _CALLS[node.target]
    given = dict(zip(('input', 'weight', 'bias', *names), node.args), **node.kwargs)
    weight, bias = given.get('weight'), given.get('bias')
    if not _is_parameter(weight) or not (bias is None or _is_parameter(bias)):
        return None  # a weight that is computed anew at each call
    values = {'weight': _value(module, weight), 'bias': _value(module, bias)}
    layer = make(values['weight'], values['bias'], given)
    return None if layer is None else _with_values(layer, values)


def _norm_of_call(module: fx.GraphModule, node: fx.Node, rank: int
                  ) -> Optional[nn.Module]:
    aten = node.target is torch.ops.aten.batch_norm.default
    names = (('input', 'weight', 'bias', 'running_mean', 'running_var', 'training', 'momentum',
              'eps') if aten else
             ('input', 'running_mean', 'running_var', 'weight', 'bias', 'training', 'momentum',
              'eps'))
    given: Dict[str, Any] = dict(zip(names, node.args), **node.kwargs)
    affine = given.get('weight') is not None
    wanted = ('running_mean', 'running_var', *(('weight', 'bias') if affine else ()))
    if given.get('training') or not all(_is_parameter(given.get(n)) for n in wanted):
        return None
    values = {n: _value(module, given[n]) for n in wanted}
    eps = float(given.get('eps', 1e-5))
    return _with_values(_NORMS[rank](len(values['running_mean']), eps, affine=affine), values)


def _layer_norm_of_call(module: fx.GraphModule, node: fx.Node) -> Optional[nn.Module]:
    names = ('input', 'normalized_shape', 'weight', 'bias', 'eps')
    given: Dict[str, Any] = dict(zip(names, node.args), **node.kwargs)
    if not (_is_parameter(given.get('weight')) and _is_parameter(given.get('bias'))):
        return None
    values = {n: _value(module, given[n]) for n in ('weight', 'bias')}
    layer = nn.LayerNorm(list(given['normalized_shape']), float(given.get('eps', 1e-5)))
    return _with_values(layer, values)


def _with_values(layer: nn.Module, values: Mapping[str, Any]) -> nn.Module:
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(layer, name).copy_(value)
    return layer.eval()


def _replace(module: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    """Call a layer where a function was called; it is named after the parameters' owner."""
    source = node.kwargs['input'] if 'input' in node.kwargs else node.args[0]
    parameters = [a for a in (*node.args, *node.kwargs.values())
                  if isinstance(a, fx.Node) and _is_parameter(a) and a is not source]
    owner = str(parameters[0].target).rpartition('.')[0] if parameters else ''
    stem = (owner or node.name).replace('.', '_')
    taken = {name for name, _ in module.named_modules()}
    name, count = stem + '_layer', 0
    while name in taken:
        count += 1
        name = '%s_%d_layer' % (stem, count)
    module.add_submodule(name, layer)
    with module.graph.inserting_before(node):
        new = module.graph.call_module(name, (source,))
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
