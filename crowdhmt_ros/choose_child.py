# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One heat of engines in a process of its own: one that crashes takes no robot with it.

    python -m crowdhmt_ros.choose_child '{"default": ..., "others": ..., "fused": ...}'

prints a JSON object a line: {"starts": options} before an entrant is touched, {"result": ...}
behind it. What it was at when it ended early is therefore known.
"""
from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TextIO

from crowdhmt_ros.calibrate_child import segment_from
from crowdhmt_ros.engine.backends import BACKENDS
from crowdhmt_ros.engine.backends.several import SeveralBackend
from crowdhmt_ros.engine.choice import LONGEST_S, Entrant, Heat, Result, race
from crowdhmt_ros.engine.memory.room import be_first_to_go
from crowdhmt_ros.errors import CalibrationError, CrowdHMTError
from crowdhmt_ros.types import EngineOptions, Segment

LONGEST_ENTRANT_S = 60.0
"""For compiling and running one entrant; an engine that hangs is ended."""
LOOK_S = 0.2
MOST_CRASHES = 4
_log = logging.getLogger(__name__)


def run_heat(heat: Heat, *, longest_s: float = LONGEST_S,
             longest_entrant_s: float = LONGEST_ENTRANT_S,
             check: Callable[[], None] = lambda: None,
             command: Sequence[str] = ('-m', 'crowdhmt_ros.choose_child')) -> List[Result]:
    """
    Return how the entrants of a heat did, each in a child process.

    One that ends the child, or does not come back, is out with that as its reason, and the
    others go on without it. One at which the child was killed, which is what the kernel does for
    want of memory, is put off.

    :param longest_s: for the turns of one entrant
    :param longest_entrant_s: for everything about one entrant
    :param check: called several times a second; what it raises ends the child
    :param command: of the child, behind the interpreter
    :raises CalibrationError: when the default does not run there
    """
    results: List[Result] = []
    left = heat
    for _ in range(MOST_CRASHES):
        child = _Child(left, longest_s, command)
        try:
            failed = child.follow(longest_entrant_s, check)
        finally:
            child.end()
        results += child.results
        if failed is None:
            return results
        if failed == left.default:
            raise CalibrationError('engines for %s cannot be compared: %s' % (
                left.default.segment.segment_id, child.why))
        results.append(Result(failed, None, 0, child.why, child.was_killed))
        _log.warning('%s is out for %s: %s', failed.options.backend, failed.segment.segment_id,
                     child.why)
        left = _without(left, [r.entrant for r in results])
        if not left.others and not left.fused and not left.more:
            return results
    return results


def _without(heat: Heat, entrants: Sequence[Entrant]) -> Heat:
    """Return what of a heat is still to be run; a fused form is out under its name."""
    done = [e.options for e in entrants]
    sets = [o.fusion_set for o in done if o.fusion_set != heat.default.options.fusion_set]
    return replace(heat, others=tuple(o for o in heat.others if o not in done),
                   fused=tuple(f for f in heat.fused if f[0] not in sets),
                   more=tuple(e for e in heat.more if e.options not in done))


class _Child:
    """The process of one heat; `results` are those that it has told."""

    def __init__(self, heat: Heat, longest_s: float, command: Sequence[str]) -> None:
        here = str(Path(__file__).resolve().parents[1])
        paths = [here] + [p for p in (os.environ.get('PYTHONPATH'),) if p]
        self.results: List[Result] = []
        self.why = ''
        self.was_killed = False
        self._heat = heat
        self._lines: queue.Queue[Optional[str]] = queue.Queue()
        try:
            self._process = subprocess.Popen(
                [sys.executable, *command, json.dumps(_heat_out(heat, longest_s))],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace',
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)))
        except OSError as error:
            raise CalibrationError('no process can be started to compare engines: %s' % (
                error.strerror or error)) from error
        self._said: List[str] = []
        self._readers = [
            threading.Thread(target=self._read, name='heat', daemon=True),
            threading.Thread(target=self._listen, name='heat-errors', daemon=True)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            self._said = [*self._said[-4:], line.strip()]

    def follow(self, longest_entrant_s: float, check: Callable[[], None]) -> Optional[Entrant]:
        """Take what it tells until it ends; returns at whom it failed, None where it did not."""
        current = self._heat.default
        until_s = time.monotonic() + longest_entrant_s
        while True:
            check()
            try:
                line = self._lines.get(timeout=LOOK_S)
            except queue.Empty:
                if time.monotonic() < until_s:
                    continue
                self.why = 'it did not come back within %.0f s' % longest_entrant_s
                return current
            told = _json(line) if line is not None else None
            if line is None:
                return self._ended(current)
            if told is not None and 'starts' in told:
                current = _entrant_in(self._heat, told['starts'])
                until_s = time.monotonic() + longest_entrant_s
            elif told is not None and 'result' in told:
                self.results.append(_result_in(self._heat, told['result']))

    def _ended(self, current: Entrant) -> Optional[Entrant]:
        code = self._process.wait()
        if code == 0:
            return None
        self.was_killed = code == -signal.SIGKILL  # engines that fail end in other ways
        self._readers[1].join(1.0)
        last = self._said[-1] if self._said else ''
        self.why = 'it ended the process that tried it (%s)%s' % (
            'signal %d' % -code if code < 0 else 'exit code %d' % code,
            ': ' + last if last else '')
        return current

    def end(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _json(line: str) -> Optional[Mapping[str, Any]]:
    """Return what a line holds; engines print lines of their own."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _heat_out(heat: Heat, longest_s: float) -> Dict[str, Any]:
    def plain(segment: Segment) -> Dict[str, Any]:
        return asdict(replace(segment, early_exit=None))
    return {'segment': plain(heat.default.segment), 'default': asdict(heat.default.options),
            'others': [asdict(options) for options in heat.others],
            'fused': [[name, plain(segment)] for name, segment in heat.fused],
            'more': [[asdict(e.options), plain(e.segment)] for e in heat.more],
            'longest_s': longest_s}


