# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Fronts of what was measured: accuracy against a cost, seconds or operations (P III-D2, P IV).

Between two members of a front accuracy is taken along the straight line over the logarithm of
the cost. What a budget really gets is `best_within`: no variant lies between two others.
"""
from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.errors import DataError


@dataclass(frozen=True)
class Point:
    """
    A variant as it was measured.

    :param name: of the variant
    :param cost: above 0; seconds, or operations
    :param accuracy: ratio of right answers
    """

    name: str
    cost: float
    accuracy: float


def front_of(points: Iterable[Point]) -> Tuple[Point, ...]:
    """
    Keep the points that no other one beats: at most as dear and more accurate, or cheaper.

    :returns: from cheap to dear, accuracies rising
    :raises DataError: a point has no cost above 0, or no accuracy
    """
    found: List[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.accuracy, p.name)):
        if not (0.0 < point.cost < math.inf) or math.isnan(point.accuracy):
            raise DataError('%s costs %g at an accuracy of %g: measure it again'
                            % (point.name, point.cost, point.accuracy))
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return tuple(found)


def best_within(points: Iterable[Point], cost: float) -> Optional[Point]:
    """Return the most accurate point that costs no more, the cheapest of equals; None without."""
    cheap = [p for p in points if p.cost <= cost]
    return max(cheap, key=lambda p: (p.accuracy, -p.cost), default=None)


def accuracy_at(front: Sequence[Point], cost: float) -> Optional[float]:
    """
    Return the accuracy of a front at a cost, along lines between its members.

    :param front: from cheap to dear
    :returns: that of the last member beyond it, None below the first one
    """
    if not front or cost < front[0].cost:
        return None
    if cost >= front[-1].cost:
        return front[-1].accuracy
    place = bisect.bisect_right([p.cost for p in front], cost)
    low, high = front[place - 1], front[place]
    share = math.log(cost / low.cost) / math.log(high.cost / low.cost)
    return low.accuracy + share * (high.accuracy - low.accuracy)


def chosen_within(points: Iterable[Point], deciding: Mapping[str, float], cost: float
                  ) -> Optional[Point]:
    """
    Choose by accuracies on other data the point that stands for a cost.

    What is lost at that cost is then read off the point: nothing was chosen by its own accuracy.

    :param deciding: name -> accuracy; points without one are not chosen
    :returns: the point as it was measured, None where none is so cheap
    """
    known = {p.name: p for p in points if p.name in deciding}
    best = best_within([replace(p, accuracy=deciding[n]) for n, p in known.items()], cost)
    return None if best is None else known[best.name]


def share_near(points: Sequence[Point], front: Sequence[Point], *, within: float) -> float:
    """
    Return the share of points that lie no further below a front than `within`.

    :param points: at least one
    :param front: from cheap to dear; it begins at the cheapest point or before
    :param within: ratio of right answers
    :raises DataError: no points, or one is cheaper than all of the front
    """
    if not points:
        raise DataError('a share of no points was asked for')
    return sum(distance <= within for distance in below(points, front)) / len(points)


def below(points: Sequence[Point], front: Sequence[Point]) -> List[float]:
    """
    Return how far each point lies below a front.

    :param front: from cheap to dear; it begins at the cheapest point or before
    :returns: ratios of right answers, negative above the front
    :raises DataError: a point is cheaper than all of the front
    """
    found = []
    for point in points:
        accuracy = accuracy_at(front, point.cost)
        if accuracy is None:
            raise DataError('%s is cheaper than all of the front: make the front of it too'
                            % point.name)
        found.append(accuracy - point.accuracy)
    return found
