# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The fastest engine of each segment, measured once per device and remembered (P III-C1).

Runs behind the robot's back: it answers with the default engine meanwhile. Whole models come
before heads and one thread before more; what there is no time or no memory for is measured at
the next start, and memory that could not be measured for want of it at every further call. The
machine is held while a segment is measured, so that two robots on one
machine, or a bench, do not measure each other.
"""
from __future__ import annotations

import functools
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import onnxruntime

from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.calibrate_child import memory_of
from crowdhmt_ros.choose_child import run_heat
from crowdhmt_ros.engine.backends import installed
from crowdhmt_ros.engine.choice import (
    CHOSEN_FROM,
    LEAN_MODES,
    Entrant,
    Heat,
    Result,
    fastest,
    fastest_low,
    offers,
)
from crowdhmt_ros.engine.memory.optimised import kept_graph, rewriting_bytes
from crowdhmt_ros.engine.memory.room import CHILD_BYTES, free_bytes
from crowdhmt_ros.errors import CalibrationError, PutOffError
from crowdhmt_ros.first_start import (
    MEASURED_TABLES,
    Ready,
    Wishes,
    engines_device,
    engines_path,
    kept_engines,
    ready_from,
)
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.profiling.calibration import MeasureMemory, Progress, one_at_a_time
from crowdhmt_ros.profiling.engine_tables import (
    EngineTables,
    Trial,
    kept_engine_tables,
    load_engine_tables,
    save_engine_tables,
)
from crowdhmt_ros.profiling.seams import LEAN_WORTH_BYTES, local_segments, offered_heads
from crowdhmt_ros.profiling.tables import row_key
from crowdhmt_ros.types import MEASURED, Candidate, EngineOptions, Estimate, Segment

LONGEST_S = 90.0
LONGEST_MEMORY_S = 30.0
FAST = 'fast'
MADE_BY_ENGINES = ('bf16', 'fp16')
"""Precisions that need no graph of their own."""
_log = logging.getLogger(__name__)
RunHeat = Callable[..., List[Result]]
_Item = Tuple[Candidate, Heat]


def to_choose_from() -> Tuple[str, ...]:
    """Return the engines that are installed here and may be chosen."""
    have = installed()
    return tuple(name for name in CHOSEN_FROM if name in have)


def choose_engines(bundle: Bundle, ready: Ready, cache_dir: Path, *, wishes: Wishes,
                   longest_s: float = LONGEST_S, progress: Optional[Progress] = None,
                   run: RunHeat = run_heat, measure_memory: MeasureMemory = memory_of,
                   clock: Callable[[], float] = time.monotonic,
                   free: Callable[[], int] = free_bytes) -> Ready:
    """
    Return what plans are chosen from with the fastest engines among it.

    Everything there is to know may be kept already: then this returns at once.

    :param ready: of `first_start`
    :param wishes: as given to that; nothing is measured where there is nothing to choose from:
        one engine and no graphs in other forms, or tables that are not of this machine
    :param longest_s: no segment is begun after that
    :param progress: told (part done 0..1, what is being done); what it raises ends the work
    :param free: bytes of memory that are left
    :raises CalibrationError: stopped by `progress`
    """
    if wishes.tables != MEASURED_TABLES or FAST not in wishes.memory_modes or not (
            len(wishes.engines) > 1 or (wishes.engines and _has_forms(bundle))):
        return ready
    show = progress or (lambda part, text: None)
    path = engines_path(bundle, cache_dir, wishes)
    with one_at_a_time(path):
        known = kept_engines(bundle, cache_dir, wishes) or EngineTables(
            engines_device(wishes), bundle.sha256)
        for later in _measured_again(known, bundle, ready, wishes, measure_memory, show, free):
            known = later
            _save(known, path)
        before = _chosen_before(Path(cache_dir), bundle.sha256, path)
        items = list(_items(bundle, ready, wishes, known))
        began_s = clock()
        measured = 0
        lacking: List[str] = []
        for number, (candidate, heat) in enumerate(items):
            if clock() - began_s >= longest_s:
                _log.info('engines of %d segments are measured at the next start',
                          len(items) - number)
                break
            taken = ready.tables.rows[_key(heat.default)].memory_bytes.mean
            fitting, why = _fitting(heat, taken, free())
            lacking += [why] if why else []
            if fitting is None:
                continue
            measured += 1
            part = number / len(items)
            text = 'engines of %s, %d threads' % (heat.default.segment.segment_id,
                                                  heat.default.options.threads)
            show(part, text)
            known = _run(known, candidate, fitting, before, run, measure_memory,
                         lambda part=part, text=text: show(part, text))  # type: ignore[misc]
            _save(known, path)
    if lacking:
        _log.warning('%s%s; tried again at the next start', lacking[0],
                     ', and so for %d more' % (len(lacking) - 1) if lacking[1:] else '')
    if items:
        show(1.0, 'measured the engines of %d segments in %.0f s' % (measured, clock() - began_s))
    return ready_from(bundle, ready.segments, ready.tables, wishes, known)


def _fitting(heat: Heat, taken_bytes: float, left_bytes: int) -> Tuple[Optional[Heat], str]:
    """
    Return what of a heat there is memory for, and in words what there is none for.

    :param taken_bytes: by the default; two executables are there at once, in a process of their
        own, and what rewrites a graph for the lean modes runs beside the default alone
    """
    segment = heat.default.segment
    single = max(taken_bytes, segment.weight_bytes)
    needed = int(CHILD_BYTES + 2 * single)
    if needed > left_bytes:
        return None, _too_much('engines', segment, needed, left_bytes)
    lean = [options for options in heat.others if options.memory_mode in LEAN_MODES]
    needed = int(CHILD_BYTES + single) + rewriting_bytes(segment)
    if needed <= left_bytes or all(
            kept_graph(segment, options, str(onnxruntime.__version__)) for options in lean):
        return heat, ''
    rest = replace(heat, others=tuple(o for o in heat.others if o not in lean))
    return (rest if rest.others or rest.fused or rest.more else None,
            _too_much('memory modes', segment, needed, left_bytes))


def _too_much(what: str, segment: Segment, needed_bytes: int, left_bytes: int) -> str:
    return 'to try %s of %s takes about %d MB of memory and %d are left' % (
        what, segment.segment_id, needed_bytes >> 20, left_bytes >> 20)


def _has_forms(bundle: Bundle) -> bool:
    return any(len(bundle.fusion_sets(name)) > 1 or len(bundle.precisions(name)) > 1
               for name in bundle.manifest.front)


def _chosen_before(cache_dir: Path, bundle_sha256: str, path: Path
                   ) -> Mapping[str, EngineOptions]:
    """Return what was chosen with other engines or releases here: it stays unless beaten."""
    for other in kept_engine_tables(cache_dir, bundle_sha256):
        if other == path:
            continue
        try:
            tables = load_engine_tables(other)
        except CalibrationError:  # of no use to anybody any more
            continue
        return {default: tables.trials[key].options for default, key in tables.chosen.items()
                if key in tables.trials}
    return {}


def _items(bundle: Bundle, ready: Ready, wishes: Wishes, known: EngineTables) -> Iterator[_Item]:
    """Yield what is not known yet, each with a candidate that it belongs to."""
    seen = set()
    wholes = [c for t in sorted(wishes.threads) for c in bundle.candidates((t,), (FAST,))]
    heads = offered_heads(bundle, ready.segments, (FAST,))
    fused = _fused_forms(bundle, ready.segments, wishes)
    low = _low_forms(bundle, ready.segments, wishes)
    for candidate in (*wholes, *heads):
        for name in local_segments(candidate):
            default = Entrant(ready.segments[name], candidate.engine)
            key = _key(default)
            saves = default.segment.weight_bytes >= LEAN_WORTH_BYTES
            lean_modes = LEAN_MODES if candidate in wholes and saves else ()
            heat = Heat(default, tuple(
                options for options in offers(candidate.engine, wishes.engines,
                                              lean_modes=lean_modes)
                if row_key(default.segment.sha256, options) not in known.trials),
                tuple(form for form in fused.get(key, ())
                      if not _is_tried(form[1], candidate.engine.threads, known)),
                tuple(e for e in low.get(key, ()) if _key(e) not in known.trials))
            if key not in seen and key in ready.tables.rows and (
                    heat.others or heat.fused or heat.more):
                seen.add(key)
                yield candidate, heat


def _fused_forms(bundle: Bundle, segments: Mapping[str, Segment], wishes: Wishes
                 ) -> Dict[str, Tuple[Tuple[str, Segment], ...]]:
    """Return the fused forms of each segment by the `row_key` of its default."""
    plain: Dict[Tuple[str, int], Candidate] = {}
    found: Dict[str, Tuple[Tuple[str, Segment], ...]] = {}
    for candidate in bundle.candidates(wishes.threads, (FAST,), all_fusions=True):
        base = plain.setdefault((candidate.variant_id, candidate.engine.threads), candidate)
        if candidate is base:
            continue
        for name, other in zip(local_segments(base), local_segments(candidate)):
            key = row_key(segments[name].sha256, base.engine)
            found[key] = (*found.get(key, ()), (candidate.engine.fusion_set, segments[other]))
    return found


def _low_forms(bundle: Bundle, segments: Mapping[str, Segment], wishes: Wishes
               ) -> Dict[str, Tuple[Entrant, ...]]:
    """Return each segment in the precisions whose accuracy the bundle states, as above."""
    plain: Dict[Tuple[str, int], Candidate] = {}
    found: Dict[str, Tuple[Entrant, ...]] = {}
    for candidate in bundle.candidates(wishes.threads, (FAST,), all_precisions=True):
        variant_id, options = candidate.variant_id, candidate.engine
        base = plain.setdefault((variant_id, options.threads), candidate)
        asked = MADE_BY_ENGINES if candidate is base else (options.precision,)
        for name, other in zip(local_segments(base), local_segments(candidate)):
            key = row_key(segments[name].sha256, base.engine)
            found[key] = (*found.get(key, ()), *(
                Entrant(segments[other], replace(options, backend=engine, precision=precision))
                for precision in asked for engine in wishes.engines
                if precision != candidate.variant.precision
                and bundle.accuracy(variant_id, precision, engine)))
    return found


def _is_tried(segment: Segment, threads: int, known: EngineTables) -> bool:
    return any(key.startswith(segment.sha256 + '/') and trial.options.threads == threads
               for key, trial in known.trials.items())


def _key(entrant: Entrant) -> str:
    return row_key(entrant.segment.sha256, entrant.options)


def _run(known: EngineTables, candidate: Candidate, heat: Heat,
         before: Mapping[str, EngineOptions], run: RunHeat, measure_memory: MeasureMemory,
         check: Callable[[], None]) -> EngineTables:
    """Return what is known with one heat run."""
    beside = _key(heat.default)
    name = heat.default.segment.segment_id
    with hold_machine(check):
        try:
            results = run(heat, check=check)
        except CalibrationError as error:
            check()  # asked to stop: then this raises
            _log.warning('%s', error)
            return known
        trials = dict(known.trials)
        for result in results:
            if not result.put_off:
                trials[_key(result.entrant)] = _trial(result, beside)
        everything = _results(trials, beside, heat)
        best = fastest(everything, kept=before.get(beside))
        worth = (best, *fastest_low(everything))
        for result in results:
            options = result.entrant.options
            if result.ratio is not None and (
                    options in worth or options.memory_mode in LEAN_MODES):
                check()
                key = _key(result.entrant)
                trials[key] = _with_memory(trials[key], candidate, result.entrant.segment,
                                           measure_memory)
    chosen = next((key for key, trial in trials.items()
                   if trial.beside == beside and trial.options == best), '')
    _tell(name, heat.default.options, results, best)
    return replace(known, trials=trials, chosen={**known.chosen, beside: chosen})


def _results(trials: Mapping[str, Trial], beside: str, heat: Heat) -> List[Result]:
    """Return all that was measured beside a default, at earlier starts too."""
    return [Result(Entrant(heat.default.segment, trial.options), trial.ratio, trial.samples)
            for trial in trials.values() if trial.beside == beside]


def _trial(result: Result, beside: str) -> Trial:
    return Trial(result.entrant.options, beside, result.ratio, result.samples,
                 reason=result.reason)


def _with_memory(trial: Trial, candidate: Candidate, segment: Segment,
                 measure_memory: MeasureMemory) -> Trial:
    asked = replace(candidate, engine=trial.options)
    try:
        taken = float(measure_memory(asked, segment, longest_s=LONGEST_MEMORY_S))
    except CalibrationError as error:
        put_off = isinstance(error, PutOffError)
        _log.warning('%s is not offered: %s%s', asked.candidate_id, error,
                     '; tried again later' if put_off else '')
        return replace(trial, reason='its memory is not known: %s' % error, put_off=put_off)
    return replace(trial, memory_bytes=Estimate(taken, taken, MEASURED), reason='',
                   put_off=False)


def _measured_again(known: EngineTables, bundle: Bundle, ready: Ready, wishes: Wishes,
                    measure_memory: MeasureMemory, show: Progress, free: Callable[[], int]
                    ) -> Iterator[EngineTables]:
    """Yield what is known with each memory that could not be measured before for want of it."""
    waiting = known.put_off()
    places = _places(bundle, ready, wishes) if waiting else {}
    for key, trial in waiting.items():
        candidate, segment = places[key.split('/')[0]]
        text = 'memory of %s' % segment.segment_id
        show(0.0, text)
        if CHILD_BYTES + segment.weight_bytes > free():
            continue
        with hold_machine(functools.partial(show, 0.0, text)):
            found = _with_memory(trial, candidate, segment, measure_memory)
        known = replace(known, trials={**known.trials, key: found})
        yield known


def _places(bundle: Bundle, ready: Ready, wishes: Wishes) -> Dict[str, Tuple[Candidate, Segment]]:
    """Return the sha256 of each segment -> a candidate that it belongs to, and the segment."""
    wholes = bundle.candidates(wishes.threads, (FAST,), all_fusions=True, all_precisions=True)
    heads = offered_heads(bundle, ready.segments, (FAST,))
    return {ready.segments[name].sha256: (candidate, ready.segments[name])
            for candidate in (*wholes, *heads) for name in local_segments(candidate)}


def _tell(name: str, default: EngineOptions, results: Sequence[Result],
          best: Optional[EngineOptions]) -> None:
    for result in results:
        options = result.entrant.options
        _log.info('%s, %d threads: %s', name, options.threads,
                  '%s takes %.2f of the time' % (_way(options), result.ratio)
                  if result.ratio is not None else '%s is %s: %s' % (
                      _way(options), 'put off' if result.put_off else 'out', result.reason))
    _log.info('%s, %d threads: %s stays' % (name, default.threads, default.backend)
              if best is None else '%s, %d threads: %s is chosen' % (
                  name, default.threads, best.backend))


def _way(options: EngineOptions) -> str:
    return ' '.join((options.backend, options.precision, options.fusion_set, options.memory_mode))


def _save(tables: EngineTables, path: Path) -> None:
    try:
        save_engine_tables(tables, path)
    except CalibrationError as error:
        _log.warning('%s; this start goes on without keeping them', error)
