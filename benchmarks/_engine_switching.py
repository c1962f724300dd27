# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Switching (P III-C1): how soon another variant answers, and what that costs while frames come.

The peer is ONNX Runtime as a user starts it, everything at its default but one thread: where time
counts a session from the bytes of the model, where memory counts from its path. Networks are the
project's own backbones, untrained: time and memory do not hang on what they learnt. Serving runs
on the bundle of the package, with the objects of camera_inference.
"""
from __future__ import annotations

import importlib.util
import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from benchmarks import parts, timing
from benchmarks._engine_memory import network
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.nodes.switching import switch_percentile_s

CHILD, SERVE = 'benchmarks._engine_switching_child', 'benchmarks._engine_switching_serve'
ROS_CHILD, BUNDLE = 'benchmarks._node_switch', 'campus7'
CLAIMS: parts.Claims = {
    'switch_cold_speedup': (17.0, HIGHER), 'switch_resident_us': (50.0, LOWER),
    'switch_first_inference_ratio': (1.2, LOWER), 'switch_identical': (1.0, HIGHER),
    'switch_frames_lost': (0.0, LOWER), 'switch_memory_growth_mb': (1.0, LOWER),
    'eight_variants_private_memory': (0.25, LOWER)}
HEAD = 'resnet18'
WIDTHS = (64, 56, 48, 40, 32, 24, 16, 8)
QUICK_WIDTHS = (32, 28, 24, 20, 16, 12, 8, 4)
SWITCHED = (64, 32, 16)
"""Widths between which the pool switches."""
PLAIN, AGAIN, FAST, MAPPED, STREAMED = 'plain', 'plain again', 'fast', 'mapped', 'streamed'
PROCESSES, MOST_PROCESSES, COLD_ROUNDS = 5, 20, 40
FIRST_PROCESSES, MOST_FIRST_PROCESSES = 4, 10
SWITCHES, QUICK_SWITCHES = 1000, 60
RARE, QUICK_RARE, RARE_S = 60, 5, 1.0
"""Plans one by one, and the time between two."""
PER = 1000
"""Switches over which memory may grow by its bound."""
Found = Dict[str, Any]


def figures(quick: bool) -> List[Figure]:
    """Measure all; one group that fails leaves the others."""
    found: List[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups: Sequence[Tuple[Tuple[str, ...], Any]] = (
            (('switch_cold_speedup',), lambda: cold_figures(folder, quick)),
            (('switch_first_inference_ratio',), lambda: first_figures(folder, quick)),
            (('switch_resident_us',), lambda: resident_figures(folder, quick)),
            (('switch_identical', 'switch_frames_lost', 'switch_memory_growth_mb'),
             lambda: serving_figures(folder, quick)),
            (('eight_variants_private_memory',), lambda: variants_figures(folder, quick)))
        for keys, make in groups:
            found += parts.tried(keys, CLAIMS, make)
    return found


def _child(what: str, module: str = CHILD, **options: Any) -> Found:
    found: Found = timing.in_fresh_process(module, dict(options, what=what))
    return found


def _claim(key: str, value: Any, how: str) -> Figure:
    target, better = CLAIMS[key]
    return claim(key, value, target, better=better, how=how)


def _claim_ratio(key: str, found: Mapping[str, timing.Compared], how: str, *, also: bool
                 ) -> Figure:
    target, better = CLAIMS[key]
    return timing.claim_ratio(key, found, target, better=better, how=how, also=also)


# What is not resident


def cold_figures(folder: Path, quick: bool) -> List[Figure]:
    """Return how much sooner a session is ready than a plain one, and how long others wait."""
    said = network(folder, HEAD)
    least, most, count = (1, 1, 5) if quick else (PROCESSES, MOST_PROCESSES, COLD_ROUNDS)
    rounds: List[Mapping[str, float]] = timing.gathered(
        lambda: _child('cold', said=said, rounds=count)['rounds'],
        lambda found: timing.compared(found, PLAIN, AGAIN, FAST).control, least=least, most=most)
    speedup, mapped = (_speedup(rounds, way) for way in (FAST, MAPPED))
    ready = _medians_ms(rounds)
    answered = _child('answered', said=said, rounds=3 if quick else COLD_ROUNDS)
    first = _medians_ms(answered['rounds'])
    same = answered['digests'][PLAIN] == answered['digests'][FAST]
    how = ('%s at 224, one thread, page cache warm: a session ready in %s ms, plain from bytes, '
           '%d rounds in fresh processes; to its first answer %s ms, the same answer bit by bit: '
           '%s; plain over ours' % (HEAD, _listed(ready), len(rounds), _listed(first),
                                    'yes' if same else 'no'))
    return [_claim_ratio('switch_cold_speedup', {'': speedup}, how, also=same),
            inform('switch_cold_speedup/mapped', mapped.ratio.value, better=HIGHER,
                   how='the same with nothing packed anew: %s' % mapped.ratio.text),
            inform('switch_cold_first_answer', first[FAST] / first[PLAIN],
                   how='time to the first answer over that of a plain session, which the '
                   'inference itself dominates: medians %s ms' % _listed(first)),
            _blocking_figure(said, 3 if quick else COLD_ROUNDS)]


def _blocking_figure(said: Found, rounds: int) -> Figure:
    late = _child('blocking', said=said, rounds=rounds)
    return inform('switch_blocks_ms', 1e3 * late[FAST],
                  how='latest that another Python thread runs while sessions are made (the '
                  'interpreter is held): worst of %d, %s ms' % (rounds, _listed(
                      {way: 1e3 * value for way, value in late.items()})))


def _speedup(rounds: Sequence[Mapping[str, float]], way: str) -> timing.Compared:
    return timing.Compared(timing.median_ratio([(r[way], r[PLAIN]) for r in rounds]),
                           timing.median_ratio([(r[AGAIN], r[PLAIN]) for r in rounds]))


def _medians_ms(rounds: Sequence[Mapping[str, float]]) -> Dict[str, float]:
    return {way: 1e3 * statistics.median(r[way] for r in rounds) for way in rounds[0]}


def _listed(values: Mapping[str, float]) -> str:
    return ', '.join('%s %.1f' % item for item in values.items())


# The first answer behind a switch


def first_figures(folder: Path, quick: bool) -> List[Figure]:
    """Return the first run behind a switch over the steady ones, resident and prepared."""
    saids = [network(folder, HEAD, width=width) for width in SWITCHED]
    runs: List[Found] = timing.gathered(
        lambda: [_child('pool_switches', saids=saids, mode=FAST)],
        lambda found: max((c.control for c in _first_ratios(found).values()),
                          key=lambda control: control.half_width),
        least=1 if quick else FIRST_PROCESSES, most=1 if quick else MOST_FIRST_PROCESSES)
    prepare_s = statistics.median(s for run in runs for s in run['prepare_s'])
    how = ('%s at widths %s, one thread: first run behind a switch over the median of those that '
           'follow, control the last of these over the others, resident and prepared by the pool '
           '(session and warm-up %.0f ms, while the old one answers); all answers those of a '
           'fresh load: %s of %d' % (
               HEAD, ', '.join(map(str, SWITCHED)), 1e3 * prepare_s,
               sum(run['answers'] - run['other'] for run in runs),
               sum(run['answers'] for run in runs)))
    return [_claim_ratio('switch_first_inference_ratio', _first_ratios(runs), how,
                         also=not any(run['other'] for run in runs))]


def _first_ratios(runs: Sequence[Found]) -> Dict[str, timing.Compared]:
    found = {}
    for kind in ('resident', 'prepared'):
        rounds = [r for run in runs for r in run['rounds'][kind]]
        found[kind] = timing.Compared(*(
            timing.median_ratio([(r[steady], r[one]) for r in rounds])
            for steady, one in (('steady', 'first'), ('before', 'last'))))
    return found


# What is resident


def resident_figures(folder: Path, quick: bool) -> List[Figure]:
    """Return the time from the plan callback's entry to the reference replaced."""
    count = QUICK_SWITCHES if quick else SWITCHES
    found = _child('resident', SERVE, cache_dir=str(folder / 'resident'), count=count)
    how = ('%d plans among %d resident candidates of %s, plan entered to reference replaced, '
           'at every moment of frames at 30 Hz' % (count, found['candidates'], BUNDLE))
    served = '%d of %d frames answered, %d lost' % (found['answers'], found['frames'],
                                                    found['lost'])
    row = ('median of %s, ten in a row; p99 %.0f us; %s' % (
        how, 1e6 * (switch_percentile_s(found['times_s']) or 0.0), served))
    rested = inform('switch_resident_us/rested', _median_us(found['rested_s']),
                    how='median of those that came after a rest of up to 40 ms, when nothing of '
                    "the process is left in the processor's caches; longest %.0f us" % (
                        1e6 * max(found['rested_s'])))
    through = _through_ros(quick)
    if through is None:  # the node's own callback is what decides, where there is a node
        return [_claim_us('switch_resident_us', found['times_s'], row, also=not found['lost']),
                rested]
    times_s, rare_s = through['times_s'], through['rare_s']
    return [_claim_us('switch_resident_us', times_s,
                      'median of %d plans through the topic to the real node, plan callback '
                      'entered to reference replaced, after pauses of up to 10 ms, while its '
                      'worker answers without a pause; p99 %.0f us' % (
                          len(times_s), 1e6 * (switch_percentile_s(times_s) or 0.0)),
                      also=not found['lost']),
            inform('switch_resident_us/one_a_second', _median_us(rare_s),
                   how='likewise, median of %d plans %g s apart; longest %.0f us' % (
                       len(rare_s), RARE_S, 1e6 * max(rare_s))),
            inform('switch_resident_us/without_ros', _median_us(found['times_s']), how=row),
            rested]


