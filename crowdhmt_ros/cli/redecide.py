# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded plans, decided again: as they were, or under another world."""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.loop import decide, enact, rederive
from crowdhmt_ros.planner.choices import Offer
from crowdhmt_ros.types import (
    REPLAYED,
    FrontEntry,
    LoopState,
    Plan,
    Reading,
    RemoteOption,
    Requirements,
    ResourceSnapshot,
)

SNAPSHOT_WORDS = {'battery': 'battery_ratio', 'memory': 'memory_allotted_bytes',
                  'cpu': 'cpu_load_ratio', 'others': 'cpu_others_ratio'}
REQUIREMENT_WORDS = {'latency': 'latency_budget_s', 'floor': 'accuracy_floor',
                     'budget': 'memory_budget_bytes', 'accuracy_weight': 'accuracy_weight'}
UNITS = {'MB': 1e6, 'kB': 1e3, 'GB': 1e9, 'ms': 1e-3, 's': 1.0, '%': 0.01}


@dataclass(frozen=True)
class Outcome:
    """One recorded plan beside what is decided for it now."""

    plan: Plan
    candidate_id: str
    reason: str

    @property
    def differs(self) -> bool:
        """Whether another candidate was chosen."""
        return self.candidate_id != self.plan.chosen.candidate.candidate_id


def as_message(value: Any) -> Any:
    """Return JSON of a message as nested objects with attributes; null becomes NaN."""
    if isinstance(value, dict):
        return SimpleNamespace(**{k: as_message(v) for k, v in value.items()})
    if isinstance(value, list):
        return [as_message(v) for v in value]
    return math.nan if value is None else value


def parse_number(text: str) -> float:
    """
    Read a number with an optional unit: 0.2, 20%, 24MB, 30ms.

    :raises ConfigError: when it is none
    """
    unit = next((u for u in UNITS if text.endswith(u)), '')
    try:
        return float(text[:len(text) - len(unit)]) * UNITS.get(unit, 1.0)
    except ValueError:
        raise ConfigError('%r is no number: write 0.2, 20%%, 24MB or 30ms' % text) from None


def parse_world(assignments: Sequence[str]) -> Dict[str, float]:
    """
    Read `--what-if` options.

    :param assignments: such as 'battery=0.2'
    :returns: field name -> value
    :raises ConfigError: everything wrong in one message
    """
    words = {**SNAPSHOT_WORDS, **REQUIREMENT_WORDS}
    found = {}
    for text in assignments:
        name, sign, value = text.partition('=')
        if not sign or name not in words:
            raise ConfigError('--what-if %s is not understood: write NAME=VALUE with NAME one of '
                              '%s' % (text, ', '.join(words)))
        found[words[name]] = parse_number(value)
    return found


def other_world(plan: Plan, world: Mapping[str, float]) -> Tuple[ResourceSnapshot, Requirements]:
    """Return snapshot and requirements of a plan with some figures replaced."""
    seen = {name: Reading(value, REPLAYED) for name, value in world.items()
            if name in SNAPSHOT_WORDS.values()}
    asked = {name: value for name, value in world.items() if name in REQUIREMENT_WORDS.values()}
    snapshot: ResourceSnapshot = replace(plan.snapshot, **seen)  # type: ignore[arg-type]
    return snapshot, replace(plan.requirements, **asked)


def rederive_all(plans: Sequence[Plan], front: Sequence[FrontEntry],
                 remote: Sequence[RemoteOption] = ()) -> List[Outcome]:
    """Decide every plan again from what it publishes alone."""
    return [Outcome(plan, rederive(plan, front, remote), plan.reason) for plan in plans]


def decide_again(plans: Sequence[Plan], front: Sequence[FrontEntry],
                 world: Mapping[str, float], *, remote: Sequence[RemoteOption] = ()
                 ) -> List[Outcome]:
    """
    Decide a recorded run under another world, one plan after another.

    What the loop had learned of costs stays as recorded; what it remembers of its own choices
    is that of the other world. Peers come and go as recorded.

    :param plans: in the order of the run
    :param front: that they were chosen from
    :param world: field name -> value
    :param remote: ways to be helped that they were chosen from
    :raises RequirementsError: when the other world's requirements are no usable numbers
    """
    memory = LoopState()
    outcomes = []
    for plan in plans:
        state = replace(plan.state, current_id=memory.current_id,
                        current_since_s=memory.current_since_s,
                        challenger_id=memory.challenger_id,
                        challenger_steps=memory.challenger_steps)
        snapshot, requirements = other_world(plan, world)
        decision = decide(Offer(front, remote, plan.peers), state, snapshot, requirements,
                          plan.stamp_s)
        outcomes.append(Outcome(plan, decision.chosen.candidate.candidate_id, decision.reason))
        memory = enact(state, decision, plan.stamp_s)
    return outcomes
