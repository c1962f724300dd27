# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a `plan` message to what answers frames; free of ROS but for the message's shape."""
from __future__ import annotations

import math
import time
from typing import Any, Callable, Dict, Mapping, Optional, Protocol

from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.errors import ConfigError, CrowdHMTError
from crowdhmt_ros.nodes.helped import DEFAULT_BUDGET_S, LONGEST_BUDGET_S, Terms
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.types import Candidate


class PlanMessage(Protocol):
    """The fields of a `plan` message that bring it into force."""

    plan_seq: int
    bundle_sha256: str
    choice: Any
    requirements: Any


class PlanDoor:
    """
    From a `plan` message to the executor: a plain function, so that it can be measured.

    :param bundle: whose plans are taken
    :param switcher: brings them into force
    :param read: turns a message's choice into a candidate where the bundle's table lacks it;
        raises CrowdHMTError where that cannot be
    """

    def __init__(self, bundle: Bundle, switcher: PlanSwitcher,
                 read: Callable[..., Candidate]) -> None:
        self._bundle = bundle
        self._sha256 = bundle.sha256
        self._known: Dict[str, Candidate] = {c.candidate_id: c for c in bundle.candidates()}
        self._switcher = switcher
        self._read = read
        self.problem = ''

    @property
    def known(self) -> Mapping[str, Candidate]:
        """candidate_id -> candidate, as far as seen."""
        return self._known

    def enter(self, message: PlanMessage) -> bool:
        """
        Bring a plan into force, or start to; a plan that cannot be is noted in `problem`.

        :returns: whether it is in force when this returns
        """
        entered_s = time.perf_counter()
        if message.bundle_sha256 != self._sha256:
            self.problem = (f'plan {message.plan_seq} is for another bundle '
                            f'({message.bundle_sha256[:12] or "unnamed"}, here is '
                            f'{self._sha256[:12]}): give planner and camera the same bundle')
            return False
        choice = message.choice
        candidate: Optional[Candidate] = None
        try:
            candidate = self._known.get(choice.candidate_id) or self._learn(choice)
            terms = self._terms(candidate, message) if candidate.placement.peers else None
            in_force = self._switcher.apply(candidate, message.plan_seq, entered_s, terms=terms)
        except CrowdHMTError as error:
            self.problem = (f'plan {message.plan_seq} cannot be brought into force, the one '
                            f'before stays: {error}')
            if candidate is not None:
                self._switcher.refused(candidate, message.plan_seq, error)
            return False
        self.problem = ''
        return in_force

    def _terms(self, candidate: Candidate, message: PlanMessage) -> Terms:
        """Return what goes with a candidate that a peer takes part in."""
        fallback = self._fallback(message.choice.fallback_id)
        if fallback is None:
            raise ConfigError('it names no fallback of this bundle (%r): give all nodes of the '
                              'robot one version of this package' % message.choice.fallback_id)
        budget_s = message.requirements.latency_budget_s
        if math.isnan(budget_s):
            return Terms(fallback, DEFAULT_BUDGET_S)
        return Terms(fallback, min(budget_s, LONGEST_BUDGET_S))

    def _fallback(self, candidate_id: str) -> Optional[Candidate]:
        """Return a candidate of the bundle that only its name tells, None for an unknown one."""
        if candidate_id and candidate_id not in self._known:
            found = self._bundle.candidate_named(candidate_id)
            if found is not None:
                self._known[candidate_id] = found
        return self._known.get(candidate_id)

    def _learn(self, choice: object) -> Candidate:
        candidate = self._read(choice)
        self._known[candidate.candidate_id] = candidate
        return candidate
