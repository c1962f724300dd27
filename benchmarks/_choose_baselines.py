# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures what the baselines choose before any training, and writes benchmarks/baselines.yaml."""
from __future__ import annotations

import argparse
import logging
import platform
from pathlib import Path

import yaml

from benchmarks._training_baseline_runs import CHOICES, CHOOSE, SPEEDUPS, TASK
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.baseline_training import task_of
from crowdhmt_ros.tasks.latency import measured, session_of
from crowdhmt_ros.tasks.static_choice import WHOLE, candidates, chosen
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.task_file import read_task
from crowdhmt_ros.tasks.training import untrained
from crowdhmt_ros.types import variant_to_json

logger = logging.getLogger(__name__)

MULTIPLIERS = (0.5, 0.35, 0.25, 0.1)
"""Of MobileNetV2: from dearer than the quarter-width ResNet18 to the narrowest, twice as fast."""
ROUNDS = 25


def choose(task: Task, path: Path = CHOICES) -> None:
    """Measure every static candidate, and write the choices."""
    example = task.backbone.example()[:1]
    net = untrained(task_of(task), 0)
    found = candidates(net)
    statistics = calibrate(net, found.values(), [task.backbone.example()])
    sessions = {n: session_of(extract(net, v, statistics).module, example)
                for n, v in found.items()}
    with hold_machine():
        seconds = measured(sessions, rounds=ROUNDS)
    rows = []
    for speedup in SPEEDUPS:
        name = chosen(net, found, seconds, speedup)
        rows.append({'speedup': speedup, 'name': name,
                     'measured_speedup': round(seconds[WHOLE] / seconds[name], 2),
                     'variant': variant_to_json(found[name])})
        logger.info('%gx: %s', speedup, name)
    write_whole(path, '# Chosen before any training: %s\n' % CHOOSE + yaml.safe_dump({
        'task': task.name,
        'measured': '%d candidates, one thread, single inputs, median of %d turns, %s' % (
            len(found), ROUNDS, platform.machine()),
        'mobilenet_v2': list(MULTIPLIERS), 'static': rows}, sort_keys=False,
        default_flow_style=None, width=99))


if __name__ == '__main__':
    argparse.ArgumentParser(description=str(__doc__).strip()).parse_args()
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    choose(read_task(TASK))
