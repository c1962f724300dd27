# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Listed members of a family: variants that will be deployed, and so are trained by name (E3).

Random draws reach each form of a large family so seldom that its own tensors go stale; a listed
member gets its turn every few steps (*reconstructed*).
"""
from __future__ import annotations

from typing import AbstractSet, List, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.elastic.plan import part_names
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.types import Variant


class Members:
    """The members that a phase trains: some at every step, the others in turn."""

    def __init__(self, net: Supernet, members: Sequence[Variant], operators: Sequence[str],
                 trained: AbstractSet[str], *, largest: int = 0,
                 every_step: Sequence[str] = ()) -> None:
        """
        Choose those that suit a phase.

        :param members: all that are listed
        :param operators: of the phase: a member has one of them, or none at all
        :param trained: tensors that learn: a member has one of them
        :param largest: so many, of the most operations, get every second turn; 0 for none
        :param every_step: operators whose members have no turns, since they are trained anyway
        :raises ExportError: a member does not fit the network
        """
        plans = {member: net.plan(member) for member in members if member != net.whole()}
        suited = [member for member, plan in plans.items()
                  if _suits(member, operators) and part_names(plan) & trained]
        self.every_step: Tuple[Variant, ...] = tuple(
            member for member in suited if has_any(member, every_step))
        self._turns: List[Variant] = [m for m in suited if m not in self.every_step]
        self._macs = {member: plans[member].macs for member in self._turns}
        self._largest = sorted(self._turns, key=lambda m: -self._macs[m])[:largest]

    def __len__(self) -> int:
        """Count those that have turns."""
        return len(self._turns)

    def leanest(self) -> Optional[Variant]:
        """Return the one with the fewest operations, None where none suits."""
        return min(self._turns, key=lambda m: (self._macs[m], m), default=None)

    def leave_out(self, member: Optional[Variant]) -> None:
        """Give no more turns to a member: it is trained anyway."""
        self._turns = [m for m in self._turns if m != member]
        self._largest = [m for m in self._largest if m != member]

    def turn(self, number: int) -> Variant:
        """
        Return the member whose turn it is.

        :param number: of the turn; each round has another order, so that neighbours change
        """
        if not self._largest:
            return _in_turn(self._turns, number)
        return _in_turn(self._turns if number % 2 else self._largest, number // 2)


def _in_turn(members: Sequence[Variant], number: int) -> Variant:
    order = np.random.default_rng(number // len(members)).permutation(len(members))
    return members[int(order[number % len(members)])]


def _suits(member: Variant, operators: Sequence[str]) -> bool:
    return not any(member.stages) or has_any(member, operators)


def has_any(member: Variant, operators: Sequence[str]) -> bool:
    """Tell whether a variant has one of some operators."""
    return any(choice.operator in operators for stage in member.stages for choice in stage)
