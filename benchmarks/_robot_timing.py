# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node costs beside the bare engine."""
from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from benchmarks import timing
from crowdhmt_ros.cli.figures import LOWER, Figure, inform
from crowdhmt_ros.cli.processes import Fleet, ros_environment
from crowdhmt_ros.engine.backend import Executable, make_buffers
from crowdhmt_ros.nodes import table
from crowdhmt_ros.nodes.engine_room import open_engine_room
from crowdhmt_ros.nodes.params import CameraInferenceParameters

OVERHEAD_BOUND = 1.15
ARRANGED = ('all threads of the node and of the bare engine on the first core, the recorder that '
            'listens on the last, niced to 19')
WISHED_INFER_S = 0.005
TRIAL_RUNS = 61
MOST_REPEATS = 3
ROUNDS, QUICK_ROUNDS, QUICK_PROCESSES = 240, 30, 2


@contextlib.contextmanager
def recorder() -> Iterator[None]:
    """Keep a recorder listening in another process; its ROS settings hold here too."""
    environment = ros_environment()
    names = ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE')
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: environment[name] for name in names})
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(environment, Path(folder))
        child = fleet.start('recorder', table.command(
            'recorder', namespace='vehicle', parameters={'out': folder + '/events.jsonl'}))
        # What the listener does with a message is not the node's cost: it yields to the node.
        os.setpriority(os.PRIO_PROCESS, child.pid, 19)
        os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
        try:
            time.sleep(1.0)
            yield
        finally:
            fleet.stop_all()
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def undisturbed_s(executables: Mapping[str, Executable]) -> Dict[str, float]:
    """Return variant_id -> seconds of an undisturbed run after the others, so with cold caches."""
    runs = {}
    for variant_id, executable in executables.items():
        inputs, outputs = make_buffers(executable.inputs), make_buffers(executable.outputs)
        runs[variant_id] = timing.timed(partial(executable.run, inputs, outputs))
    took = [{variant_id: run() for variant_id, run in runs.items()} for _ in range(TRIAL_RUNS)]
    return {v: sorted(row[v] for row in took)[TRIAL_RUNS // 4] for v in runs}


def slow_enough(bundle_name: str) -> Tuple[str, int]:
    """Return the variant, and how often it is repeated, that comes nearest to 5 ms."""
    room = open_engine_room(CameraInferenceParameters(bundle=bundle_name))
    try:
        infer_s = undisturbed_s({c.variant_id: room.pool.prepare(c)
                                 for c in room.bundle.candidates((1,), ('fast',))})
    finally:
        room.close()
    offered = [(abs(math.log(repeat * once_s / WISHED_INFER_S)), repeat, variant_id)
               for variant_id, once_s in infer_s.items() for repeat in range(1, MOST_REPEATS + 1)]
    _, repeat, variant_id = min(offered)
    return variant_id, repeat


def collect(variant_id: str, repeat: int, *, processes: int, rounds: int
            ) -> Tuple[Dict[str, List[Tuple[float, float, float]]], Dict[str, float]]:
    """Return ('own' and 'topic' -> rounds of (bare, bare again, node) in s, means) of all runs."""
    found: Dict[str, List[Tuple[float, float, float]]] = {'own': [], 'topic': []}
    feedback, infer = [], []
    with recorder():
        for _ in range(processes):
            part: Dict[str, Any] = timing.in_fresh_process('benchmarks._node_overhead', {
                'variant_id': variant_id, 'repeat': repeat, 'rounds': rounds})
            for kind, rows in found.items():
                rows += [tuple(row) for row in part[kind]]
            feedback.append(part['feedback_s_a_frame'])
            infer.append(part['infer_s'])
    return found, {'feedback_s': sum(feedback) / processes, 'infer_s': sum(infer) / processes}


def overhead_figures(bundle_name: str, *, quick: bool) -> List[Figure]:
    """Return the node's time over the bare engine's, for own frames and for a topic's."""
    variant_id, repeat = slow_enough(bundle_name)
    processes, rounds = (QUICK_PROCESSES, QUICK_ROUNDS) if quick else (timing.PROCESSES, ROUNDS)
    found, means = collect(variant_id, repeat, processes=processes, rounds=rounds)
    figures = []
    for kind, key in (('own', 'node_overhead_ratio'), ('topic', 'node_overhead_topic_ratio')):
        node = timing.median_ratio([(a, b + means['feedback_s']) for a, _, b in found[kind]])
        control = timing.median_ratio([(a, again) for a, again, _ in found[kind]])
        how = '%s; A/A %s; %s x%d, bare %.2f ms, %d processes, 1 thread; %s' % (
            node.text, control.text, variant_id, repeat, 1e3 * means['infer_s'], processes,
            ARRANGED)
        if kind == 'own':
            holds = timing.holds_at_most(node, OVERHEAD_BOUND, control)
            figures.append(Figure(key, node.value, OVERHEAD_BOUND, LOWER,
                                  holds and node.pairs >= timing.PAIRS, how))
        else:
            figures.append(inform(key, node.value, how=how))
        figures.append(inform(key + '/control_width', control.high - control.low,
                              how='interval of the A/A control; above 0.03 nothing is concluded'))
    return [*figures, inform('feedback_us_a_frame', 1e6 * means['feedback_s'],
                             how='share of one window of ten frames, included above')]
