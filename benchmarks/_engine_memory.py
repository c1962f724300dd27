# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the engine takes in memory: how good its plans are, and what processes grow by.

Each cell is a fresh process (`_engine_memory_child`); the peer is ONNX Runtime as a user starts
it: one session from the path of the model, everything at its default but one thread (from bytes
it would take a quarter more). Networks are the project's own backbones, untrained: neither memory
nor time hangs on what they learnt.
"""
from __future__ import annotations

import hashlib
import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks import parts, timing
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
from crowdhmt_ros.elastic.backbones import BACKBONES
from crowdhmt_ros.elastic.export import to_onnx
from crowdhmt_ros.engine.memory.optimised import Optimised, optimised_graph
from crowdhmt_ros.engine.memory.pieces import live_bytes, plan_operators
from crowdhmt_ros.engine.memory.rewrite_child import shapes
from crowdhmt_ros.engine.memory.stripes import striped
from crowdhmt_ros.engine.memory.wire import WireGraph, read_wire
from crowdhmt_ros.engine.memory_plan import MemoryPlan, Step, plan_memory
from crowdhmt_ros.types import EngineOptions, TensorSpec

CHILD = 'benchmarks._engine_memory_child'
NETWORKS = {'resnet18': ('resnet18', 224), 'resnet34': ('resnet34', 224), 'vgg16': ('vgg16', 224),
            'mobilenet_v2': ('mobilenet_v2', 224), 'resnet18@32': ('resnet18', 32)}
QUICK_NETWORKS = ('mobilenet_v2', 'resnet18@32')
HEAD = 'resnet18'
LARGE = ('resnet34', 'vgg16')
"""One process each: they take long, and repeat to a percent."""
EDGE, CLASSES = 224, 1000
DAGS, PROCESSES, QUICK_PROCESSES = 200, 3, 1
LATENCY_PROCESSES, MOST_LATENCY_PROCESSES, ROUNDS, LARGE_ROUNDS = 5, 8, 40, 12
RUN_GROWTH, RUN_LATENCY = 0.7, 1.03
PLAIN, AGAIN, DEFAULT_RUN = 'plain', 'plain again', 'default_run'
MAPPED, PLANNED, STREAMED = 'mapped', 'planned', 'streamed'
ANSWERS_DIFFER = 1e-4
"""Of the largest answer: the engine packs the last layer's weights or does not."""
CLAIMS: parts.Claims = {
    **{'arena_vs_bound/' + name: (1.0, LOWER) for name in NETWORKS},
    'arena_dags_mean': (1.04, LOWER), 'arena_dags_p95': (1.15, LOWER),
    **{'run_growth_vs_default/' + name: (RUN_GROWTH, LOWER) for name in NETWORKS},
    **{'run_growth_latency/' + name: (RUN_LATENCY, LOWER) for name in NETWORKS},
    **{'growth_vs_floor/' + name: (1.35, LOWER) for name in NETWORKS},
    **{'growth_vs_plain/' + name: (0.45, LOWER) for name in NETWORKS}}
Said = Dict[str, Any]


def figures(quick: bool) -> List[Figure]:
    """Measure all figures of this part; quick ones of the small networks only."""
    names = QUICK_NETWORKS if quick else tuple(NETWORKS)
    with tempfile.TemporaryDirectory(prefix='crowdhmt-memory-') as folder:
        saids = {name: network(Path(folder), NETWORKS[name][0], edge=NETWORKS[name][1])
                 for name in names}
        found = arena_figures(saids)
        found += [stripes_figure(name, said) for name, said in saids.items()]
        for name, said in saids.items():
            keys = [key for key in CLAIMS if key.endswith('/' + name) and 'arena' not in key]
            found += parts.tried(keys, CLAIMS, lambda n=name, s=said: (  # type: ignore[misc]
                run_phase_figures(n, s, quick=quick) + growth_figures(n, s, quick=quick)))
    return found


