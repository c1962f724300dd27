# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a family is trained, as data: phases one after the other (E3, P III-A1).

The paper's order is backbone, transformation, distillation, mutation; the joint phase behind them
is *reconstructed*: it lets operators that are combined at run time be trained in combination.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple

from crowdhmt_ros.elastic.operators.table import OPERATORS
from crowdhmt_ros.errors import ConfigError, all_problems

ETAS: Dict[str, Tuple[int, ...]] = {
    'backbone': (),
    'transformation': (1, 2),
    'distillation': (3, 4, 5),
    'mutation': (6,),
    'joint': (1, 2, 3, 4, 5, 6),
}
"""Phase -> categories of operators; the paper names no phase for depth (eta5), *reconstructed*."""
PROTECTIONS = ('none', 'projection')
OPTIMIZERS = ('sgd', 'adamw')
PRECISIONS = ('auto', 'float32', 'bfloat16')


@dataclass(frozen=True)
class PhaseRecipe:
    """
    One phase: one rise and fall of the learning rate.

    :param phase: a key of `ETAS`
    :param epochs: passes over the data
    :param learning_rate: peak
    :param edges: (share of the epochs done, edge of images in pixels), ascending; empty where
        inputs are taken as they are
    :param warm_up_ratio: share of the steps in which the learning rate rises
    :param end_ratio: learning rate at the end, over the peak: above 0 where the next phase goes
        on with the same curve
    :param variants: drawn at random in each step, beside those that the phase always trains
    :param etas: categories of operators that are drawn; empty for the phase's own
    :param operators: names of operators that may be drawn; empty for all of the categories
    :param members_ratio: share of the draws that are listed members of the family, each in its
        turn; without members that have turns all are random
    :param least_ratio: of the channels that a drawn variant keeps, over the backbone's
    :param hard_share: share of the labels' loss in a variant's loss, the rest is distilled
    :param early_exit_weight: of the loss of each earlier exit; 0 leaves them out
    :param variants_weight: of the variants' gradients of tensors that the backbone has, too;
        their own tensors learn from the whole gradient
    :param protection: of the tensors that the backbone shares with the variants (`protection`)
    :param every_step: names of operators; listed members with one of them learn at every step with
        the whole network's weight and unprotected, not in turn: those that have next to no tensors
        of their own
    :param largest: that many of the listed members, those with the most operations, get every
        second turn; 0 for turns that are all alike
    :param sandwich: whether mutation and joint phases train the leanest variant at every step
    :param transform: whether forms of layers are derived from the backbone where the phase
        begins; a transformation phase always does so
    """

    phase: str
    epochs: int
    learning_rate: float
    edges: Tuple[Tuple[float, int], ...] = ()
    warm_up_ratio: float = 0.08
    end_ratio: float = 0.0
    variants: int = 1
    etas: Tuple[int, ...] = ()
    operators: Tuple[str, ...] = ()
    members_ratio: float = 0.0
    least_ratio: float = 0.0
    hard_share: float = 0.3
    early_exit_weight: float = 0.5
    variants_weight: float = 1.0
    protection: str = 'projection'
    every_step: Tuple[str, ...] = ()
    largest: int = 0
    sandwich: bool = True
    transform: bool = False

    @property
    def categories(self) -> Tuple[int, ...]:
        """Categories of operators that the phase draws."""
        return self.etas or ETAS[self.phase]

    def edge_at(self, epoch: int) -> int:
        """Edge of the images in an epoch of the phase, pixels; 0 for as they are."""
        done = epoch / self.epochs
        return ([0] + [edge for start, edge in self.edges if start <= done + 1e-9])[-1]

    def learning_rate_at(self, done: float) -> float:
        """Learning rate after a share of the steps: linear rise, then half a cosine down."""
        if done < self.warm_up_ratio:
            return self.learning_rate * (0.05 + 0.95 * done / self.warm_up_ratio)
        rest = (done - self.warm_up_ratio) / (1.0 - self.warm_up_ratio)
        height = 0.5 * (1.0 + math.cos(math.pi * min(1.0, rest)))
        return self.learning_rate * (self.end_ratio + (1.0 - self.end_ratio) * height)


@dataclass(frozen=True)
class Recipe:
    """
    How a family is trained.

    :param phases: one after the other
    :param batch_size: inputs per step, of all ranks together
    :param optimizer: 'sgd' (Nesterov) or 'adamw'
    :param weight_decay: of weights; gains, shifts and biases have none
    :param momentum: of 'sgd'
    :param label_smoothing: of the backbone's loss
    :param gradient_limit: largest norm of a step's gradient
    :param transformation_batches: from which the transformation derives the forms
    :param precision: 'auto' (bfloat16 autocast where the machine has it), 'float32', 'bfloat16'
    """

    phases: Tuple[PhaseRecipe, ...]
    batch_size: int = 64
    optimizer: str = 'sgd'
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.05
    gradient_limit: float = 10.0
    transformation_batches: int = 8
    precision: str = 'auto'

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(p.epochs for p in self.phases)

    def epochs_before(self, phase: int) -> int:
        """Epochs of the phases before one."""
        return sum(p.epochs for p in self.phases[:phase])


