# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Parameter transformation: from a trained backbone to a family, without training (E3, P III-A1).

The channels of each group are put in order of importance, so that a narrower variant keeps the
best ones; each form's tensors are derived from the backbone's so that the outputs, on the inputs
that the layer really gets, change least. Only images are needed, no labels.
"""
from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import torch

from crowdhmt_ros.elastic.exits import exit_name
from crowdhmt_ros.elastic.norms import CollectingNorms, Norms, Statistics
from crowdhmt_ros.elastic.operators.table import FORMS
from crowdhmt_ros.elastic.steps import norms_of
from crowdhmt_ros.elastic.structure import Unit
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.types import Variant

PLACES_KEPT = 8192
"""Of each batch at most so many places enter a second moment."""


class Moment:
    """Mean and second moment of vectors, gathered batch by batch."""

    def __init__(self, channels: int, axis: int) -> None:
        """
        Start without any.

        :param channels: extent of the vectors
        :param axis: along which the vectors lie
        """
        self._axis = axis
        self._products = torch.zeros(channels, channels, dtype=torch.float64)
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._count = 0

    def add(self, x: torch.Tensor) -> None:
        """
        Take note of a value at all its places.

        :param x: (n, c, ...) or (n, ..., c)
        """
        rows = x.movedim(self._axis, -1).reshape(-1, len(self._sum))
        rows = rows[::max(1, len(rows) // PLACES_KEPT)].double().cpu()
        self._products += rows.T @ rows
        self._sum += rows.sum(0)
        self._count += len(rows)

    def second(self, *, centred: bool) -> torch.Tensor:
        """Return the mean of x x^T, or the covariance, (c, c)."""
        mean = self._sum / self._count
        found = self._products / self._count
        return found - torch.outer(mean, mean) if centred else found


class Moments:
    """Second moments of what each unit gets and gives, over images and places."""

    def __init__(self, units: Iterable[Unit]) -> None:
        """Start without any."""
        self._units = {u.node: u for u in units if u.kind != 'norm'}
        axes = {node: 1 if u.kind == 'conv' else -1 for node, u in self._units.items()}
        self.inputs = {n: Moment(u.inputs, axes[n]) for n, u in self._units.items()}
        self.outputs = {n: Moment(u.outputs, axes[n]) for n, u in self._units.items()}

    def __call__(self, node: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take note of what a unit reads and what its weights make of it."""
        self.inputs[node].add(x)
        self.outputs[node].add(y)

    def of(self, unit: Unit) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return both second moments, centred where a normalisation absorbs constants."""
        centred = bool(unit.norm)
        return (self.inputs[unit.node].second(centred=centred),
                self.outputs[unit.node].second(centred=centred))

    def variance(self, node: str) -> torch.Tensor:
        """Return the variance of each input, (c,)."""
        return self.inputs[node].second(centred=True).diagonal().clamp_min(0.0)


@torch.no_grad()
def moments_of(net: Supernet, images: Iterable[torch.Tensor], norms: Optional[Norms] = None
               ) -> Moments:
    """
    Measure the second moments of the whole network's units.

    :param images: batches
    :param norms: None for the statistics of each batch
    """
    moments, plan = Moments(net.structure.units), net.plan(net.whole())
    was_training = net.training
    net.eval()
    for batch in images:
        net.run(batch, plan, norms, every_exit=False, observe=moments)
    net.train(was_training)
    return moments


@torch.no_grad()
def transform(net: Supernet, images: Sequence[torch.Tensor], *, sort: bool = True) -> None:
    """
    Make a family of a trained backbone, in place; the backbone's own answers stay.

    :param net: with the backbone's trained tensors
    :param images: some batches of what the network will see
    :param sort: put the channels in order of importance; not for a family that was trained
        before, whose narrow variants rely on their order
    """
    if sort:
        sort_channels(net, moments_of(net, images))
    derive_forms(net, moments_of(net, images))


def importance(net: Supernet, moments: Moments) -> Dict[int, torch.Tensor]:
    """
    Score the channels of each group that can scale.

    A channel counts by what it makes vary in the layers that read it: its variance times the
    squared norm of the weights on it, as a share of each reader's sum. A constant part counts
    for nothing: the normalisations absorb it when they are calibrated.

    :returns: group -> (size,), summing to the number of its readers; on the processor, wherever
        the network is
    """
    scores: Dict[int, torch.Tensor] = {}
    for unit in net.structure.units:
        group = None if unit.in_group is None else net.structure.groups[unit.in_group]
        if group is None or group.fixed or unit.kind == 'norm':
            continue
        weight = net.tensor(unit.name + '.weight').detach().double().cpu()
        energy = weight.pow(2).flatten(2).sum(2) if weight.ndim > 2 else weight.pow(2)
        per_input = energy[:, 0] if unit.is_depthwise else energy.sum(0)
        score = (per_input * moments.variance(unit.node)).reshape(-1, unit.in_repeat).sum(1)
        share = score / score.sum().clamp_min(1e-30)
        scores[group.index] = scores.get(group.index, torch.zeros_like(share)) + share
    return scores


@torch.no_grad()
def sort_channels(net: Supernet, moments: Moments) -> None:
    """Put each group's channels in descending order of importance; what is computed stays."""
    for index, score in importance(net, moments).items():
        grain = net.structure.groups[index].granularity
        order = score.reshape(-1, grain).sum(1).argsort(descending=True, stable=True)
        places = (order[:, None] * grain + torch.arange(grain)).flatten()
        permute(net, index, places)


