# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a traced network to its structure: layers, groups of channels, blocks, stages (E1)."""
from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from torch import fx, nn

from crowdhmt_ros.elastic.structure import (
    Block,
    Cuttable,
    Group,
    LeftAlone,
    Stage,
    Structure,
    Unit,
)
from crowdhmt_ros.elastic.ties import Ties
from crowdhmt_ros.elastic.ties_rules import Label, is_batch_norm, is_token_norm, is_unit_layer
from crowdhmt_ros.elastic.trace import Shape, Traced
from crowdhmt_ros.errors import ExportError

MOST_STAGES = 4
"""Into so many a network of one resolution (a transformer) is divided."""


def discover(traced: Traced, exits: Optional[Sequence[int]] = None) -> Structure:
    """
    Find out what a network consists of.

    :param traced: the network
    :param exits: numbers of stages after which it may answer early; None for every border
    :raises ExportError: it holds nothing that could scale, or has no such exit
    """
    ties = Ties(traced)
    units = _units(traced, ties)
    if not units:
        raise ExportError('the network holds no convolution and no linear layer')
    waists = _Waists(traced, units)
    borders = _without_bulges(traced, ties, waists.between_layers())
    units, blocks = _blocks(traced, units, borders, waists)
    stages, stage_of = _stages(traced, ties, blocks)
    units = tuple(replace(u, stage=stage_of[u.block][0], block=stage_of[u.block][1])
                  for u in units)
    groups = _groups(ties, units, stages)
    stages = tuple(_with_droppable(ties, s, i, groups) for i, s in enumerate(stages))
    groups = _with_peers(ties, groups, stages)
    classes = _classes(traced)
    ends = _exits(len(stages), classes, exits)
    return Structure(units, groups, _cuttables(traced, ties, groups), stages, ends, classes,
                     _left_alone(traced, units, groups))


def _pairs(value: Any, axes: int) -> Tuple[int, ...]:
    return (int(value),) * axes if isinstance(value, int) else tuple(int(v) for v in value)


def _norm_behind(traced: Traced, node: fx.Node) -> Optional[fx.Node]:
    users = list(node.users)
    if len(users) != 1 or not is_batch_norm(traced.layer(users[0])):
        return None
    # Behind a linear layer on tokens a batch normalisation is of the tokens.
    along_tokens = isinstance(traced.layer(node), nn.Linear) and len(traced.shapes[node.name]) > 2
    return None if along_tokens else users[0]


def _units(traced: Traced, ties: Ties) -> Tuple[Unit, ...]:
    units: List[Unit] = []
    absorbed: Set[str] = set()
    for node in traced.module.graph.nodes:
        layer = traced.layer(node)
        if node.name in absorbed:
            continue
        if layer is not None and is_unit_layer(layer):
            norm = _norm_behind(traced, node)
            units.append(_unit(traced, ties, node, layer, norm))
            absorbed.update([norm.name] if norm is not None else [])
        elif is_batch_norm(layer):
            units.append(_norm_unit(traced, ties, node, layer))
    return tuple(units)


def _norm_fields(traced: Traced, node: Optional[fx.Node]) -> Dict[str, Any]:
    if node is None:
        return {}
    layer = traced.layer(node)
    assert isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))
    return {'norm': str(node.target), 'norm_node': node.name, 'norm_affine': layer.affine,
            'epsilon': layer.eps}


def _unit(traced: Traced, ties: Ties, node: fx.Node, layer: nn.Module,
          norm: Optional[fx.Node]) -> Unit:
    shape = traced.shapes[node.name]
    source = node.all_input_nodes[0].name
    if isinstance(layer, nn.Linear):
        axis = -1
        fields: Dict[str, Any] = {'kind': 'linear', 'inputs': layer.in_features,
                                  'outputs': layer.out_features, 'extent': tuple(shape[1:-1])}
    else:
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
        axis, axes = 1, len(shape) - 2
        fields = {'kind': 'conv', 'inputs': layer.in_channels, 'outputs': layer.out_channels,
                  'extent': tuple(shape[2:]), 'kernel': _pairs(layer.kernel_size, axes),
                  'stride': _pairs(layer.stride, axes), 'groups': layer.groups,
                  'padding': _padding(layer, axes), 'dilation': _pairs(layer.dilation, axes)}
    before, after = ties.label(source, axis), ties.label(node.name, axis)
    return Unit(str(node.target), node.name, bias=layer.bias is not None,
                in_group=before.group if before else None,
                in_repeat=before.repeat if before else 1,
                out_group=after.group if after else None, **fields, **_norm_fields(traced, norm))