_Check = Tuple[str, Callable[[float], bool], str]
_SHARE: Tuple[Callable[[float], bool], str] = (lambda v: 0.0 <= v <= 1.0, 'from 0 to 1')
_POSITIVE: Tuple[Callable[[float], bool], str] = (lambda v: v > 0, 'above 0')
_NOT_NEGATIVE: Tuple[Callable[[float], bool], str] = (lambda v: v >= 0, 'at least 0')
_PHASE_CHECKS: Tuple[_Check, ...] = (
    ('epochs', *_POSITIVE), ('learning_rate', *_POSITIVE), ('hard_share', *_SHARE),
    ('least_ratio', *_SHARE), ('members_ratio', *_SHARE), ('end_ratio', *_SHARE),
    ('warm_up_ratio', lambda v: 0.0 <= v < 1.0, 'from 0 to below 1'),
    ('variants', *_NOT_NEGATIVE), ('early_exit_weight', *_NOT_NEGATIVE),
    ('variants_weight', *_NOT_NEGATIVE), ('largest', *_NOT_NEGATIVE))
_RECIPE_CHECKS: Tuple[_Check, ...] = (
    ('batch_size', lambda v: v >= 2, 'at least 2'), ('weight_decay', *_NOT_NEGATIVE),
    ('momentum', lambda v: 0.0 <= v < 1.0, 'from 0 to below 1'),
    ('label_smoothing', *_SHARE), ('gradient_limit', *_POSITIVE),
    ('transformation_batches', *_POSITIVE))


def _out_of_range(thing: object, checks: Tuple[_Check, ...], where: str) -> List[str]:
    return ['%s%s is %s; give a number %s' % (where, name, getattr(thing, name), wanted)
            for name, holds, wanted in checks if not holds(getattr(thing, name))]


def _not_offered(thing: object, name: str, offered: Tuple[str, ...], where: str) -> List[str]:
    value = getattr(thing, name)
    return [] if value in offered else ['%s%s is %r; choose one of %s' % (
        where, name, value, ', '.join(offered))]


def _phase_problems(plan: PhaseRecipe, where: str) -> List[str]:
    found = _not_offered(plan, 'phase', tuple(ETAS), where)
    found += _not_offered(plan, 'protection', PROTECTIONS, where)
    found += _out_of_range(plan, _PHASE_CHECKS, where)
    starts = [start for start, _ in plan.edges]
    if plan.edges and (starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= 1):
        found.append('%sedges start at %s; give shares that ascend from 0 and stay below 1'
                     % (where, ', '.join('%g' % s for s in starts)))
    if any(edge < 1 for _, edge in plan.edges):
        found.append('%sedges name an edge below 1 pixel' % where)
    strange = sorted(set(plan.etas) - set(ETAS['joint']))
    if strange:
        found.append('%setas name %s; categories are 1 to 6'
                     % (where, ', '.join(map(str, strange))))
    others = sorted(name for name in plan.every_step if name in OPERATORS and (
        OPERATORS[name].eta not in (plan.etas or ETAS.get(plan.phase, ()))
        or (plan.operators and name not in plan.operators)))
    if others:
        found.append('%severy_step names %s, which the phase does not train; leave it out or add '
                     'it to operators or etas' % (where, ', '.join(others)))
    for field in ('operators', 'every_step'):
        unknown = sorted(set(getattr(plan, field)) - set(OPERATORS))
        if unknown:
            found.append('%s%s name %s; there are %s'
                         % (where, field, ', '.join(unknown), ', '.join(sorted(OPERATORS))))
    return found


def problems_of(recipe: Recipe) -> List[str]:
    """List what is wrong with a recipe."""
    found = _out_of_range(recipe, _RECIPE_CHECKS, '')
    found += _not_offered(recipe, 'optimizer', OPTIMIZERS, '')
    found += _not_offered(recipe, 'precision', PRECISIONS, '')
    if not recipe.phases:
        found.append('phases are missing; name at least one')
    for number, plan in enumerate(recipe.phases, 1):
        found += _phase_problems(plan, 'phase %d: ' % number)
    return found


def check(recipe: Recipe) -> None:
    """
    Refuse a recipe that cannot be followed.

    :raises ConfigError: everything that is wrong with it, in one line
    """
    found = problems_of(recipe)
    if found:
        raise ConfigError('recipe: ' + all_problems(found))
