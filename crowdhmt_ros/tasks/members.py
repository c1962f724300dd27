# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Listed variants of a family: those that are compared, written down before anything is trained.

A list is a YAML file. Its variants belong to a structure - stages, blocks - not to one width of
the backbone; `fitted` brings them onto a net. What a member costs was measured, see `latency`.
"""
from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import AbstractSet, Any, Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np
import torch
import yaml

from crowdhmt_ros.elastic.operators.table import OPERATORS
from crowdhmt_ros.elastic.store import Reference
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ConfigError, ExportError, all_problems
from crowdhmt_ros.tasks.latency import ROUNDS, latencies
from crowdhmt_ros.types import Variant, variant_from_json, variant_to_json

logger = logging.getLogger(__name__)

ETAS = frozenset((1, 2, 3, 4, 5, 6))
COUNT, SPAN = 16, 11.5
"""How many members, and how much faster the last one is: surely ten times, measured again."""
STAND_IN = 0.35
"""Squared steps: what a stand-in must be nearer to its place than a wanted member."""
WIDEST = 1.5
"""Steps that a member may be away from its place where nothing is nearer."""
MEASURED_BATCH = 8


@dataclass(frozen=True)
class Member:
    """
    One listed variant.

    :param name: short, unique in its list
    :param variant: what it is
    :param speedup: latency of the whole network over its own, measured
    :param macs_ratio: operations of the whole network over its own
    """

    name: str
    variant: Variant
    speedup: float
    macs_ratio: float


@dataclass(frozen=True)
class Members:
    """
    A list of variants.

    :param backbone: on which they were measured
    :param members: from dear to cheap
    :param measured: how, in words
    """

    backbone: Reference
    members: Tuple[Member, ...]
    measured: str

    @property
    def variants(self) -> Dict[str, Variant]:
        """Name -> variant, from dear to cheap."""
        return {m.name: m.variant for m in self.members}


def fitted(variants: Mapping[str, Variant], net: Supernet) -> Dict[str, Variant]:
    """
    Bring listed variants onto a net, which may have other widths and other exits.

    :returns: name -> variant that ends at the net's exit behind the same stage
    :raises ConfigError: a variant does not fit the net's stages
    """
    exits = {stages: number for number, stages in enumerate(net.structure.exits)}
    found, problems = {}, []
    for name, variant in variants.items():
        number = exits.get(len(variant.stages))
        if number is None:
            problems.append('%s has %d stages, after which the net has no exit'
                            % (name, len(variant.stages)))
            continue
        found[name] = Variant(variant.stages, number, variant.precision)
        try:
            net.plan(found[name])
        except ExportError as error:
            problems.append('%s does not fit: %s' % (name, error))
    if problems:
        raise ConfigError(all_problems(problems))
    return found


def etas_of(variant: Variant) -> Set[int]:
    """Return the categories of the operators that a variant uses (eta1..eta6)."""
    return {OPERATORS[c.operator].eta for stage in variant.stages for c in stage
            if c.operator in OPERATORS}


def choose(net: Supernet, proposals: Mapping[str, Variant], example: torch.Tensor, *,
           count: int = COUNT, span: float = SPAN, rounds: int = ROUNDS,
           needed: AbstractSet[int] = ETAS, seed: int = 0) -> Tuple[Member, ...]:
    """
    Choose members that lie log-spaced in latency, measured on this machine.

    Weights make no difference to it: the net may be untrained.

    :param proposals: name -> variant; of those near a place the first one takes it
    :param example: one input, (1, ...)
    :param count: of members, the whole network included
    :param span: how much faster the last one is
    :param rounds: of the measurement
    :param needed: categories of operators that must be among them
    :param seed: of the inputs
    :returns: from dear to cheap, the whole network first
    :raises ConfigError: the proposals leave a place or a category empty
    """
    measured = timed(net, proposals, example, rounds=rounds, seed=seed)
    speedups = {m.name: m.speedup for m in measured}
    chosen = complete(spaced(speedups, count=count, span=span), speedups,
                      {m.name: etas_of(m.variant) for m in measured}, needed)
    known = {m.name: m for m in measured}
    return tuple(known[name] for name in chosen)


def timed(net: Supernet, proposals: Mapping[str, Variant], example: torch.Tensor, *,
          rounds: int = ROUNDS, seed: int = 0) -> Tuple[Member, ...]:
    """
    Measure the whole network and all proposals as members; see `choose`.

    :returns: in the order of the proposals, the whole network first
    """
    variants = {'full': net.whole(), **proposals}
    draw = torch.Generator().manual_seed(seed)
    images = [torch.randn((MEASURED_BATCH, *example.shape[1:]), generator=draw)]
    seconds = latencies(net, variants, calibrate(net, variants.values(), images), example,
                        rounds=rounds)
    macs = {name: net.plan(variant).macs for name, variant in variants.items()}
    found = tuple(Member(name, variant, round(seconds['full'] / seconds[name], 3),
                         round(macs['full'] / macs[name], 3))
                  for name, variant in variants.items())
    for member in found:
        logger.info('%s is %.3f times as fast as the whole network', member.name, member.speedup)
    return found


def spaced(speedups: Mapping[str, float], *, count: int = COUNT, span: float = SPAN
           ) -> Tuple[str, ...]:
    """
    Choose names whose speed-ups are log-spaced from 1 to `span`.

    The squared distances from the places, in steps, are least in sum; each name that only
    stands in counts as a distance too.

    :param speedups: in order of preference: the first `count` are wanted, others stand in
    :returns: from dear to cheap
    :raises ConfigError: there are too few names, or a place stays empty
    """
    if count < 2 or span <= 1.0 or len(speedups) < count:
        raise ConfigError('members number at least 2, as many proposals, and span more than 1; '
                          'not %d of %d over %g' % (count, len(speedups), span))
    step = math.log(span) / (count - 1)
    wanted = set(list(speedups)[:count])
    names = sorted(speedups, key=lambda name: speedups[name])
    best: Dict[int, Tuple[float, Tuple[str, ...]]] = {0: (0.0, ())}  # places filled -> cost, names
    for name in names:
        for place in sorted(best, reverse=True):
            away = abs(math.log(speedups[name]) / step - place)
            if place == count or away > WIDEST:
                continue
            cost = best[place][0] + away ** 2 + (0.0 if name in wanted else STAND_IN)
            if place + 1 not in best or cost < best[place + 1][0]:
                best[place + 1] = (cost, (*best[place][1], name))
    if count not in best:
        raise ConfigError('no proposal is about %.2f times as fast as the whole network'
                          % math.exp(max(best) * step))
    return best[count][1]


def complete(chosen: Sequence[str], speedups: Mapping[str, float],
             etas: Mapping[str, AbstractSet[int]], needed: AbstractSet[int] = ETAS
             ) -> Tuple[str, ...]:
    """
    Exchange members until every category of operators is among them.

    The proposal that has a missing category takes the place of the member nearest to it in
    latency whose own categories others have; the first and the last member stay.

    :param chosen: names, from dear to cheap
    :param speedups: of all proposals, in order of preference
    :param etas: name -> categories that it uses
    :raises ConfigError: no proposal, or no exchange, brings a category
    """
    found = list(chosen)
    for eta in sorted(needed):
        if any(eta in etas[name] for name in found):
            continue
        pairs = [(abs(math.log(speedups[new] / speedups[old])), rank, new, old)
                 for rank, new in enumerate(speedups) if eta in etas[new]
                 for old in found[1:-1] if _spare(old, found, etas, needed)]
        if not pairs:
            raise ConfigError('no member uses eta%d: add proposals that do' % eta)
        _, _, new, old = min(pairs)
        found[found.index(old)] = new
    return tuple(sorted(found, key=lambda name: speedups[name]))


def _spare(name: str, chosen: Sequence[str], etas: Mapping[str, AbstractSet[int]],
           needed: AbstractSet[int]) -> bool:
    """Tell whether the others have all needed categories that a member has."""
    others: Set[int] = set().union(*(etas[n] for n in chosen if n != name))
    return not (etas[name] & needed) - others


def drawn(net: Supernet, count: int, *, seed: int = 0) -> Dict[str, Variant]:
    """
    Draw proposals for a net of which nothing more is known, all categories in turn.

    :param count: of draws; equal ones count once
    """
    sampler, rng = Sampler(net, sorted(ETAS)), np.random.default_rng(seed)
    names = sampler.operators
    found = dict.fromkeys(sampler.draw(rng, names[i % len(names)]) for i in range(count))
    return {'drawn%d' % number: variant for number, variant in enumerate(found)}


def members_text(members: Members) -> str:
    """Return a list as the text of its file."""
    backbone = members.backbone
    return yaml.safe_dump({
        'backbone': {'name': backbone.name, 'classes': backbone.classes,
                     'options': dict(backbone.options)},
        'measured': members.measured,
        'members': [{'name': m.name, 'speedup': m.speedup, 'macs_ratio': m.macs_ratio,
                     'variant': variant_to_json(m.variant)} for m in members.members],
    }, sort_keys=False, default_flow_style=None, width=99)


def read_members(path: Path) -> Members:
    """
    Read a list.

    :raises ConfigError: all that is wrong with the file, in one line
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigError('list of variants %s cannot be read (%s)'
                          % (path, error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError('%s is no YAML file' % path) from error
    try:
        known = content['backbone']
        backbone = Reference(str(known['name']), int(known['classes']), dict(known['options']))
        rows: Sequence[Any] = list(content['members'])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError('%s is no list of variants: it needs backbone (name, classes, options) '
                          'and members' % path) from error
    return Members(backbone, _members(rows, path), str(content.get('measured', '')))


def _members(rows: Sequence[Any], path: Path) -> Tuple[Member, ...]:
    found: Dict[str, Member] = {}
    problems: List[str] = []
    for number, row in enumerate(rows):
        where = 'members[%d]' % number
        try:
            name = str(row['name'])
            member = Member(name, variant_from_json(row['variant'], where + '.variant'),
                            float(row['speedup']), float(row['macs_ratio']))
        except (KeyError, TypeError, ValueError):
            problems.append('%s needs name, speedup, macs_ratio and variant' % where)
            continue
        except ConfigError as error:
            problems.append(str(error))
            continue
        if name in found:
            problems.append('%s is called %s, as another one is' % (where, name))
        found[name] = member
    if problems or not found:
        raise ConfigError('%s: %s' % (path, all_problems(problems) if problems
                                      else 'it lists no variant'))
    return tuple(found.values())