def _padding(layer: Any, axes: int) -> Tuple[int, ...]:
    if layer.padding == 'valid':
        return (0,) * axes
    if layer.padding == 'same':
        return tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size))
    return _pairs(layer.padding, axes)


def _norm_unit(traced: Traced, ties: Ties, node: fx.Node, layer: Any) -> Unit:
    shape = traced.shapes[node.name]
    label = ties.label(node.name, 1)
    group = label.group if label else None
    count = layer.num_features
    fields = {**_norm_fields(traced, node), 'norm_node': ''}
    return Unit(str(node.target), node.name, 'norm', count, count, tuple(shape[2:]),
                in_group=group, out_group=group, in_repeat=label.repeat if label else 1, **fields)


def _ends(graph: fx.Graph) -> Dict[str, int]:
    """Return for each node the number of its last reader; what the network gives is no reader."""
    last: Dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        if node.op != 'output':
            for source in node.all_input_nodes:
                last[source.name] = number
    return last


class _Waists:
    """
    Walks along the graph and finds the places where a single tensor parts the network.

    Of several neighbouring ones between two layers the last before the shape changes is taken:
    a pooling belongs to the block behind it.
    """

    def __init__(self, traced: Traced, units: Sequence[Unit]) -> None:
        self._traced = traced
        self._last = _ends(traced.module.graph)
        self._starts = {u.node for u in units}
        self._inside = {u.node for u in units if u.norm_node}

    def between_layers(self) -> List[str]:
        """Name the last waist before each layer but the first."""
        found, candidate = [], ''
        for node, is_waist in self._walk():
            if node in self._starts and candidate:
                found.append(candidate)
                candidate = ''
            if is_waist and self._continues(candidate, node):
                candidate = node
        return found

    def behind(self, start: str) -> str:
        """Name the last waist behind a node at which the features still have places."""
        candidate, passed, seen = '', not start, False
        for node, is_waist in self._walk():
            seen = seen or (passed and node in self._starts)
            if (seen and is_waist and len(self._traced.shapes[node]) > 2
                    and self._continues(candidate, node)):
                candidate = node
            passed = passed or node == start
        return candidate

    def _continues(self, candidate: str, node: str) -> bool:
        shapes = self._traced.shapes
        return not candidate or shapes[candidate] == shapes[node]

    def _walk(self) -> Iterator[Tuple[str, bool]]:
        live: Set[str] = set()
        seen_layer = False
        for number, node in enumerate(self._traced.module.graph.nodes):
            if node.op == 'output':
                return
            if node.op != 'get_attr' and node.name not in self._traced.numbers:
                live.add(node.name)
            seen_layer = seen_layer or node.name in self._starts
            live = {n for n in live if self._last.get(n, -1) > number}
            yield node.name, (seen_layer and live == {node.name} and node.name not in self._inside
                              and node.name in self._traced.shapes)


def _without_bulges(traced: Traced, ties: Ties, borders: Sequence[str]) -> List[str]:
    """
    Leave out borders within a bottleneck, where the channels are many for a moment.

    There a block would be half of what its author made.
    """
    counts = [traced.shapes[b][channel_axis(traced, ties, b)] for b in borders]
    kept: List[int] = []
    for number, count in enumerate(counts):
        bulges = kept and count >= 2 * counts[kept[-1]]
        if not (bulges and any(2 * c < count for c in counts[number + 1:number + 3])):
            kept.append(number)
    return [borders[number] for number in kept]