def network(folder: Path, name: str, *, edge: int = EDGE, **options: Any) -> Said:
    """
    Export a backbone, once in one file and once with its weights beside it.

    :returns: what a child is told of it
    """
    title = '-'.join([name, str(edge), *('%s%s' % o for o in options.items())])
    torch.manual_seed(0)
    net = BACKBONES[name](CLASSES, edge=edge, **options).eval()
    model = to_onnx(net, torch.zeros(1, 3, edge, edge))
    plain, beside = folder / (title + '.plain.onnx'), folder / (title + '.onnx')
    data = folder / (title + '.bin')
    data.unlink(missing_ok=True)  # onnx would write behind what is there
    onnx.save_model(model, plain)
    onnx.save_model(model, beside, save_as_external_data=True, location=data.name,
                    size_threshold=1024)
    return {'name': title, 'sha256': hashlib.sha256(beside.read_bytes()).hexdigest(),
            'path': str(beside), 'plain_path': str(plain),
            'weight_bytes': data.stat().st_size,
            'inputs': [('image', 'float32', (1, 3, edge, edge))],
            'outputs': [('logits', 'float32', (1, CLASSES))]}


def _child(what: str, **options: Any) -> Any:
    return timing.in_fresh_process(CHILD, dict(options, what=what))


# Plans


def arena_figures(saids: Mapping[str, Said]) -> List[Figure]:
    """Return the planned arena over the largest live set: of chains, and of random graphs."""
    figures = []
    for name, said in saids.items():
        plans = {'as exported': _exported_plan(said), 'as rewritten': _rewritten_plan(said)}
        worst = max(plan.arena_vs_bound_ratio for plan in plans.values())
        figures.append(claim('arena_vs_bound/' + name, worst, 1.0, better=LOWER, how=', '.join(
            '%s %.2f of %.2f MB by %s' % (how, p.arena_bytes / 1e6, p.bound_bytes / 1e6,
                                          p.algorithm) for how, p in plans.items())))
    ratios = [_random_plan(seed).arena_vs_bound_ratio for seed in range(DAGS)]
    how = '%d random graphs of 20 to 200 operators, worst %.3f' % (DAGS, max(ratios))
    return [*figures,
            claim('arena_dags_mean', statistics.mean(ratios), 1.04, better=LOWER, how=how),
            claim('arena_dags_p95', float(np.percentile(ratios, 95)), 1.15, better=LOWER,
                  how=how)]


