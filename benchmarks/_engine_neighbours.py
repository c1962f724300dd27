# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
An engine beside a busy neighbour, and alone: ONNX Runtime's defaults against the schedule.

Two threads are allowed. The neighbour is an endless loop in a process of its own at the usual
priority, in the session of the engines: Linux groups processes by session when it shares the
processor, and robots start all of theirs in one. Both engines stay loaded in processes of their
own and run in turns, never at once; nothing tells ours of the neighbour but the counters of the
kernel.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import onnx
import torch

from benchmarks import parts, timing
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.cli.processes import ros_environment
from crowdhmt_ros.elastic.backbones import BACKBONES
from crowdhmt_ros.elastic.export import to_onnx

CHILD = 'benchmarks._engine_neighbours_child'
CLAIMS: parts.Claims = {'busy_neighbour_gain': (1.3, HIGHER), 'quiet_cost': (1.03, LOWER)}
HEAD = ('resnet18', 224)
"""Decides; the others inform."""
OTHERS = (('mobilenet_v2', 224), ('resnet18', 32))
PROCESSES, TURNS, RUNS, ADAPT_EVERY = 5, 8, 5, 4
QUICK_TURNS = 3
GAP_S = 0.01
"""Between turns: by then threads that spin have stopped."""
BUSY_LOOP = 'while True: pass'
CLASSES = 1000


class Condition(NamedTuple):
    """
    What runs beside the engines.

    :param neighbours: endless loops
    :param core: on which they are kept, None where the system decides
    :param own_session: whether they are a session of their own
    """

    neighbours: int
    core: Optional[int] = None
    own_session: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        where = '' if self.core is None else ' on core %d' % self.core
        return '%d busy loops%s in %s session' % (
            self.neighbours, where, 'their own' if self.own_session else 'the same')


class Turns(NamedTuple):
    """Seconds of all runs by engine, and why ours ran as it did."""

    times_s: Dict[str, List[float]]
    reason: str


def figures(quick: bool) -> List[Figure]:
    """Measure beside a neighbour and alone; other networks and neighbours inform."""
    with tempfile.TemporaryDirectory() as name:
        head = Network(Path(name), *HEAD, quick=quick)
        found = parts.tried(('busy_neighbour_gain',), CLAIMS, lambda: busy_figures(head, quick))
        found += parts.tried(('quiet_cost',), CLAIMS, lambda: quiet_figures(head, quick))
        if not quick:
            found += other_figures(head, [Network(Path(name), *other, quick=quick)
                                          for other in OTHERS])
    return found


class Network:
    """An untrained backbone in a folder, with its times on this machine alone."""

    def __init__(self, folder: Path, name: str, edge: int, *, quick: bool) -> None:
        self.title = '%s_%d' % (name, edge)
        torch.manual_seed(0)
        net = BACKBONES[name](CLASSES, edge=edge).eval()
        path = folder / (self.title + '.onnx')
        onnx.save_model(to_onnx(net, torch.zeros(1, 3, edge, edge)), path)
        self.said: Mapping[str, Any] = {
            'name': self.title, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
            'path': str(path), 'plain_path': str(path), 'weight_bytes': path.stat().st_size,
            'inputs': [('image', 'float32', (1, 3, edge, edge))],
            'outputs': [('logits', 'float32', (1, CLASSES))]}
        self.times_s: Mapping[str, float] = timing.in_fresh_process(
            CHILD, {'how': 'alone', 'said': self.said, 'runs': 11 if quick else 31})


