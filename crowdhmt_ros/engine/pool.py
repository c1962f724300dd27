# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is ready to run, and how more gets ready without anybody waiting.

Executables are kept by segment and engine options, so that candidates which place the same
segment here share one. Looking a resident candidate up takes two dictionary accesses. Compiling
happens in the caller's thread (`prepare`) or in one background thread (`prepare_in_background`)
that serves the latest wish first; equal wishes are served together, and no lock is held that a
look-up or an eviction waits for. A failed preparation changes nothing.
"""
from __future__ import annotations

import itertools
import threading
import weakref
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from crowdhmt_ros.engine.backend import Backend, Executable, make_buffers
from crowdhmt_ros.engine.background import Background, Done
from crowdhmt_ros.engine.cascade import Cascade
from crowdhmt_ros.engine.turns import OwnExecutable, Turns
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import (
    ESTIMATED,
    HERE,
    MEASURED,
    NO_READING,
    Candidate,
    EngineOptions,
    Reading,
    Segment,
)
from crowdhmt_ros.types.candidates import STEP_ROLES

Key = Tuple[str, EngineOptions]
"""Segment and how it is run: what one executable is made of."""
MeasuredMemory = Callable[[Segment, EngineOptions], Reading]

WARM_UP_RUNS = 2


def nothing_measured(segment: Segment, options: EngineOptions) -> Reading:
    """Know no table of measured memory."""
    return NO_READING


class _Resident:
    """
    An executable and the turn at which a candidate last asked for it.

    :param used: 0 where no candidate did: it is here for `holds` guests alone
    """

    def __init__(self, executable: Executable, turns: Optional[Turns]) -> None:
        self.guest = executable
        self.executable = OwnExecutable(executable, turns) if turns is not None else executable
        self.used = 0
        self.holds = 0


class Pool:
    """
    The executables of one backend. All methods may be called from any thread.

    An executable counts with what the table says of it, else with what plans predict of a
    candidate that is nothing but it, else with its own figure. Who asks waits for the table;
    look-ups, evictions and preparations of others do not.

    :param backend: the engine
    :param segments: segment_id -> segment, materialised on this device
    :param measured: bytes of a segment under engine options, `NO_READING` where not measured
    :param turns: what candidates run comes before what guests run, None where none are served
    """

    def __init__(self, backend: Backend, segments: Mapping[str, Segment], *,
                 measured: MeasuredMemory = nothing_measured,
                 turns: Optional[Turns] = None) -> None:
        self._guest_turns = turns
        self._backend = backend
        self._segments = segments
        self._measured = measured
        self._predicted: Dict[Key, Reading] = {}
        self._resident: Dict[Key, _Resident] = {}
        self._candidates: Dict[str, Tuple[Key, ...]] = {}
        self._wholes: Dict[str, _Resident] = {}  # of candidates of one part, where resident
        # Weak: what is evicted goes, as soon as no frame runs on it.
        self._cascades: weakref.WeakValueDictionary[Tuple[Key, ...], Cascade] = (
            weakref.WeakValueDictionary())
        self._turns = itertools.count(1)
        self._lock = threading.Lock()
        self._compiling = threading.Lock()
        self._background = Background(self.prepare)
        self._closed = False

    def get(self, candidate: Candidate) -> Optional[Executable]:
        """
        Return what answers with a candidate that is complete here, None unless resident.

        That is the executable of its one part, or all steps of one that may answer early.
        """
        whole = self._wholes.get(candidate.candidate_id)
        if whole is not None:  # nearly every plan: on a processor whose caches others have used
            whole.used = next(self._turns)  # each line that is run takes microseconds
            return whole.executable
        found = self.get_all(candidate)
        if found is None:
            return None
        if len(found) == 1 and candidate.placement.segments[0].role not in STEP_ROLES:
            self._remember(candidate)
            return found[0]
        return self._cascade(candidate) if candidate.placement.is_early else None

    def _remember(self, candidate: Candidate) -> None:
        """Note the one executable of a resident candidate, unless a look-up had to wait for it."""
        if self._lock.acquire(blocking=False):
            try:
                resident = self._resident.get(self._keys(candidate)[0])
                if resident is not None:
                    self._wholes[candidate.candidate_id] = resident
            finally:
                self._lock.release()

    def get_all(self, candidate: Candidate) -> Optional[Tuple[Executable, ...]]:
        """
        Return the executables of a candidate's segments on this robot; never waits.

        :returns: in the order of its placement; None unless all are resident
        """
        found = []
        for key in self._keys(candidate):
            resident = self._resident.get(key)
            if resident is None:
                return None
            resident.used = next(self._turns)
            found.append(resident.executable)
        return tuple(found)

    def prepare(self, candidate: Candidate) -> Executable:
        """
        Return what answers with a candidate that is complete here, compiled and warmed up.

        :raises BackendError: when it cannot be made; what is resident stays as it was
        """
        keys = self._keys(candidate)
        if candidate.placement.is_early:
            self.prepare_all(candidate)
            found = self._cascade(candidate)
            if found is None:
                raise BackendError('candidate %s was let go while it was prepared'
                                   % candidate.candidate_id)
            return found
        if len(keys) != 1:
            raise BackendError('candidate %s has %d segments on this robot, one is answered with'
                               % (candidate.candidate_id, len(keys)))
        return self.prepare_all(candidate)[0]

    def prepare_all(self, candidate: Candidate) -> Tuple[Executable, ...]:
        """
        Return the executables of a candidate's segments on this robot, made if need be.

        :raises BackendError: when one cannot be made; what is resident stays as it was
        """
        # One compilation at a time: the second thread that wants the same one finds it ready.
        name = 'candidate %s' % candidate.candidate_id
        keys = self._keys(candidate)
        with self._compiling:
            found = [self._prepared(key, name) for key in keys]
            with self._lock:
                for key, resident in zip(keys, found):
                    resident.used = next(self._turns)
                    self._resident[key] = resident  # a guest may have let go in between
        return tuple(resident.executable for resident in found)

    def _cascade(self, candidate: Candidate) -> Optional[Cascade]:
        """
        Return the steps of a resident candidate as one executable, the same while it is in use.

        :raises BackendError: they do not go on from each other
        """
        keys = self._keys(candidate)
        residents = [self._resident.get(key) for key in keys]
        steps = [(r.guest, self._segments[key[0]].early_exit)
                 for key, r in zip(keys, residents) if r is not None]
        if len(steps) != len(keys):
            return None
        known = self._cascades.get(keys)
        if known is None or any(a is not b for a, (b, _) in zip(known.executables, steps)):
            own = None if self._guest_turns is None else self._guest_turns.own()
            known = self._cascades[keys] = Cascade(steps, candidate.variant.exit_index, turn=own)
        return known

    def hold(self, segment_id: str, options: EngineOptions) -> Executable:
        """
        Return the executable of one segment and keep it until `unhold`, for a guest.

        It may be one that a candidate uses too. What is here for guests alone counts neither
        in `memory` nor against the budget of `evict_to`, but in `held_bytes`.

        :raises BackendError: when it cannot be made; what is resident stays as it was
        """
        key = (segment_id, options)
        with self._compiling:
            resident = self._prepared(key, 'a peer')
            with self._lock:
                resident.holds += 1
                self._resident[key] = resident  # an eviction may have come in between
        return resident.guest

    def unhold(self, segment_id: str, options: EngineOptions) -> None:
        """Undo one `hold`; what no candidate has asked for is let go of with the last one."""
        key = (segment_id, options)
        with self._lock:
            resident = self._resident.get(key)
            if resident is None or not resident.holds:
                return
            resident.holds -= 1
            if not resident.holds and not resident.used:
                del self._resident[key]

    def segment_bytes(self, segment_id: str, options: EngineOptions) -> float:
        """Return what one segment counts with, 0 where it is neither measured nor here."""
        return self._count((segment_id, options)).value or 0.0

    @property
    def held_bytes(self) -> float:
        """What all executables take that guests hold, shared ones included."""
        with self._lock:
            held = [key for key, resident in self._resident.items() if resident.holds]
        return sum(self._count(key).value or 0.0 for key in held)

    def _prepared(self, key: Key, name: str) -> _Resident:
        resident = self._resident.get(key)
        if resident is None:
            resident = _Resident(self._compile(key, name), self._guest_turns)
            with self._lock:
                if self._closed:
                    raise BackendError('the pool is closed')
                self._resident[key] = resident
        return resident

    def prepare_in_background(self, candidate: Candidate, done: Done) -> None:
        """
        Have a candidate prepared by the background thread.

        :param candidate: served before all earlier wishes that still wait
        :param done: called once in the background thread, for a candidate that is resident
            too; never called when the pool is closed first
        """
        self._background.ask(candidate, done)

    def evict_to(self, budget_bytes: float, keep: Iterable[str] = (),
                 exactly: Iterable[str] = ()) -> Tuple[str, ...]:
        """
        Let go of executables, the least recently used first, until the rest fits.

        An executable that a frame still runs on lives until that frame is done.

        :param budget_bytes: what all resident executables may take together
        :param keep: candidate ids whose executables stay in any case
        :param exactly: more of these; a pool over this one may run others in place of `keep` only
        :returns: candidate ids that cannot be switched to at once any more
        """
        gone: List[Key] = []
        ended: List[_Resident] = []  # an engine takes its time to end: not under the lock
        with self._lock:
            own = self._own()
        counts = {key: self._count(key).value or 0.0 for key in own}
        with self._lock:
            kept = {key for name in (*keep, *exactly)
                    for key in self._candidates.get(name, ())}
            own = [key for key in self._own() if key in counts]  # others came after this
            total = sum(counts[key] for key in own)
            for key in sorted(own, key=lambda key: self._resident[key].used):
                if total <= budget_bytes:
                    break
                if key not in kept:
                    total -= counts[key]
                    ended += self._drop(key)
                    gone.append(key)
            known = list(self._candidates.items())
        if ended:
            ended.clear()
            self._background.freed()
        return tuple(dict.fromkeys(
            name for key in gone for name, keys in known if key in keys))

    def predict(self, candidate: Candidate, memory_bytes: Reading) -> None:
        """Take what a plan predicts for a candidate, for where no table tells."""
        keys = self._keys(candidate)
        if candidate.placement.peers:  # the figure is of head and fallback together
            return
        if len(keys) == 1 and memory_bytes.value is not None:
            with self._lock:
                self._predicted[keys[0]] = memory_bytes

    def missing_bytes(self, candidate: Candidate) -> float:
        """Return what preparing a candidate is going to take, as far as known."""
        return sum(self._count(key).value or 0.0 for key in self._keys(candidate)
                   if key not in self._resident)

    @property
    def memory(self) -> Reading:
        """What the candidates' executables take together; measured where each of them is."""
        with self._lock:
            own = self._own()
        counts = [self._count(key) for key in own]
        measured = all(count.source == MEASURED for count in counts)
        return Reading(sum(count.value or 0.0 for count in counts),
                       MEASURED if measured else ESTIMATED)

    @property
    def memory_bytes(self) -> int:
        """The value of `memory`."""
        return int(self.memory.value or 0.0)

    def let_go(self) -> None:
        """Drop all wishes, wait for a running compilation, keep only what guests hold."""
        self._background.drop()
        self.evict_to(-1.0)  # those that count with nothing go too
        self._background.drop()

    def close(self) -> None:
        """Drop all wishes, wait for a running compilation, and let go of everything."""
        self._background.close()
        with self._lock:
            self._closed = True
        self.let_go()
        with self._lock:
            self._resident.clear()
            self._wholes.clear()

    def _keys(self, candidate: Candidate) -> Tuple[Key, ...]:
        """Return what a candidate needs on this robot, in order."""
        keys = self._candidates.get(candidate.candidate_id)
        if keys is None:
            keys = tuple((placed.segment_id, candidate.engine)
                         for placed in candidate.placement.segments if placed.device == HERE)
            self._candidates[candidate.candidate_id] = keys
        return keys

    def _own(self) -> List[Key]:
        """Return what is resident for candidates; the lock is held."""
        return [key for key, resident in self._resident.items() if resident.used]

    def _drop(self, key: Key) -> Tuple[_Resident, ...]:
        """
        Let go of what no candidate needs; a guest's stays, for it alone; the lock is held.

        :returns: what ends with the last reference to it
        """
        dropped = self._resident[key]
        self._wholes = {name: r for name, r in self._wholes.items() if r is not dropped}
        if dropped.holds:
            dropped.used = 0
            return ()
        return (self._resident.pop(key),)

    def _compile(self, key: Key, name: str) -> Executable:
        segment_id, options = key
        if segment_id not in self._segments:
            raise BackendError('%s needs segment %s, this robot has prepared %s' % (
                name, segment_id, ', '.join(sorted(self._segments)) or 'none'))
        executable = self._backend.compile(self._segments[segment_id], options)
        inputs, outputs = make_buffers(executable.inputs), make_buffers(executable.outputs)
        for _ in range(WARM_UP_RUNS):
            executable.run(inputs, outputs)
        return executable

    def _count(self, key: Key) -> Reading:
        """
        Return what one executable counts with, 0 for one that is neither known nor here.

        The lock must not be held: tables may be read from files for this.
        """
        segment = self._segments.get(key[0])
        measured = NO_READING if segment is None else self._measured(segment, key[1])
        if measured.value is not None:
            return measured
        if key in self._predicted:
            return self._predicted[key]
        resident = self._resident.get(key)
        own = 0 if resident is None else resident.executable.memory_bytes
        return Reading(float(own), ESTIMATED)
