# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Makes benchmarks/variants*.yaml: the variants that are compared, chosen before any training.

`python -m benchmarks._choose_variants --out benchmarks/variants.yaml` measures the proposals on
an untrained ResNet18 and takes sixteen that are log-spaced in latency; `--task har --out
benchmarks/variants_har.yaml` takes all that are proposed for a task with a network of its own.
The proposals say what should lose least: stages with few places hold most weights and least of
the accuracy, so they are factorized, separated or squeezed first; stages with many places get
narrower or shorter.
"""
from __future__ import annotations

import argparse
import logging
import os
import platform
from pathlib import Path
from typing import Dict, Mapping, Sequence

from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.types import OperatorChoice, Variant

BACKBONE, CLASSES, EDGE, EXITS = 'resnet18', 100, 32, (1, 2, 3)
CODES = {'w': ('channel', 'ratio', 100), 'v': ('svd', 'rank', 100),
         'f': ('fire', 'squeeze', 1000), 's': ('sparse', 'atoms', 0), 'd': ('depth', 'blocks', 0),
         'k': ('scale', 'kernel', 0), 'x': ('scale', 'stride', 0)}
PLAIN = {'g': 'ghost', 'a': 'asymmetric'}
HEAD = """# Variants of %s that are compared, fixed before any was trained.
# Made by: python -m benchmarks._choose_variants%s. Speed-ups: of the untrained network.
"""
PROPOSALS: Sequence[str] = (
    '- - - v50', '- - - f250', 'g g g g', '- - a a', 'w75 w75 w75 w75,v25',
    'w75 w75 w75 w75,k1', 'd2 d1 f250 f250', 'w75,d2 w75 a a', 'w50 w50 w50 a', 'w50 a a a',
    'w50,d2 w50 a a', 'w50,d2 w75,a a a', 'd1 w75,a a a', 'w50,d1 w50,d1 a a',
    'w50,d1 w50,d1 w75,a w75,a',
    # what stands in where a machine spaces these differently
    '- - - s4', '- - - a', '- - g g', '- - - v25', 'w75 w75 w75 a', 'd2 - a a', 'w75 w75 a a',
    'd2 d1 d1 a', '- a a a', 'w75,d2 w75 f250 f250', 'w50 w75 a a', 'w75 a a a', 'w50 w50 a a',
    'w75,d2 a a a', 'w50 w50 w50 w50,k1', 'd1 d1 a a', 'w50 w75,a w75,a a', 'w50,d2 a a a',
    'w50,d2 w50,d1 a a', 'd1 a a a', 'w50,d2 w75,a w75,a a', 'w50,d1 a a a',
    'w50,d1 w75,a a a', 'w50,d1 w75,a w75,a a', 'w75,d1 w75,a w75,a w75,a',
    'w50,d1 w50,a w75,a a', 'w50,d1 w50,d1 w50,a a', 'a,w50 a,w50 a,w50 a,w50')
"""Per stage operators in the short form of `CODES`; those before the comment are wanted."""


OF_TASKS: Mapping[str, Sequence[str]] = {
    'har': ('- - a', '- a a', 'w50 w50 w50', 'w75,d1 w75,d1 w75,d1', 'w50 w50,a w50,a',
            'w50,d2 w50,d1 w50,d1', 'w50,a w50,a w50,a', 'w25 w25 w25'),
    'esc10': ('- - a a', '- a a a', 'w50 w50 w50 w50', 'w50 a a a',
              'w50,d2 w50,d1 w50,d1 w50,d1', 'a a a a', 'w25 a a a', 'w35 w35 w35 w35',
              'w38 w50 w50,a w50,a', 'w75,a w75,a w75,a w75,a')}
"""Likewise; all of them are taken."""


def proposals(texts: Sequence[str] = PROPOSALS, exits: int = len(EXITS)) -> Dict[str, Variant]:
    """
    Return the proposals by name, in order of preference.

    :param exits: that the network has before its end
    """
    from crowdhmt_ros.cli.variant_names import variant_names
    stages = [tuple(_stage(part) for part in text.split()) for text in texts]
    variants = [Variant(each, exits) for each in stages]
    return dict(zip(variant_names(variants, exits + 1), variants))


def _stage(text: str) -> tuple[OperatorChoice, ...]:
    return () if text == '-' else tuple(_operator(part) for part in text.split(','))


def _operator(code: str) -> OperatorChoice:
    if code in PLAIN:
        return OperatorChoice(PLAIN[code])
    name, parameter, whole = CODES[code[0]]
    value = int(code[1:])
    return OperatorChoice(name, ((parameter, value / whole if whole else value),))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, choose and write."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--width', type=int, default=32, help='channels of the first stage')
    parser.add_argument('--task', choices=sorted(OF_TASKS), default='')
    parser.add_argument('--rounds', type=int, default=200)
    parser.add_argument('--out', type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before torch is imported
    import onnxruntime
    import torch

    from crowdhmt_ros.elastic.store import Reference, elastic_of
    from crowdhmt_ros.machine_lock import hold_machine
    from crowdhmt_ros.tasks.members import Members, choose, members_text, timed
    from crowdhmt_ros.tasks.task_file import read_task
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone, exits = Reference(BACKBONE, CLASSES, {'width': given.width, 'edge': EDGE}), EXITS
    listing, texts = choose, PROPOSALS
    if given.task:
        task, listing, texts = read_task(given.task), timed, OF_TASKS[given.task]
        backbone, exits = task.backbone, task.exits
    net = elastic_of(backbone, exits).eval()
    with hold_machine():
        members = listing(net, proposals(texts, len(exits)), backbone.example()[:1],
                          rounds=given.rounds)
    how = ('ONNX Runtime %s, one thread, single inputs, median of %d interleaved turns, %s' % (
        onnxruntime.__version__, given.rounds, _processor()))
    head = HEAD % (('the task %s' % given.task, ' --task %s' % given.task) if given.task
                   else ('ResNet18 (%d pixels)' % EDGE, ''))
    write_whole(given.out, head + members_text(Members(backbone, members, how)))
    for member in members:
        print('%-24s %6.2f times as fast, %6.2f times fewer operations' % (
            member.name, member.speedup, member.macs_ratio))


def _processor() -> str:
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return models[0] if models else platform.machine()


if __name__ == '__main__':
    main()