def _claim_us(key: str, times_s: Sequence[float], how: str, *, also: bool) -> Figure:
    return timing.claim_median(key, [1e6 * s for s in times_s], CLAIMS[key][0], how=how, also=also)


def _median_us(times_s: Sequence[float]) -> float:
    return 1e6 * statistics.median(times_s)


def _through_ros(quick: bool) -> Optional[Found]:
    """Return the seconds of the same through the real node and its topics, None without ROS."""
    if importlib.util.find_spec('rclpy') is None:
        return None
    found: Found = timing.in_fresh_process(ROS_CHILD, {
        'bundle': BUNDLE, 'count': QUICK_SWITCHES if quick else SWITCHES,
        'rare_count': QUICK_RARE if quick else RARE, 'rare_s': RARE_S})
    return found


# While a camera is served


def serving_figures(folder: Path, quick: bool) -> List[Figure]:
    """Return frames lost, answers other than a fresh load's, and growth of memory."""
    count = 2 * (QUICK_SWITCHES if quick else SWITCHES)
    found = _child('serve', SERVE, cache_dir=str(folder / 'serve'), count=count)
    # Where nothing was kept when it is loaded; in a hurry what the first process kept is taken.
    fresh = _child('fresh', SERVE, cache_dir=str(folder / ('serve' if quick else 'fresh')))
    known = {tuple(said) for said in fresh['said']}
    other = [said for said in found['said'] if tuple(said) not in known]
    kinds = {kind: len(times) for kind, times in found['times_s'].items()}
    how = ('%d random switches (%d to resident candidates, %d to prepared ones in %.0f ms at the '
           'median) in three memory modes while %s answers a camera at 30 Hz' % (
               count, kinds['resident'], kinds['prepared'],
               1e3 * statistics.median(found['times_s']['prepared']), BUNDLE))
    return [
        _claim('switch_identical', 1.0 if found['said'] and not other else 0.0,
               '%s: %d pairs of candidate and picture were answered, %d of them otherwise than '
               'by the candidate loaded anew in another process' % (how, len(found['said']),
                                                                    len(other))),
        _claim('switch_frames_lost', float(found['lost']),
               '%s: of %d frames %d were answered and %d told as superseded; frames came at '
               'worst %.1f ms late, typically %.2f' % (
                   how, found['frames'], found['answers'], found['superseded'],
                   1e3 * found['latest_s'], 1e3 * found['typical_late_s'])),
        *_growth_figures(found['memory'], how)]