def stripes_figure(name: str, said: Said) -> Figure:
    """Return the largest live set with stripes, as mode streamed has them, over that without."""
    made, graph = _rewritten(said)
    inputs = {n: TensorSpec(n, dtype, tuple(shape)) for n, dtype, shape in said['inputs']}
    found = striped(graph, made.tensors, inputs)
    whole, cut = (live_bytes(*pair) for pair in (
        (graph, made.tensors), (found.graph, found.tensors)))
    return inform('stripes_live_vs_whole/' + name, cut / whole,
                  how='largest live set %.2f MB whole, %.2f MB in %d stripes' % (
                      whole / 1e6, cut / 1e6, len(found.copies) // 2))


def _exported_plan(said: Said) -> MemoryPlan:
    graph, folder = read_wire(said['path']), str(Path(said['path']).parent)
    found = shapes(graph, folder)
    return plan_operators(graph, {n: TensorSpec(n, dtype, tuple(shape))
                                  for n, (dtype, shape) in found.items()})


def _rewritten_plan(said: Said) -> MemoryPlan:
    made, graph = _rewritten(said)
    return plan_operators(graph, made.tensors)


def _rewritten(said: Said) -> Tuple[Optimised, WireGraph]:
    from benchmarks._engine_memory_child import segment_of
    made = optimised_graph(segment_of(said), EngineOptions(), str(onnxruntime.__version__))
    return made, read_wire(made.graph_path)


def _random_plan(seed: int) -> MemoryPlan:
    """Plan an order of operators that mostly read what is near, sometimes what is far."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(20, 200))
    steps, sizes = [], {}
    for i in range(count):
        least = 0 if rng.random() < 0.15 else max(0, i - 6)
        reads = {int(r) for r in rng.integers(least, i, int(rng.integers(1, 4)))} if i else set()
        steps.append(Step('s%d' % i, tuple('t%d' % r for r in sorted(reads)), ('t%d' % i,)))
        sizes['t%d' % i] = int(2 ** rng.integers(0, 7)) * int(rng.integers(1, 4096))
    return plan_memory(steps, sizes, kept=['t%d' % (count - 1)])


# What runs


def run_phase_figures(name: str, said: Said, *, quick: bool) -> List[Figure]:
    """Return what running takes over what ONNX Runtime's own arena takes, and its latency."""
    rounds = _processes(name, quick)
    ours, theirs = ([_child('growth', said=said, mode=mode)['run_anon_mb']
                     for _ in range(rounds)] for mode in (PLANNED, DEFAULT_RUN))
    ratio = statistics.median(ours) / statistics.median(theirs)
    how = ('%s: %.2f MB of anonymous memory from loaded to run in mode planned, %.2f MB with '
           "ONNX Runtime's arena and pattern on the same mapped graph; the largest set of whole "
           'tensors that live at once is %.2f MB; %d processes each' % (
               name, statistics.median(ours), statistics.median(theirs),
               _rewritten_plan(said).bound_bytes / 1e6, rounds))
    return [claim('run_growth_vs_default/' + name, ratio, RUN_GROWTH, better=LOWER, how=how),
            latency_figure(name, said, quick=quick)]


def _processes(name: str, quick: bool) -> int:
    return QUICK_PROCESSES if quick or name in LARGE else PROCESSES


def latency_figure(name: str, said: Said, *, quick: bool) -> Figure:
    """Return the latency of mode planned over plain ONNX Runtime, beside a control."""
    modes = {PLAIN: PLAIN, AGAIN: PLAIN, PLANNED: PLANNED}
    count = LARGE_ROUNDS if name in LARGE else ROUNDS
    rounds: List[Mapping[str, float]] = timing.gathered(
        lambda: _child('latencies', said=said, modes=modes, count=count)['rounds'],
        lambda found: timing.compared(found, PLAIN, AGAIN, PLANNED).control,
        least=1 if quick else LATENCY_PROCESSES, most=1 if quick else MOST_LATENCY_PROCESSES)
    return timing.claim_ratio(
        'run_growth_latency/' + name, {'': timing.compared(rounds, PLAIN, AGAIN, PLANNED)},
        RUN_LATENCY, better=LOWER,
        how='%s, mode planned over plain ONNX Runtime, one thread' % name)


def floor_mb(said: Said) -> float:
    """Return weights, largest live set and input: what any engine needs that keeps weights."""
    inputs = sum(4 * int(np.prod(shape)) for _, _, shape in said['inputs'])
    return float(said['weight_bytes'] + _rewritten_plan(said).bound_bytes + inputs) / 1e6


def growth_figures(name: str, said: Said, *, quick: bool) -> List[Figure]:
    """Return the highest point of resident memory in the lean modes, over floor and plain."""
    rounds = _processes(name, quick)
    found = {mode: [_child('growth', said=said, mode=mode) for _ in range(rounds)]
             for mode in (PLAIN, MAPPED, PLANNED, STREAMED)}
    peak = {mode: statistics.median(r['peak_mb'] for r in rows) for mode, rows in found.items()}
    anon = {mode: statistics.median(r['anon_mb'] for r in rows) for mode, rows in found.items()}
    if _largest_difference(found) > ANSWERS_DIFFER:
        raise RuntimeError('%s answers otherwise: %s' % (name, _difference(found)))
    floor = floor_mb(said)
    seconds = {mode: statistics.median(r['median_s'] for r in rows)
               for mode, rows in found.items()}
    beside = 'mode %s, its latency %.2f of plain, medians of processes; see growth_vs_floor'
    how = ('%s: highest resident growth %s MB, pages of the engine that loading gave back counted '
           'as if they were there; anonymous %s MB; floor %.1f MB; answers %s' % (
               name, _listed(peak), _listed(anon), floor, _difference(found)))
    return [claim('growth_vs_floor/' + name, peak[PLANNED] / floor, 1.35, better=LOWER, how=how),
            claim('growth_vs_plain/' + name, peak[PLANNED] / peak[PLAIN], 0.45, better=LOWER,
                  how=beside % (PLANNED, seconds[PLANNED] / seconds[PLAIN])),
            inform('streamed_vs_plain/' + name, peak[STREAMED] / peak[PLAIN],
                   how=beside % (STREAMED + ' without a limit',
                                 seconds[STREAMED] / seconds[PLAIN]))]


def _listed(values: Mapping[str, float]) -> str:
    return ', '.join('%s %.1f' % item for item in values.items())


def _largest_difference(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    answers = {mode: np.array(rows[0]['answer']) for mode, rows in found.items()}
    largest = float(np.abs(answers[PLAIN]).max())
    return max(float(np.abs(a - answers[PLAIN]).max()) / largest for a in answers.values())


def _difference(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    return 'differ by %.1e of the largest' % _largest_difference(found)