def _blocks(traced: Traced, units: Sequence[Unit], borders: Sequence[str], waists: _Waists
            ) -> Tuple[Tuple[Unit, ...], List[Block]]:
    """Number the blocks; a border whose value is a vector belongs to the head."""
    order = {node.name: i for i, node in enumerate(traced.module.graph.nodes)}
    spatial = [b for b in borders if len(traced.shapes[b]) > 2]
    last = waists.behind(spatial[-1] if spatial else '')
    ends = [*spatial, last] if last else list(spatial)
    if not ends:
        ends = [units[-1].norm_node or units[-1].node]
    entries = ['', *ends[:-1]]
    blocks = [Block(entry, border, False) for entry, border in zip(entries, ends)]
    numbered = []
    for unit in units:
        passed = sum(order[unit.node] > order[end] for end in ends)
        numbered.append(replace(unit, block=min(passed, len(ends) - 1)))
    return tuple(numbered), blocks


def _extent(shape: Shape, label_axis: int) -> Tuple[int, ...]:
    return tuple(e for axis, e in enumerate(shape) if axis not in (0, label_axis % len(shape)))


def channel_axis(traced: Traced, ties: Ties, node: str) -> int:
    """Return the axis along which a value's channels lie: 1, or the last for tokens."""
    labels = ties.labels.get(node, ())
    for axis in (1, len(labels) - 1):
        if 0 < axis < len(labels) and labels[axis] is not None:
            return axis
    return 1