def heat_from(request: Mapping[str, Any]) -> Heat:
    """Return the heat of a request."""
    return Heat(
        Entrant(segment_from(request['segment']), EngineOptions(**request['default'])),
        tuple(EngineOptions(**options) for options in request['others']),
        tuple((name, segment_from(segment)) for name, segment in request['fused']),
        tuple(Entrant(segment_from(segment), EngineOptions(**options))
              for options, segment in request['more']))


def _entrant_in(heat: Heat, options: Mapping[str, Any]) -> Entrant:
    asked = EngineOptions(**options)
    for entrant in heat.more:
        if entrant.options == asked:
            return entrant
    return Entrant(dict(heat.fused).get(asked.fusion_set, heat.default.segment), asked)


def _result_in(heat: Heat, told: Mapping[str, Any]) -> Result:
    return Result(_entrant_in(heat, told['options']), told['ratio'], told['samples'],
                  told['reason'], bool(told.get('put_off')))


def main(arguments: Sequence[str], out: TextIO = sys.stdout) -> int:
    """Run the heat that the one argument asks for; 0 when all entrants had their turn."""
    request = json.loads(arguments[0])

    def tell(what: Mapping[str, Any]) -> None:
        out.write(json.dumps(what) + '\n')
        out.flush()

    backend = SeveralBackend('onnxruntime', BACKENDS)
    try:
        for result in race(backend, heat_from(request), longest_s=request['longest_s'],
                           starts=lambda entrant: tell({'starts': asdict(entrant.options)})):
            tell({'result': {'options': asdict(result.entrant.options), 'ratio': result.ratio,
                             'samples': result.samples, 'reason': result.reason,
                             'put_off': result.put_off}})
    except CrowdHMTError as error:
        sys.stderr.write('%s\n' % error)
        return 1
    return 0


if __name__ == '__main__':
    be_first_to_go()
    sys.exit(main(sys.argv[1:]))
