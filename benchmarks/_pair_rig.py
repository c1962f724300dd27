# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Robots on their real processes, watched while they run, with engines that can be hit."""
from __future__ import annotations

import signal
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli.outcome import count_apart
from crowdhmt_ros.cli.pair_run import PairRun, PairSettings
from crowdhmt_ros.cli.prepare import prepare
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.report.recording import NS, Answer, Recording, parse_line, read_recording

SCENARIO = Path(__file__).with_name('always_help.yaml')
"""A vehicle that wants help with every frame."""
STEADY = {'camera_inference:condition': 'scenes/noon'}
"""Dark pictures in a row would be taken for dusk, whose accuracy no plan brings to the floor."""
HELPED, HELPER = 'vehicle', 'drone'
POLL_S = 0.02
START_TIMEOUT_S = 150.0
HELP_TIMEOUT_S = 60.0
STEADY_FRAMES = 8
ENGINE = 'engine'
NEWEST = 200


class Watch:
    """
    Follows the answers of a recording that is being written.

    :param events: the recorder's file; it need not exist yet
    """

    def __init__(self, events: Path) -> None:
        self._events = events
        self._offset = 0
        self._rest = b''
        self.answers: List[Answer] = []

    def update(self) -> None:
        """Read what was written since the last time."""
        if not self._events.is_file():
            return
        with open(self._events, 'rb') as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b'\n')
        for line in lines:
            found = parse_line(line.decode('ascii', 'replace')) if b'result' in line else None
            if found is not None and found[0] == 'result':
                self.answers.append(found[1])

    def is_steady(self, since_ns: int = 0) -> bool:
        """Tell whether the peer has answered every one of the last few frames since a moment."""
        newest = [a for a in self.answers[-STEADY_FRAMES:] if a.stamp_ns >= since_ns]
        return len(newest) == STEADY_FRAMES and all(a.offloaded for a in newest)

    def offload_s(self) -> float:
        """Return the usual time of crossing and remote part, lately; 0 while unknown."""
        spent = [a.offload_s for a in self.answers[-NEWEST:] if a.offloaded and a.offload_s]
        return statistics.median(spent) if spent else 0.0


def done_ns(answer: Answer) -> int:
    """Return the node clock at which a frame was answered, as far as the answer tells."""
    return answer.stamp_ns + int(NS * (answer.latency_s or 0.0))


def first_help_ns(answers: List[Answer], since_ns: int) -> Optional[int]:
    """Return when the first frame since a moment was answered by a peer, None when none was."""
    return min((done_ns(a) for a in answers if a.offloaded and a.stamp_ns >= since_ns),
               default=None)


def in_work(answers: List[Answer], at_ns: int) -> Optional[Answer]:
    """Return the frame that was in work at a moment, None when none was."""
    return next((a for a in answers if a.stamp_ns <= at_ns <= done_ns(a)), None)


class Rig:
    """
    Vehicle and drone in a steady scenario; a context manager.

    :param folder: existing; gets everything that is recorded
    :param settings: further fields of `PairSettings`
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        bundle = open_bundle('campus7')
        prepare(bundle, live=False)
        self.pair = PairRun(PairSettings(**{
            'out': folder, 'scenario': str(SCENARIO), 'parameters': STEADY, **settings}))
        self.watch = Watch(self.pair.leader.settings.events)

    def __enter__(self) -> Rig:
        try:
            self.pair.start()
            self.until(lambda: self.pair.leader.answering, START_TIMEOUT_S, 'no first answer')
            self.until(self.watch.is_steady, HELP_TIMEOUT_S, 'the drone does not help')
        except BaseException:
            self.pair.stop()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.pair.stop()

    def look(self) -> None:
        """
        Read what was recorded.

        :raises ProcessError: when a process of the vehicle crashed, or it stands still
        """
        if not self.pair.leader.step():
            raise ProcessError('the scenario has ended before the proof')
        self.watch.update()

    def until(self, condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """
        Wait until something is so.

        :raises ProcessError: after the timeout, with what `otherwise` says
        """
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise ProcessError('%s for %.0f s: see %s' % (otherwise, timeout_s, self.folder))
            self.look()
            time.sleep(POLL_S)

    def wait(self, seconds: float) -> None:
        """Let it run."""
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            self.look()
            time.sleep(POLL_S)

    def help_after(self, since_ns: int, timeout_s: float) -> Optional[float]:
        """Wait for the first frame since a moment that the drone answers; how long it took, s."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            found = first_help_ns(self.watch.answers[-NEWEST:], since_ns)
            if found is not None:
                return (found - since_ns) / NS
            self.look()
            time.sleep(POLL_S)
        return None

    def helper_pid(self) -> int:
        """Return the process that runs the drone's engine."""
        return self.pair.robots[HELPER].process(ENGINE).pid

    def hit(self, number: int) -> int:
        """
        Signal the drone's engine in the middle of a request.

        :returns: node clock of the signal
        """
        process = self.pair.robots[HELPER].process(ENGINE)
        last = self.watch.answers[-1]
        head_s = (last.latency_s or 0.0) - (last.offload_s or 0.0)
        target_s = last.stamp_ns / NS + max(0.0, head_s) + 0.5 * self.watch.offload_s()
        period_s = 1.0 / 10.0
        while target_s < time.time() + 0.01:
            target_s += period_s
        time.sleep(max(0.0, target_s - time.time()))
        at_ns = time.time_ns()
        process.send(number)
        return at_ns

    def revive(self) -> int:
        """Start the drone's engine once more; returns the node clock of that."""
        robot = self.pair.robots[HELPER]
        robot.process(ENGINE).stop((0.1, 0.1, 2.0))
        now_ns = time.time_ns()
        robot.start_again(ENGINE)
        return now_ns

    def carry_on(self) -> int:
        """Continue the drone's stopped engine; returns the node clock of that."""
        now_ns = time.time_ns()
        self.pair.robots[HELPER].process(ENGINE).send(signal.SIGCONT)
        return now_ns

    def recording(self) -> Recording:
        """Return what the vehicle has left behind, after the end."""
        settings = self.pair.leader.settings
        return read_recording(settings.events, settings.frames)

    def counted(self) -> Dict[str, Any]:
        """Return the separate counter's figures of the vehicle, after the end."""
        settings = self.pair.leader.settings
        return count_apart(settings.frames, settings.events)


def spoiled(counted: Mapping[str, Any]) -> Tuple[int, int]:
    """Return (frames lost, frames doubled or unknown) of the counter's figures."""
    return int(counted['lost']), int(counted['duplicates']) + int(counted['unknown'])
