# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which candidates are left out for a while, because this robot could not make them ready.

A plan for one would change nothing: what answered before goes on answering. So the next best is
chosen, and the candidate is tried again after 2, 4, 8 .. 60 s, the longer the oftener it failed.
An answer of it clears it. Pure: what is remembered is in `LoopState.left_out`.
"""
from __future__ import annotations

from typing import Dict, FrozenSet, Sequence, Tuple

from crowdhmt_ros.types import Feedback, LeftOut

FIRST_S, LONGEST_S = 2.0, 60.0


def hold_s(times: int) -> float:
    """
    Return for how long a candidate is not tried again.

    :param times: how often it has failed, from 1 on
    """
    return float(min(LONGEST_S, FIRST_S * 2.0 ** min(times - 1, 30)))


def absorb_failed(known: Sequence[LeftOut], feedbacks: Sequence[Feedback]
                  ) -> Tuple[LeftOut, ...]:
    """
    Return what is left out after these feedbacks, what only counts as having failed included.

    A failure told while the candidate is left out already is of a plan that was on its way, or of
    the same trial: it counts no further.

    :param known: so far
    :param feedbacks: windows in any order
    :returns: in order of candidate_id
    """
    rows: Dict[str, LeftOut] = {row.candidate_id: row for row in known}
    for feedback in sorted(feedbacks, key=lambda f: (f.stamp_s, f.plan_seq, f.candidate_id)):
        name, at_s = feedback.candidate_id, feedback.stamp_s
        if feedback.infer_s:
            rows.pop(name, None)
        elif feedback.failed and not (name in rows and is_out(rows[name], at_s)):
            times = rows[name].times + 1 if name in rows else 1
            rows[name] = LeftOut(name, at_s + hold_s(times), times)
    return tuple(rows[name] for name in sorted(rows))


def is_out(row: LeftOut, now_s: float) -> bool:
    """Whether a candidate is left out now; one of before the clock was set back is not."""
    return 0.0 < row.until_s - now_s <= LONGEST_S


def out_now(known: Sequence[LeftOut], now_s: float) -> FrozenSet[str]:
    """Return the candidate ids that are not to be chosen now."""
    return frozenset(row.candidate_id for row in known if is_out(row, now_s))


def in_words(known: Sequence[LeftOut], now_s: float) -> Tuple[str, ...]:
    """Return one line for each candidate that is left out now."""
    return tuple('%s is left out for %.0f s: this robot could not make it ready (%d times)' % (
        row.candidate_id, row.until_s - now_s, row.times)
        for row in known if is_out(row, now_s))