def _growth_figures(memory: Sequence[Tuple[int, float]], how: str) -> List[Figure]:
    """Return the slope of private memory over the second half, in MB per 1000 switches."""
    later = memory[len(memory) // 2:]
    slope = float(np.polyfit([n for n, _ in later], [mb for _, mb in later], 1)[0]) * PER
    middle, end = later[0][0], memory[-1][0]
    return [
        _claim('switch_memory_growth_mb', slope,
               '%s: the first %d are warm-up, in which each candidate finds its places in memory; '
               'slope of private memory per %d switches over the %d that follow, looked at each '
               'time with the same one candidate resident; %.1f MB before the warm-up, %.1f '
               'behind it, %.1f at the end, highest %.1f' % (
                   how, middle, PER, end - middle, memory[0][1], later[0][1], memory[-1][1],
                   max(mb for _, mb in memory))),
        inform('switch_memory_growth_mb/warm_up', later[0][1] - memory[0][1],
               how='what the %d switches of the warm-up add, MB' % middle)]


# Many at once


def variants_figures(folder: Path, quick: bool) -> List[Figure]:
    """Return the private memory of eight resident variants over eight plain sessions."""
    widths = QUICK_WIDTHS if quick else WIDTHS
    saids = [network(folder, HEAD, width=width) for width in widths]
    _child('several', saids=saids, mode=MAPPED)  # what is rewritten once, is there
    rounds = 1 if quick else 3
    found = {mode: statistics.median(_child('several', saids=saids, mode=mode)['anon_mb']
                                     for _ in range(rounds))
             for mode in (PLAIN, FAST, MAPPED, STREAMED)}
    how = ('anonymous memory of %s at widths %s, all loaded and run: %s MB; %d processes each' % (
        HEAD, ', '.join(map(str, widths)), _listed(found), rounds))
    return [_claim('eight_variants_private_memory', found[MAPPED] / found[PLAIN], how),
            inform('eight_variants_private_memory/fast', found[FAST] / found[PLAIN],
                   how='the same in mode fast over kept graphs')]