@torch.no_grad()
def permute(net: Supernet, group: int, order: torch.Tensor) -> None:
    """
    Reorder the channels of a group in every tensor that they run through.

    :param order: position -> channel that goes there
    """
    structure = net.structure
    found: Dict[Tuple[str, int], torch.Tensor] = {}  # by name: shared layers are reordered once
    for unit in structure.units:
        if unit.kind != 'norm' and unit.in_group == group and not unit.is_depthwise:
            found[unit.name + '.weight', 1] = _repeated(order, unit.in_repeat)
        if unit.out_group == group:
            repeat = unit.in_repeat if unit.kind == 'norm' else 1
            found.update(((n, 0), _repeated(order, repeat)) for n in _of_outputs(unit))
    for cuttable in structure.cuttables:
        if cuttable.group == group and cuttable.axis is not None:
            found.update(((name, cuttable.axis), order) for name in cuttable.names)
    for index, stages in enumerate(structure.exits[:-1]):
        if structure.stages[stages - 1].group == group:
            found[exit_name(index) + '.weight', 1] = order
    for (name, axis), places in found.items():
        if name in net.running:
            mean, variance = net.running[name]
            net.running[name] = (mean[places], variance[places])
        else:
            _reorder(net, name, axis, places)


def _repeated(order: torch.Tensor, repeat: int) -> torch.Tensor:
    return (order[:, None] * repeat + torch.arange(repeat)).flatten()


def _of_outputs(unit: Unit) -> List[str]:
    """Name the tensors, and the statistics, that run along what a unit gives."""
    names = [] if unit.kind == 'norm' else [unit.name + '.weight']
    names += [unit.name + '.bias'] if unit.bias else []
    names += [unit.norm + '.weight', unit.norm + '.bias'] if unit.norm and unit.norm_affine else []
    return names + ([unit.norm] if unit.norm else [])


def _reorder(net: Supernet, name: str, axis: int, order: torch.Tensor) -> None:
    if not net.has(name):  # statistics that the backbone came without
        return
    tensor = net.tensor(name)
    tensor.copy_(tensor.detach().index_select(axis, order.to(tensor.device)).clone())


@torch.no_grad()
def derive_forms(net: Supernet, moments: Optional[Moments] = None) -> None:
    """
    Derive every form's tensors from the backbone's.

    :param moments: of the units' inputs, None to weigh all inputs alike
    """
    for unit in net.structure.units:
        if unit.kind == 'norm':
            continue
        weight = net.tensor(unit.name + '.weight').detach().double().cpu()
        seen: Tuple[Optional[torch.Tensor], Optional[torch.Tensor]] = (None, None)
        if moments is not None and unit.is_dense:
            seen = moments.of(unit)
        for form in FORMS.values():
            if not form.unit_refusal(unit):
                for name, value in form.tensors(unit, weight, *seen).items():
                    _set(net, name, value)


def _set(net: Supernet, name: str, value: torch.Tensor) -> None:
    """Overwrite a shared tensor in place, so that optimizers keep it."""
    if net.has(name) and net.tensor(name).shape == value.shape:
        net.tensor(name).copy_(value.to(net.tensor(name)))
    else:
        net.add(name, value.to(next(net.parameters()).device))


def backbone_statistics(net: Supernet) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
    """Return the statistics of the whole network that its normalisations came with."""
    plan, found = net.plan(net.whole()), {}
    for unit in net.structure.units:
        for norm in norms_of(plan.programs.get(unit.node, ())):
            if norm.layer in net.running:
                mean, variance = net.running[norm.layer]
                found[plan.key(unit.node, norm.key)] = (mean.double(), variance.double())
    return found


@torch.no_grad()
def calibrate(net: Supernet, variants: Iterable[Variant], images: Sequence[torch.Tensor],
              known: Optional[Statistics] = None) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
    """
    Measure the statistics of every normalisation of these variants.

    What variants compute alike is measured once.

    :param images: batches, (n, ...)
    :param known: statistics that need not be measured again
    """
    statistics = dict(known or {})
    was_training = net.training
    net.eval()
    for variant in variants:
        plan = net.plan(variant)
        if not missing(net, variant, statistics):
            continue
        norms = CollectingNorms()
        for batch in images:
            net.run(batch, plan, norms, every_exit=False)
        for key, value in norms.statistics().items():
            statistics.setdefault(key, value)
    net.train(was_training)
    return statistics


def missing(net: Supernet, variant: Variant, statistics: Mapping[str, object]) -> List[str]:
    """Name the statistics that a variant needs and that are not there."""
    plan = net.plan(variant)
    keys = [plan.key(node, norm.key) for node, program in plan.programs.items()
            for norm in norms_of(program)]
    return [key for key in keys if key not in statistics]


@torch.no_grad()
def round_weights(net: Supernet) -> None:
    """Round the shared weights to float16, the precision in which a bundle stores them."""
    for name in net.names():
        if name.rpartition('.')[2] not in ('bias',) and net.tensor(name).ndim > 1:
            net.tensor(name).copy_(net.tensor(name).half().float())
