# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Fusion (P III-C1): what it gains where the engine fuses nothing, what it costs where it does.

Each ratio is the median of interleaved pairs in several fresh processes, its control the same
graph loaded twice. Networks whose control is wide are measured in more processes, whatever their
ratio is.
"""
from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
import onnx

from benchmarks import parts, timing
from benchmarks._engine_fusion_child import UNFUSING, Rounds
from benchmarks._fusion_networks import Network, networks
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.graph.fusion import fuse
from crowdhmt_ros.graph.rules import FAMILY_NAMES

CHILD = 'benchmarks._engine_fusion_child'
GAIN, HARM, DIFFERENCE = 1.2, 1.03, 1e-5
CLAIMS: parts.Claims = {
    'fusion_gain': (GAIN, HIGHER), 'fusion_harm': (HARM, LOWER),
    'fusion_max_abs_diff': (DIFFERENCE, LOWER),
    **{'fusion_family_gain/' + family: (1.0, HIGHER) for family in FAMILY_NAMES}}
ROUNDS, SPAN_S = 3, 0.25
MORE_ROUNDS = 6
"""At most, where the control is wide."""
QUICK_SPAN_S = 0.15
QUICK = ('resnet18@32', 'motion_cnn', 'detector@224', 'vision_transformer@32', 'variant/fire',
         'paddle/mobile', 'pointwise norms', 'separable pairs', 'written-out gates', 'towers',
         'transitions')
CHILD_S = 900.0


@dataclass(frozen=True)
class Measured:
    """
    What fusion does to one unfused export, one thread; times are seconds by round.

    :param operators: before and after all families
    :param gain: of the fused graph, of the export and of the first again, optimisation off
    :param harm: of the export, of the fused graph and of the first again, optimisation on
    :param alone: of all families, of all but the network's own and of the first again, off
    :param others: engine that fuses nothing -> of the fused and of the cleaned export
    :param differences: engine -> largest difference of the outputs
    """

    network: Network
    operators: Tuple[int, int]
    gain: Rounds
    harm: Rounds
    alone: Rounds
    others: Mapping[str, Rounds]
    differences: Mapping[str, float]


def figures(quick: bool) -> List[Figure]:
    """
    Measure each network of the suite and each case of a family.

    :param quick: some of them, one process, short
    """
    chosen = [n for n in networks() if not quick or n.name in QUICK]
    with tempfile.TemporaryDirectory(prefix='crowdhmt-fusion-') as name:
        found = measured(chosen, Path(name), rounds=1 if quick else ROUNDS,
                         more=0 if quick else MORE_ROUNDS,
                         span_s=QUICK_SPAN_S if quick else SPAN_S)
    return [_gain(found), _harm(found), *_differences(found), *_families(found),
            *_groups(found), *_engines(found)]


def measured(chosen: Sequence[Network], folder: Path, *, rounds: int, more: int, span_s: float
             ) -> List[Measured]:
    """Export, fuse and time networks; those whose control is wide in more processes."""
    operators = {n.name: prepare(n, folder / place(n)) for n in chosen}
    said = {n.name: place(n) for n in chosen}
    answers: Dict[str, List[Dict[str, Rounds]]] = {name: [] for name in said}
    first: Dict[str, Dict[str, Mapping[str, Rounds]]] = {}

    def pooled(name: str, key: str) -> Rounds:
        return [row for answer in answers[name] for row in answer.get(key, ())]
    for turn in range(rounds + more):
        left = said if turn < rounds else {
            name: at for name, at in said.items()
            if any(rows and not compared(rows).conclusive for rows in (
                pooled(name, 'harm'), pooled(name, 'family')))}
        if not left:
            break
        for name, answer in timing.in_fresh_process(
                CHILD, {'folder': str(folder), 'names': left, 'span_s': span_s,
                        'more': turn == 0}, timeout_s=CHILD_S).items():
            first.setdefault(name, answer)
            answers[name].append(answer)
    return [Measured(n, operators[n.name], pooled(n.name, 'gain'), pooled(n.name, 'harm'),
                     pooled(n.name, 'family'), first[n.name]['others'],
                     first[n.name]['differences'])  # type: ignore[arg-type]
            for n in chosen]


def place(network: Network) -> str:
    """Name the folder of a network's graphs."""
    return ''.join(c if c.isalnum() else '_' for c in network.name)


def prepare(network: Network, folder: Path) -> Tuple[int, int]:
    """
    Write the export, its cleaned and its fused form, and the one without the network's family.

    :returns: operators of the export and of the fused form
    :raises ExportError: the fused form answers otherwise
    """
    folder.mkdir()
    export = network.make()
    fused = fuse(export).model
    forms = {'export': export, 'fused': fused, 'clean': fuse(export, (), verify=False).model}
    if network.family:
        forms['without'] = fuse(export, tuple(f for f in FAMILY_NAMES if f != network.family),
                                verify=False).model
    for name, model in forms.items():
        onnx.save(model, str(folder / (name + '.onnx')))
    return len(export.graph.node), len(fused.graph.node)