def _stages(traced: Traced, ties: Ties, blocks: Sequence[Block]
            ) -> Tuple[Tuple[Stage, ...], List[Tuple[int, int]]]:
    """Group blocks of one resolution; return the stages, and per block (stage, number)."""
    extents = []
    for block in blocks:
        axis = channel_axis(traced, ties, block.border)
        extents.append(_extent(traced.shapes[block.border], axis))
    runs: List[List[int]] = []
    for number, extent in enumerate(extents):
        if runs and extents[runs[-1][-1]] == extent:
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(runs) > 1 and len(runs[0]) == 1:  # a stem alone is no stage
        runs[:2] = [runs[0] + runs[1]]
    if len(runs) == 1 and len(runs[0]) >= 4:
        runs = _parted(runs[0], min(MOST_STAGES, len(runs[0]) // 2))
    stages, places = [], [(0, 0)] * len(blocks)
    for index, run in enumerate(runs):
        border = blocks[run[-1]].border
        axis = channel_axis(traced, ties, border)
        label = ties.label(border, axis)
        stages.append(Stage(tuple(blocks[n] for n in run), extents[run[-1]],
                            label.group if label else None, traced.shapes[border][axis],
                            axis=axis))
        for place, number in enumerate(run):
            places[number] = (index, place)
    return tuple(stages), places


def _parted(run: List[int], count: int) -> List[List[int]]:
    edges = [round(i * len(run) / count) for i in range(count + 1)]
    return [run[a:b] for a, b in zip(edges, edges[1:])]


def _groups(ties: Ties, units: Sequence[Unit], stages: Sequence[Stage]) -> Dict[int, Group]:
    """Describe the groups; each belongs to the stage in which most of its makers lie."""
    groups: Dict[int, Group] = {}
    for unit in units:
        for index in (unit.in_group, unit.out_group):
            if index is None or index in groups:
                continue
            makers = [u.stage for u in units if u.out_group == index and not u.is_depthwise
                      and u.kind != 'norm']
            stage = max(set(makers), key=lambda s: (makers.count(s), s)) if makers else 0
            grain = ties.granularity.get(index, 1)
            fixed = ties.fixed.get(index, '')
            if not fixed and not makers:
                fixed = 'no layer makes its channels'
            groups[index] = Group(index, ties.sizes[index], grain, fixed, stage, index)
    return groups


def _with_droppable(ties: Ties, stage: Stage, index: int, groups: Mapping[int, Group]) -> Stage:
    blocks = tuple(replace(b, droppable=_droppable(ties, b, index, groups)) for b in stage.blocks)
    return replace(stage, blocks=blocks)


def _labels_of(ties: Ties, block: Block) -> Tuple[Optional[Label], Optional[Label]]:
    axis = channel_axis(ties.traced, ties, block.border)
    return ties.label(block.entry, axis), ties.label(block.border, axis)


def _droppable(ties: Ties, block: Block, stage: int, groups: Mapping[int, Group]) -> bool:
    """Whether what comes in could go out: same shape, widths that can be kept equal."""
    shapes = ties.traced.shapes
    if not block.entry or shapes[block.entry] != shapes[block.border]:
        return False
    before, after = _labels_of(ties, block)
    if before is None or after is None:
        return False
    if before.group == after.group:
        return True
    first, second = groups.get(before.group), groups.get(after.group)
    return bool(first and second and first.stage == second.stage == stage and not first.fixed
                and not second.fixed and first.granularity == second.granularity)


def _with_peers(ties: Ties, groups: Mapping[int, Group], stages: Sequence[Stage]
                ) -> Dict[int, Group]:
    """Bind the widths of groups between which a block can be left out."""
    found = dict(groups)
    for stage in stages:
        for block in stage.blocks:
            before, after = _labels_of(ties, block)
            if block.droppable and before and after and before.group != after.group:
                low = min(found[before.group].peers, found[after.group].peers)
                old = {found[before.group].peers, found[after.group].peers}
                found = {i: replace(g, peers=low) if g.peers in old else g
                         for i, g in found.items()}
    return found


def _cuttables(traced: Traced, ties: Ties, groups: Mapping[int, Group]) -> Tuple[Cuttable, ...]:
    found = []
    for node in traced.module.graph.nodes:
        layer = traced.layer(node)
        if isinstance(layer, nn.LayerNorm) and is_token_norm(layer):
            label = ties.label(node.name, -1)
            count = int(layer.normalized_shape[-1])
            names = tuple('%s.%s' % (node.target, n) for n, _ in layer.named_parameters())
            found.append(Cuttable(node.name, names, (count,), 0 if label else None,
                                  label.group if label else None, layer.eps))
        elif traced.is_parameter(node):
            found.append(_cuttable_parameter(traced, ties, node, groups))
    return tuple(found)


def _cuttable_parameter(traced: Traced, ties: Ties, node: fx.Node, groups: Mapping[int, Group]
                        ) -> Cuttable:
    shape = traced.shapes[node.name]
    for axis in range(len(shape)):
        label = ties.label(node.name, axis)
        if label is not None and label.group in groups and label.repeat == 1:
            return Cuttable(node.name, (str(node.target),), shape, axis, label.group)
    return Cuttable(node.name, (str(node.target),), shape, None, None)


def _outputs(traced: Traced) -> List[fx.Node]:
    end = next(n for n in traced.module.graph.nodes if n.op == 'output')
    return list(end.all_input_nodes)


def _classes(traced: Traced) -> int:
    outputs = _outputs(traced)
    shape = traced.shapes.get(outputs[0].name, ()) if len(outputs) == 1 else ()
    return shape[1] if len(shape) == 2 else 0


def _exits(stages: int, classes: int, wanted: Optional[Sequence[int]]) -> Tuple[int, ...]:
    if not classes:
        return (stages,)
    early = range(1, stages) if wanted is None else wanted
    wrong = [e for e in early if not 0 < e <= stages]
    if wrong:
        raise ExportError('an exit is asked for after stage %d; this network has stages 1 to %d'
                          % (wrong[0], stages))
    return (*sorted(set(early) - {stages}), stages)


def _left_alone(traced: Traced, units: Sequence[Unit], groups: Mapping[int, Group]
                ) -> Tuple[LeftAlone, ...]:
    found = [LeftAlone(u.name, 'width', groups[u.out_group].fixed) for u in units
             if u.out_group is not None and groups[u.out_group].fixed]
    known = {n for u in units for n in (u.node, u.norm_node)}
    for node in traced.module.graph.nodes:
        layer = traced.layer(node)
        if (layer is not None and node.name not in known and list(layer.parameters())
                and not is_token_norm(layer)):
            found.append(LeftAlone(str(node.target), 'all', '%s is kept whole'
                                   % type(layer).__name__))
    return tuple(found)
