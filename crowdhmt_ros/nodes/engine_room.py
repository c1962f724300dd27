# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that answers frames, opened from a bundle; free of ROS."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Protocol, Tuple

from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.engine.backends import FIRST, computes_elsewhere
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BundleError, CrowdHMTError
from crowdhmt_ros.executor import Executor
from crowdhmt_ros.nodes.engine_schedule import EngineSchedule
from crowdhmt_ros.nodes.engine_share import (
    Engine,
    EngineShare,
    Progress,
    cache_dir_of,
)
from crowdhmt_ros.nodes.helped import HelpedPlans
from crowdhmt_ros.nodes.params import CameraInferenceParameters
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.types import Candidate
from crowdhmt_ros.vision.preprocess import Preprocessor

__all__ = ['EngineRoom', 'cache_dir_of', 'leanest', 'open_engine_room']
FIRST_PLAN_SEQ = 0
"""Number under which answers run before the first plan."""


class Way(Protocol):
    """The links to peers, as far as they matter here."""

    def close(self) -> None:
        """End all."""


@dataclass(frozen=True, eq=False)
class EngineRoom:
    """
    An opened bundle with what runs it.

    :param bundle: verified
    :param pool: what is compiled
    :param executor: answers frames; the fallback is in force at first
    :param switcher: brings plans into force
    :param schedule: says how the engine runs what plans want
    :param helped: prepares candidates that a peer takes part in
    :param fallback: what answers before the first plan
    :param engine: what is shared with other nodes of this process
    :param share: where it came from
    """

    bundle: Bundle
    pool: Pool
    executor: Executor
    switcher: PlanSwitcher
    schedule: EngineSchedule
    helped: HelpedPlans
    fallback: Candidate
    engine: Engine
    share: EngineShare

    @property
    def warnings(self) -> Tuple[str, ...]:
        """What the engines could not give and which of them failed, one line each."""
        return self.engine.backend.warnings

    def close(self, way: Optional[Way] = None) -> None:
        """
        Let go of everything compiled, here and at peers, but for what guests hold.

        :param way: to peers, closed too: after the leases are given back, and before what
            waits for a peer is waited for
        """
        self.switcher.drop_help()
        if way is not None:
            way.close()
        self.helped.close()
        self.pool.let_go()
        self.share.close(self.engine)


def leanest(bundle: Bundle, variant_id: str = '', *, backend: str = FIRST) -> Candidate:
    """
    Return what answers before the first plan: one thread, fewest multiply-accumulates.

    :param variant_id: another variant to take, '' for the leanest
    :param backend: the engine that runs it
    :raises BundleError: the bundle has no such variant
    """
    offered = [c for c in bundle.candidates(threads=(1,), memory_modes=('fast',))
               if c.variant_id == variant_id or not variant_id]
    if not offered:
        raise BundleError(f'fallback is {variant_id!r}, the bundle {bundle.manifest.name} has '
                          f'{", ".join(bundle.manifest.front)}')
    found = min(offered, key=lambda c: (bundle.macs(c.variant_id), c.candidate_id))
    return replace(found, engine=replace(found.engine, backend=backend))


def open_engine_room(parameters: CameraInferenceParameters, *,
                     progress: Optional[Progress] = None,
                     share: Optional[EngineShare] = None) -> EngineRoom:
    """
    Open and verify the bundle, write its graphs to the cache, compile the fallback.

    :param progress: called with (bytes done, bytes in all) while the cache is written
    :param share: of this process, None for an engine of its own
    :raises BundleError: damaged, missing, or written for another version
    :raises BackendError: the engine cannot run it
    """
    share = share or EngineShare()
    engine = share.open(parameters.bundle, backend=parameters.backend,
                        backend_repeat=parameters.backend_repeat,
                        cache_dir=parameters.cache_dir, progress=progress)
    try:
        return _furnished(engine, share, parameters)
    except CrowdHMTError:
        share.close(engine)
        raise


def _furnished(engine: Engine, share: EngineShare,
               parameters: CameraInferenceParameters) -> EngineRoom:
    bundle, pool = engine.bundle, engine.pool
    executor = Executor(bundle.classes, Preprocessor(bundle.input))
    fallback = leanest(bundle, parameters.fallback, backend=engine.backend.name)
    executor.switch(fallback, pool.prepare(fallback), FIRST_PLAN_SEQ)
    helped = HelpedPlans(pool, engine.segments)
    schedule = EngineSchedule(
        engine.infer_s, elsewhere=lambda name: computes_elsewhere(engine.backend, name))
    switcher = PlanSwitcher(executor, schedule.over(pool, executor.answering),
                            in_force_id=fallback.candidate_id, helped=helped)
    return EngineRoom(bundle, pool, executor, switcher, schedule, helped, fallback, engine, share)
