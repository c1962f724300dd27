# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
All that a robot needs before its first plan, in one call: graphs, tables, front.

Used by every process that plans or runs; the first one to come does the work, the others wait
for it and read the result.
"""
from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.calibrate_child import memory_of
from crowdhmt_ros.engine.backend import Backend
from crowdhmt_ros.engine.backends import FIRST, release
from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.offload.codec import JPEG, decode, decode_image, encode, encode_image
from crowdhmt_ros.profiling.calibration import (
    LONGEST_S,
    Progress,
    Settings,
    Tables,
    calibrate,
    load_tables,
)
from crowdhmt_ros.profiling.devices import load_device
from crowdhmt_ros.profiling.engine_tables import (
    EngineTables,
    engine_tables_path,
    load_engine_tables,
    ways_of,
    with_engines,
)
from crowdhmt_ros.profiling.front import build_front, counted_tables, front_sha256
from crowdhmt_ros.profiling.remote_front import CrossingSource, build_remote
from crowdhmt_ros.profiling.seams import local_segments
from crowdhmt_ros.profiling.tables import crossing_key, tables_path
from crowdhmt_ros.resources.machine import device_key, energy_profile, last_level_cache_bytes
from crowdhmt_ros.types import (
    Candidate,
    FrontEntry,
    InputSpec,
    RemoteOption,
    Segment,
    TensorSpec,
)
from crowdhmt_ros.vision.preprocess import Preprocessor

_log = logging.getLogger(__name__)
MEASURED_TABLES, COUNTED_TABLES = 'measured', 'counted'
DEFAULT_DEVICE = 'default'
TYPICAL_FRAME = (480, 640, 3)


@dataclass(frozen=True)
class Wishes:
    """
    What may be chosen from, and what it is measured with.

    :param threads: engine thread counts to consider
    :param memory_modes: engine memory modes to consider
    :param device: 'default', a name in config/devices, or a YAML file
    :param tables: 'measured', 'counted', or a file of tables
    :param longest_s: for measuring
    :param repeat: how often the backend repeats each inference (a slow device)
    :param engines: to choose the fastest from, see `choose_engines`; the backend's alone when
        empty
    """

    threads: Tuple[int, ...] = (1, 2)
    memory_modes: Tuple[str, ...] = ('fast', 'lean')
    device: str = DEFAULT_DEVICE
    tables: str = MEASURED_TABLES
    longest_s: float = LONGEST_S
    repeat: int = 1
    engines: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """
    What `first_start` returns.

    :param segments: segment_id -> graph on this device
    :param tables: of this device
    :param front: what the planner chooses from
    :param front_sha256: its digest
    :param remote: what may be asked of a peer, empty for a bundle without crossings
    :param engines: what other engines were measured to do, as far as known
    """

    segments: Mapping[str, Segment]
    tables: Tables
    front: Tuple[FrontEntry, ...]
    front_sha256: str
    remote: Tuple[RemoteOption, ...] = ()
    engines: Optional[EngineTables] = None


def first_start(bundle: Bundle, backend: Backend, cache_dir: Path, *, wishes: Wishes,
                progress: Optional[Progress] = None) -> Ready:
    """
    Return everything that precedes the first plan; seconds at the first start, then at once.

    What other engines do is read where it was measured before; it is not measured here.

    :param bundle: what to run
    :param backend: what runs it
    :param cache_dir: where graphs and tables are kept
    :param wishes: what to consider
    :param progress: told (part done 0..1, what is being done)
    :raises BundleError: when the graphs cannot be made
    :raises CalibrationError: when nothing can be measured
    :raises ConfigError: when the energy profile is not usable
    """
    name = energy_profile() if wishes.device == DEFAULT_DEVICE else wishes.device
    load_device(name)  # says now what is wrong with it
    segments = materialise(bundle, cache_dir)
    source = on_engine(bundle, backend, segments)
    tables = _tables(source, backend, segments, Path(cache_dir), wishes, progress,
                     typical_crossings(bundle), _typical_preprocess(bundle.input))
    engines = kept_engines(bundle, Path(cache_dir), wishes)
    return ready_from(source, segments, tables, wishes, engines)


def ready_from(source: CrossingSource, segments: Mapping[str, Segment], tables: Tables,
               wishes: Wishes, engines: Optional[EngineTables] = None) -> Ready:
    """
    Return what plans are chosen from, from tables and what is known of other engines.

    :param source: a bundle, or one on a named engine
    :param tables: of the default engine
    :raises CalibrationError: when a candidate has no row
    """
    coefficients = load_device(
        energy_profile() if wishes.device == DEFAULT_DEVICE else wishes.device)
    cache_bytes = last_level_cache_bytes()
    all_rows = tables if engines is None else with_engines(tables, engines)
    ways = () if engines is None else ways_of(engines)
    front = build_front(source, all_rows, coefficients, segments=segments, threads=wishes.threads,
                        memory_modes=wishes.memory_modes, cache_bytes=cache_bytes, ways=ways)
    remote = build_remote(source, all_rows, coefficients, segments=segments,
                          memory_modes=wishes.memory_modes, cache_bytes=cache_bytes, ways=ways)
    return Ready(segments, tables, front, front_sha256(front), remote, engines)


class OnEngine:
    """
    A bundle whose candidates run on one engine other than the default.

    :param bundle: what can run
    :param backend: what runs it; what it refuses is not offered
    :param segments: segment_id -> graph on this device
    """

    def __init__(self, bundle: Bundle, backend: Backend, segments: Mapping[str, Segment]) -> None:
        self._bundle = bundle
        self._backend = backend
        self._segments = segments
        self.sha256 = bundle.sha256
        self.crossings = bundle.crossings
        self.accuracy, self.macs = bundle.accuracy, bundle.macs
        self.layer_costs, self.segment_for = bundle.layer_costs, bundle.segment_for

    def candidates(self, threads: Sequence[int] = (1, 2),
                   memory_modes: Sequence[str] = ('fast', 'lean'), *,
                   all_fusions: bool = False, all_precisions: bool = False
                   ) -> Tuple[Candidate, ...]:
        """See `Bundle.candidates`."""
        return self._here(self._bundle.candidates(
            threads, memory_modes, all_fusions=all_fusions, all_precisions=all_precisions))

    def heads(self, threads: Sequence[int] = (1,),
              memory_modes: Sequence[str] = ('fast', 'lean')) -> Tuple[Candidate, ...]:
        """See `Bundle.heads`."""
        return self._here(self._bundle.heads(threads, memory_modes))

    def _here(self, candidates: Sequence[Candidate]) -> Tuple[Candidate, ...]:
        here = (replace(c, engine=replace(c.engine, backend=self._backend.name))
                for c in candidates)
        return tuple(c for c in here if not self._refused(c))

    def _refused(self, candidate: Candidate) -> bool:
        for name in local_segments(candidate):
            refusal = self._backend.refusal(self._segments[name], candidate.engine)
            if refusal:
                _log.info('%s is not offered: %s', candidate.candidate_id, refusal)
                return True
        return False


def on_engine(bundle: Bundle, backend: Backend, segments: Mapping[str, Segment]
              ) -> CrossingSource:
    """Return a bundle as it runs on an engine; one that has another name is offered as it is."""
    return bundle if backend.name == FIRST else OnEngine(bundle, backend, segments)


def engines_path(bundle: Bundle, cache_dir: Path, wishes: Wishes) -> Path:
    """Return where the trials of the engines wished for are kept."""
    return engine_tables_path(Path(cache_dir), bundle.sha256, engines_device(wishes))


def engines_device(wishes: Wishes) -> str:
    """Return the name of this machine with the releases of the engines wished for."""
    return device_key(', '.join('%s %s' % (name, release(name)) for name in wishes.engines))


def kept_engines(bundle: Bundle, cache_dir: Path, wishes: Wishes) -> Optional[EngineTables]:
    """Return what was measured of the engines wished for, None where nothing of use is kept."""
    path = engines_path(bundle, cache_dir, wishes)
    if not wishes.engines or wishes.tables != MEASURED_TABLES or not path.exists():
        return None
    try:
        found = load_engine_tables(path)
    except CalibrationError as error:
        _log.warning('%s; measuring again', error)
        return None
    of_these = (found.device, found.bundle_sha256) == (engines_device(wishes), bundle.sha256)
    return found if of_these else None


def kept_tables_path(bundle: Bundle, backend: Backend, cache_dir: Path, *,
                     repeat: int = 1) -> Path:
    """
    Return where `first_start` keeps what it has measured; the file need not be there yet.

    :param repeat: how often the backend repeats each inference
    """
    return tables_path(cache_dir, bundle.sha256, device_key(_engine(backend, repeat)))


def _tables(bundle: CrossingSource, backend: Backend, segments: Mapping[str, Segment],
            cache_dir: Path, wishes: Wishes, progress: Optional[Progress],
            codecs: Mapping[str, Callable[[], None]], preprocess: Callable[[], None]) -> Tables:
    if wishes.tables == COUNTED_TABLES:
        return counted_tables(bundle, segments, threads=wishes.threads,
                              memory_modes=wishes.memory_modes)
    if wishes.tables != MEASURED_TABLES:
        tables = load_tables(Path(wishes.tables))
        if tables.bundle_sha256 != bundle.sha256:
            raise CalibrationError(f'{wishes.tables} was measured for another bundle: measure '
                                   'anew (tables: measured) or name the right file')
        return tables
    settings = Settings(device_key(_engine(backend, wishes.repeat)), wishes.threads,
                        wishes.memory_modes, wishes.longest_s)
    return calibrate(bundle, backend, segments, cache_dir, settings=settings,
                     measure_memory=memory_of, preprocess=preprocess,
                     codecs=codecs, progress=progress)


def _engine(backend: Backend, repeat: int) -> str:
    return (f'{backend.name} {backend.version}'
            + (f' repeated {repeat} times' if repeat > 1 else ''))


def _typical_preprocess(spec: InputSpec) -> Callable[[], None]:
    """Return what prepares one camera image of usual size."""
    preprocessor = Preprocessor(spec)
    image = np.random.default_rng(0).integers(0, 256, TYPICAL_FRAME).astype(np.uint8)
    out = np.zeros(spec.shape, np.float32)
    return lambda: preprocessor.into(image, out)


def typical_crossings(bundle: Bundle) -> Dict[str, Callable[[], None]]:
    """Return what packs and unpacks each crossing of a bundle once."""
    found: Dict[str, Callable[[], None]] = {}
    for figure in bundle.crossings:
        key = crossing_key(figure.cut_id, figure.codec)
        if figure.cut_id:
            found[key] = _tensors_across(figure.codec, bundle.manifest.cuts[figure.cut_id].tensors)
        elif figure.codec == JPEG:
            found[key] = _image_across(*bundle.input.shape[2:])
    return found


def _tensors_across(codec: str, specs: Tuple[TensorSpec, ...]) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    # As behind a rectifier: half of it zeros.
    tensors = [np.maximum(rng.standard_normal(s.shape), 0.0).astype(s.dtype) for s in specs]

    def across() -> None:
        decode(codec, encode(codec, tensors), specs)
    return across


def _image_across(height: int, width: int) -> Callable[[], None]:
    down, right = np.mgrid[:height, :width]
    image = np.stack([3 * down, 2 * right, down + right], -1).astype(np.uint8)

    def across() -> None:
        decode_image(encode_image(image), height, width)
    return across