def compared(rounds: Rounds) -> timing.Compared:
    """Return second over first, and the first again over it."""
    return timing.Compared(*(timing.median_ratio([(r[0], r[place]) for r in rounds])
                             for place in (1, 2)))


def median(rounds: Rounds) -> float:
    """Return second over first."""
    return float(np.median([r[1] / r[0] for r in rounds]))


def mean_ratio(ratios: Sequence[timing.Ratio]) -> timing.Ratio:
    """Return the geometric mean, with the means of the ends: as if all erred to one side."""
    return timing.Ratio(*(mean_gain([getattr(r, end) for r in ratios])
                          for end in ('value', 'low', 'high')), sum(r.pairs for r in ratios))


def mean_gain(ratios: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(float(np.mean(np.log(ratios))))


def _suite(found: Sequence[Measured]) -> List[Measured]:
    return [m for m in found if not m.network.family]


def _each(found: Sequence[Measured]) -> str:
    return ', '.join('%s %.2f' % (m.network.name, median(m.gain)) for m in found)


def _gain(found: Sequence[Measured]) -> Figure:
    each = [compared(m.gain) for m in _suite(found)]
    return timing.claim_ratio(
        'fusion_gain', {'': timing.Compared(*(mean_ratio(r) for r in zip(*each)))}, GAIN,
        better=HIGHER, how='time of the unfused export over that of its fused form, ONNX Runtime '
        'with its optimisations off, 1 thread, geometric mean of %d networks and of the ends of '
        'their intervals' % len(each))


def _harm(found: Sequence[Measured]) -> Figure:
    each = {m.network.name: compared(m.harm) for m in found}
    return timing.claim_ratio(
        'fusion_harm', each, HARM, better=LOWER,
        how="time of the fused form over that of the export, all of ONNX Runtime's optimisations "
        'on, 1 thread; %d networks, geometric mean %.3f; the worst, and what does not hold' % (
            len(found), mean_gain([c.ratio.value for c in each.values()])))


def _differences(found: Sequence[Measured]) -> List[Figure]:
    own = max(d for m in found for engine, d in m.differences.items()
              if engine.startswith('onnxruntime'))
    rest = {engine: max(m.differences[engine] for m in found if engine in m.differences)
            for engine in (*UNFUSING, 'openvino')
            if any(engine in m.differences for m in found)}
    return [claim('fusion_max_abs_diff', own, DIFFERENCE, better=LOWER,
                  how='of %d networks, export against fused form on random inputs, on the scale '
                  'of the largest output or of 1, ONNX Runtime with and without optimisation'
                  % len(found)),
            inform('fusion_max_abs_diff_elsewhere', max(rest.values(), default=None),
                   how='fused form on another engine against the export on ONNX Runtime, which '
                   'includes how the engine itself rounds: %s' % ', '.join(
                       '%s %.1e' % pair for pair in rest.items()))]


def _families(found: Sequence[Measured]) -> List[Figure]:
    made = []
    for family in FAMILY_NAMES:
        cases = {m.network.name: compared(m.alone) for m in found
                 if m.network.family == family}
        name = max(cases, key=lambda n: cases[n].ratio.value)
        others = ''.join('; %s %s' % (n, c.ratio.text) for n, c in cases.items() if n != name)
        made.append(timing.claim_ratio(
            'fusion_family_gain/' + family, {name: cases[name]}, 1.0, better=HIGHER,
            also=cases[name].ratio.low > 1.0,
            how='time with all other families over time with all, optimisation off, the best of '
            'its %d cases%s' % (len(cases), others)))
    return made


def _groups(found: Sequence[Measured]) -> List[Figure]:
    suite = _suite(found)
    members = {g: [m for m in suite if m.network.group == g]
               for g in dict.fromkeys(m.network.group for m in suite)}
    return [inform('fusion_gain_of/' + group, mean_gain([median(m.gain) for m in those]),
                   better=HIGHER, how='of these in fusion_gain: %s' % _each(those))
            for group, those in members.items()]


def _engines(found: Sequence[Measured]) -> List[Figure]:
    made = []
    for engine in UNFUSING:
        theirs = {m.network.name: median(m.others[engine]) for m in _suite(found)
                  if engine in m.others}
        made.append(inform(
            'fusion_gain_on/' + engine, mean_gain(list(theirs.values())) if theirs else None,
            better=HIGHER, how='the same on %s, the export cleaned so that it runs there; %d '
            'networks: %s' % (engine, len(theirs), ', '.join(
                '%s %.2f' % pair for pair in theirs.items()))))
    return made