class Engine:
    """A child that answers line by line."""

    def __init__(self, network: Network, how: str) -> None:
        request = {'how': how, 'said': network.said, 'times_s': network.times_s}
        self._process = subprocess.Popen(
            [sys.executable, '-m', CHILD, json.dumps(request)], env=ros_environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._read()

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError('an engine ended with exit code %s' % self._process.wait())
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        _end(self._process)


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


@contextlib.contextmanager
def beside(condition: Condition) -> Iterator[None]:
    """Let neighbours run."""
    loops: List[subprocess.Popen[Any]] = []
    try:
        for _ in range(condition.neighbours):
            loop = subprocess.Popen([sys.executable, '-c', BUSY_LOOP],
                                    start_new_session=condition.own_session)
            loops.append(loop)
            if condition.core is not None:
                os.sched_setaffinity(loop.pid, {condition.core})
        yield
    finally:
        for loop in loops:
            _end(loop)


def in_turns(network: Network, condition: Condition, hows: Mapping[str, str], *,
             processes: int, turns: int) -> Turns:
    """
    Run engines in turns, their order reversed at each.

    :param hows: title -> 'ours' or 'theirs'
    :param processes: fresh ones for each engine
    """
    times_s: Dict[str, List[float]] = {title: [] for title in hows}
    reason = ''
    for _ in range(processes):
        with beside(condition), contextlib.ExitStack() as stack:
            engines: Dict[str, Engine] = {}
            for title, how in hows.items():
                engines[title] = Engine(network, how)
                stack.callback(engines[title].end)
            for turn in range(turns):
                if turn % ADAPT_EVERY == 0:
                    reason = [e.ask(do='adapt') for e in engines.values()][-1]['reason']
                for title in sorted(engines, reverse=bool(turn % 2)):
                    time.sleep(GAP_S)
                    times_s[title] += engines[title].ask(do='run', runs=RUNS)
    return Turns(times_s, reason)


BOTH = {'theirs': 'theirs', 'ours': 'ours'}


def busy_figures(network: Network, quick: bool) -> List[Figure]:
    """Return what is gained beside one busy neighbour."""
    found = in_turns(network, Condition(1), BOTH, processes=1 if quick else PROCESSES,
                     turns=QUICK_TURNS if quick else TURNS)
    gain, tails, how = _gain(found)
    target, better = CLAIMS['busy_neighbour_gain']
    return [claim('busy_neighbour_gain', gain, target, better=better, also=tails[1] <= tails[0],
                  how='%s, two threads, one busy loop in the same session: %s' % (
                      network.title, how))]


def _gain(found: Turns) -> Any:
    theirs, ours = found.times_s['theirs'], found.times_s['ours']
    medians = [statistics.median(t) for t in (theirs, ours)]
    tails = [float(np.percentile(t, 95)) for t in (theirs, ours)]
    how = ("median %.1f ms of ONNX Runtime's defaults over %.1f ms, 95th percentile %.1f and "
           '%.1f ms, %d runs each; %s' % (
               1e3 * medians[0], 1e3 * medians[1], 1e3 * tails[0], 1e3 * tails[1], len(ours),
               found.reason))
    return medians[0] / medians[1], tails, how


def quiet_figures(network: Network, quick: bool) -> List[Figure]:
    """Return what the schedule costs where nobody else is busy, beside a control."""
    found = in_turns(network, Condition(0), {'theirs': 'theirs', 'theirs again': 'theirs',
                                             'ours': 'ours'},
                     processes=1 if quick else PROCESSES, turns=QUICK_TURNS if quick else TURNS)
    theirs = found.times_s['theirs']
    ratio, control = (timing.median_ratio(list(zip(theirs, found.times_s[title])))
                      for title in ('ours', 'theirs again'))
    target, better = CLAIMS['quiet_cost']
    return [claim('quiet_cost', ratio.value, target, better=better, how=(
        "%s, two threads, nobody else: ours over ONNX Runtime's defaults %s; control %s; %s" % (
            network.title, ratio.text, control.text, found.reason)))]


def other_figures(head: Network, others: Sequence[Network]) -> List[Figure]:
    """Return other networks beside a neighbour, and other neighbours."""
    found = [_informed('busy_neighbour_gain/' + network.title, network, Condition(1))
             for network in others]
    found += [_informed('quiet_gain/' + network.title, network, Condition(0))
              for network in others]
    conditions: Mapping[str, Condition] = {
        'own_session': Condition(1, own_session=True), 'on_core_0': Condition(1, core=0),
        'two_neighbours': Condition(2)}
    return found + [_informed('busy_neighbour_gain/' + title, head, condition)
                    for title, condition in conditions.items()]


def _informed(key: str, network: Network, condition: Condition) -> Figure:
    gain, _, how = _gain(in_turns(network, condition, BOTH, processes=1, turns=TURNS))
    return inform(key, gain, better=HIGHER, how='%s, %r: %s' % (
        network.title, condition, how))
