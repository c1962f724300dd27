# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Makes ready in a thread of its own what the planner chooses from; free of ROS.

Plans are made as soon as there are tables. Behind that come, in this order: rewritten graphs, by
which every plan is brought into force quickly; the comparison of engines; and the graphs of what
that has added. What could not be measured for want of memory is tried again after growing waits.
"""
from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
from collections import Counter
from dataclasses import asdict
from typing import Callable, NamedTuple, Optional, Tuple

from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.choose_engines import choose_engines, to_choose_from
from crowdhmt_ros.engine.backends import AUTO, make_backend
from crowdhmt_ros.engine.rewriting import graphs_of, keep_graphs
from crowdhmt_ros.errors import CalibrationError, ConfigError, CrowdHMTError
from crowdhmt_ros.first_start import Ready, Wishes, first_start
from crowdhmt_ros.nodes.engine_room import cache_dir_of
from crowdhmt_ros.nodes.params import AdaptationPlannerParameters
from crowdhmt_ros.nodes.serving import Throttle
from crowdhmt_ros.offload.placement import worth_offering
from crowdhmt_ros.planner.left_out import hold_s
from crowdhmt_ros.profiling.front import front_sha256
from crowdhmt_ros.types import BundleIdentity, FrontEntry, RemoteOption

_log = logging.getLogger(__name__)
NOT_A_DECISION = ('robot_id', 'cache_dir', 'calibrate_s', 'engines_s', 'fleet_advert_topic')
PROGRESS_S = 2.0
AGAIN_TIMES = 30.0
"""As long as a candidate that failed is left out: each trial takes seconds, and memory again."""


class Mind(NamedTuple):
    """
    What plans are chosen from.

    :param front: candidates that stay here
    :param identity: of bundle, front and parameters
    :param remote: ways to be helped by a peer, empty where none is to be asked
    """

    front: Tuple[FrontEntry, ...]
    identity: BundleIdentity
    remote: Tuple[RemoteOption, ...] = ()


def config_sha256(parameters: AdaptationPlannerParameters) -> str:
    """Return the digest of the parameters that decide; unset numbers count as null."""
    values = {name: None if isinstance(value, float) and math.isnan(value) else value
              for name, value in asdict(parameters).items() if name not in NOT_A_DECISION}
    text = json.dumps(values, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def pinned(front: Tuple[FrontEntry, ...], name: str) -> Tuple[FrontEntry, ...]:
    """
    Return the one entry that a static plan keeps, or the whole front for ''.

    :param name: candidate_id, or variant_id for its fastest candidate
    :raises ConfigError: the front has neither
    """
    if not name:
        return front
    exact = [e for e in front if e.candidate.candidate_id == name]
    alike = [e for e in front if e.candidate.variant_id == name]
    if not exact and not alike:
        known = ', '.join(e.candidate.candidate_id for e in front)
        raise ConfigError(f'pinned_candidate is {name!r}, the front has {known}')
    return (exact[0] if exact else min(alike, key=lambda e: e.latency_s.mean),)


class MindStart:
    """
    Opens the bundle, measures this machine and has graphs rewritten where that was not done yet.

    :param parameters: of adaptation_planner
    :param done: takes the front and its identity, in the thread
    """

    def __init__(self, parameters: AdaptationPlannerParameters,
                 done: Callable[[Mind], None]) -> None:
        self._parameters = parameters
        self._done = done
        self._stop = threading.Event()
        self._throttle = Throttle(PROGRESS_S)
        self._thread = threading.Thread(target=self._work, name='first-start', daemon=True)
        self.progress = 'opening the bundle'
        self.engines = ''
        self.failure: Optional[str] = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Ask the thread to end and wait shortly for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            bundle, ready = self._prepare()
            mind = self._mind(bundle, ready)
            self._done(mind)
        except CrowdHMTError as error:
            if not self._stop.is_set():
                self.failure = str(error)
                _log.error('no plan can be made: %s', error)
            return
        try:
            self._keep(mind, ready)
            ready = self._choose(bundle, ready, self._parameters.engines_s)
            self._choose_again(bundle, ready)
        except CrowdHMTError as error:
            if not self._stop.is_set():
                self.engines = f'engines are not compared: {error}'
                _log.warning('%s', self.engines)

    @property
    def _wishes(self) -> Wishes:
        wanted = self._parameters
        adapts = wanted.backend == AUTO and not wanted.pinned_candidate
        return Wishes(wanted.threads, wanted.memory_modes, wanted.device, wanted.tables,
                      wanted.calibrate_s, wanted.backend_repeat,
                      to_choose_from() if adapts else ())

    def _prepare(self) -> Tuple[Bundle, Ready]:
        wanted = self._parameters
        bundle = open_bundle(wanted.bundle)
        backend = make_backend(wanted.backend, wanted.backend_repeat)
        return bundle, first_start(bundle, backend, cache_dir_of(wanted.cache_dir),
                                   progress=self._show, wishes=self._wishes)

    def _keep(self, mind: Mind, ready: Ready) -> None:
        """Have the graphs that plans may name rewritten, so that each is ready in no time."""
        keep_graphs(graphs_of(mind.front, mind.remote, ready.segments), check=self._check)

    def _check(self) -> None:
        if self._stop.is_set():
            raise CalibrationError('stopped')

    def _choose(self, bundle: Bundle, ready: Ready, longest_s: float) -> Ready:
        """Compare the engines that are installed here while plans are made without them."""
        better = choose_engines(bundle, ready, cache_dir_of(self._parameters.cache_dir),
                                wishes=self._wishes, longest_s=longest_s,
                                progress=self._show_engines)
        self.engines = _in_words(better)
        if better.front != ready.front or better.remote != ready.remote:
            mind = self._mind(bundle, better)
            self._done(mind)
            self._keep(mind, better)
        return better

    def _choose_again(self, bundle: Bundle, ready: Ready) -> None:
        """Measure what there was no memory for, after waits of 1, 2, 4 .. 30 minutes."""
        times = 0
        while self._parameters.engines_s > 0.0 and ready.engines and ready.engines.put_off():
            times += 1
            self._stop.wait(AGAIN_TIMES * hold_s(times))
            self._check()
            ready = self._choose(bundle, ready, 0.0)

    def _mind(self, bundle: Bundle, ready: Ready) -> Mind:
        wanted = self._parameters
        front = pinned(ready.front, wanted.pinned_candidate)
        identity = BundleIdentity(bundle.sha256, front_sha256(front), config_sha256(wanted))
        asks = wanted.offload and not wanted.pinned_candidate
        return Mind(front, identity, worth_offering(ready.remote) if asks else ())

    def _show_engines(self, part: float, text: str) -> None:
        self._check()
        self.engines = f'{100 * part:.0f} % compared: {text}'

    def _show(self, part: float, text: str) -> None:
        self._check()
        self.progress = f'measuring this machine, {100 * part:.0f} %: {text}'
        if self._throttle.ready():
            _log.info('%s', self.progress)


def _in_words(ready: Ready) -> str:
    """Return which engines are among the candidates, and which are out for what reason."""
    if ready.engines is None:
        return ''
    counts = Counter(e.candidate.engine.backend for e in ready.front)
    out = {trial.options.backend: trial.reason for trial in ready.engines.trials.values()
           if trial.reason}
    words = ['%d candidates on %s' % (count, name) for name, count in sorted(counts.items())]
    words += ['%s is out: %s' % item for item in sorted(out.items()) if item[0] not in counts]
    return '; '.join(words)
