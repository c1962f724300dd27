# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From which confidence on an early exit answers (P III-A1, the search is *reconstructed*).

An exit answers when the highest of its probabilities reaches its threshold; else the network
goes on. Thresholds are chosen on data held back from training: the mean latency shall be least
while the right answers lost against the network's own end stay below a limit. A loss that is
counted on some thousand inputs is uncertain itself, so its standard error counts as lost, too.
"""
from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.errors import DataError

NEVER = 1.0
"""The threshold of an exit that does not pay: it is not even built."""
MOST_LOST_RATIO = 0.005
CAUTION = 1.0
"""Standard errors of the counted loss that are added to it."""
GRID_POINTS = 400
"""Combinations of thresholds that are looked at before the best of them is refined."""
REFINEMENTS = 20
TEMPERATURES = (0.05, 20.0)
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Costs:
    """
    What answering takes, in seconds; any other unit serves as well.

    :param head_s: per early exit, from the input to its answer, no earlier exit asked
    :param tail_s: per early exit, from there to the network's own end
    :param whole_s: the network without early exits
    """

    head_s: Tuple[float, ...]
    tail_s: Tuple[float, ...]
    whole_s: float

    def stops(self, open_exits: Sequence[bool]) -> Array:
        """
        Return what an answer takes at each exit, shape (exits + 1,), the network's end last.

        :param open_exits: which early exits are asked at all
        """
        asked = [e for e, is_open in enumerate(open_exits) if is_open]
        end_s = self.head_s[asked[-1]] + self.tail_s[asked[-1]] if asked else self.whole_s
        return np.array([*self.head_s, end_s])


@dataclass(frozen=True)
class Thresholds:
    """
    How early exits decide.

    :param confidence: per early exit, the least highest probability that answers; `NEVER` for an
        exit that is not asked
    :param temperature: per early exit, what its scores are divided by before softmax
    """

    confidence: Tuple[float, ...]
    temperature: Tuple[float, ...]

    @property
    def open_exits(self) -> Tuple[bool, ...]:
        """Which early exits are asked."""
        return tuple(value < NEVER for value in self.confidence)


@dataclass(frozen=True)
class Outcome:
    """
    What a network with thresholds does on some data.

    :param accuracy: ratio of right answers
    :param last_accuracy: of the network's own end
    :param mean_s: mean of what an answer takes
    :param whole_s: what it takes without early exits
    :param exit_ratios: per exit, the network's end last, the share of answers
    """

    accuracy: float
    last_accuracy: float
    mean_s: float
    whole_s: float
    exit_ratios: Tuple[float, ...]

    @property
    def lost_ratio(self) -> float:
        """Right answers lost against the network's own end; below 0 where exits know better."""
        return self.last_accuracy - self.accuracy

    @property
    def speedup(self) -> float:
        """How many times less an answer takes than without early exits."""
        return self.whole_s / self.mean_s


def confidences(logits: NDArray[np.floating], temperature: float = 1.0) -> Array:
    """
    Return the highest probability of each input, (n,), as robots compute it.

    :param logits: (n, classes)
    :param temperature: what they are divided by
    """
    shifted = np.asarray(logits, np.float64) / temperature
    shifted = shifted - shifted.max(1, keepdims=True)
    highest: Array = 1.0 / np.exp(shifted).sum(1)
    return highest


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """
    Return the temperature under which probabilities come true best: least mean log loss.

    :param logits: (n, classes)
    :param labels: (n,)
    :returns: within `TEMPERATURES`
    """
    values, rows = np.asarray(logits, np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = values / math.exp(log_temperature)
        highest = scaled.max(1)
        return float(np.mean(np.log(np.exp(scaled - highest[:, None]).sum(1)) + highest
                             - scaled[rows, labels]))

    low, high = (math.log(t) for t in TEMPERATURES)
    for _ in range(40):  # the loss has one valley
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2.0)


def choose(logits: Sequence[NDArray[np.floating]], labels: NDArray[np.integer], costs: Costs, *,
           most_lost_ratio: float = MOST_LOST_RATIO, caution: float = CAUTION,
           temperatures: Optional[Sequence[float]] = None) -> Thresholds:
    """
    Choose the thresholds under which an answer takes least.

    :param logits: per exit, the network's own end last, (n, classes); of data that the network
        was not trained on
    :param labels: (n,)
    :param costs: of each exit
    :param most_lost_ratio: right answers that may be lost against the network's own end
    :param caution: standard errors of the loss that count as lost, too; 0 takes it as counted
    :param temperatures: per early exit; None tries 1 and fitted ones, and takes what is faster
    :raises DataError: shapes that do not fit, or numbers that are not finite
    """
    _check(logits, labels, costs)
    ones = (1.0,) * len(costs.head_s)
    tried = [tuple(temperatures)] if temperatures is not None else [
        ones, tuple(fit_temperature(scores, labels) for scores in logits[:-1])]
    best: Optional[Tuple[float, Thresholds]] = None
    for chosen in tried:
        if len(chosen) != len(ones):
            raise DataError('%d temperatures were given for %d early exits'
                            % (len(chosen), len(ones)))
        search = _Search(logits, labels, costs, chosen, most_lost_ratio, caution)
        mean_s, confidence = search.best()
        chosen = tuple(t if c < NEVER else 1.0 for t, c in zip(chosen, confidence))
        if best is None or mean_s < best[0]:
            best = mean_s, Thresholds(confidence, chosen)
    assert best is not None
    return best[1]


def taken(thresholds: Thresholds, logits: Sequence[NDArray[np.floating]]) -> NDArray[np.intp]:
    """
    Return which exit answers each input, (n,), the network's own end being the last.

    :param logits: per exit, the network's own end last, (n, classes)
    """
    exits = np.full(len(logits[-1]), len(logits) - 1, np.intp)
    for number in reversed(range(len(logits) - 1)):
        least = thresholds.confidence[number]
        if least < NEVER:
            found = confidences(logits[number], thresholds.temperature[number])
            exits[found >= least] = number
    return exits


def outcome(thresholds: Thresholds, logits: Sequence[NDArray[np.floating]],
            labels: NDArray[np.integer], costs: Costs) -> Outcome:
    """
    Return what thresholds do on some data.

    :param logits: per exit, the network's own end last, (n, classes)
    :param labels: (n,)
    :raises DataError: shapes that do not fit, or numbers that are not finite
    """
    _check(logits, labels, costs)
    exits = taken(thresholds, logits)
    right = _right(logits, labels)
    counts = np.bincount(exits, minlength=len(logits))
    return Outcome(
        float(right[exits, np.arange(len(labels))].mean()), float(right[-1].mean()),
        float(costs.stops(thresholds.open_exits)[exits].mean()), costs.whole_s,
        tuple(float(c) / len(labels) for c in counts))


def _right(logits: Sequence[NDArray[np.floating]], labels: NDArray[np.integer]) -> Flags:
    return np.stack([np.asarray(scores).argmax(1) == labels for scores in logits])


def _check(logits: Sequence[NDArray[np.floating]], labels: NDArray[np.integer], costs: Costs
           ) -> None:
    exits = len(logits) - 1
    if exits < 0 or len(costs.head_s) != exits or len(costs.tail_s) != exits:
        raise DataError('scores of %d exits were given, costs of %d heads and %d tails: there is '
                        'one head and one tail for each exit but the last'
                        % (len(logits), len(costs.head_s), len(costs.tail_s)))
    shapes = {np.shape(scores) for scores in logits}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or np.shape(labels) != (
            next(iter(shapes))[0],) or not len(labels):
        raise DataError('scores are %s and labels %s; expected (n, classes) alike for each exit, '
                        '(n,), and n at least 1' % (sorted(shapes), np.shape(labels)))
    numbers = (*costs.head_s, *costs.tail_s, costs.whole_s)
    if not all(math.isfinite(c) and c > 0.0 for c in numbers):
        raise DataError('costs are %s; each must be above 0' % (numbers,))
    if not all(np.isfinite(scores).all() for scores in logits):
        raise DataError('scores of an exit are not finite')


class _Search:
    """One search; all arrays are (exits, n), the network's own end last where it has a row."""

    def __init__(self, logits: Sequence[NDArray[np.floating]], labels: NDArray[np.integer],
                 costs: Costs, temperatures: Sequence[float], most_lost: float, caution: float
                 ) -> None:
        self._costs, self._most_lost, self._caution = costs, most_lost, caution
        self._count, self._exits = len(labels), len(logits) - 1
        self._confidence = [confidences(scores, t) for scores, t in zip(logits, temperatures)]
        right = _right(logits, labels).astype(np.int64)
        self._lost = right[-1] - right
        """Per exit and input: 1 where it is wrong and the end right, -1 the other way round."""

    def best(self) -> Tuple[float, Tuple[float, ...]]:
        """Return the least mean cost with its thresholds; where no exit pays, all are `NEVER`."""
        found = tuple([NEVER] * self._exits)
        least = self._costs.whole_s
        for tried in self._grid():
            cost = self._mean_s(tried)
            if cost < least and self._is_allowed(self._lost_by(tried)):
                least, found = cost, tried
        for _ in range(REFINEMENTS):
            before = least
            for number in range(self._exits):
                least, found = min((least, found), self._closed(found, number),
                                   self._swept(found, number), key=lambda pair: pair[0])
            if least >= before:
                break
        return least, found

    def _grid(self) -> Iterator[Tuple[float, ...]]:
        if not self._exits:
            return
        levels = max(2, int(GRID_POINTS ** (1.0 / self._exits)))
        levels = min(levels, 64, self._count + 1)
        ratios = np.linspace(0.0, 1.0, levels)[:-1]
        offered: List[List[float]] = []
        for values in self._confidence:
            marks = np.quantile(values, ratios, method='higher')
            offered.append([NEVER, *sorted({float(m) for m in marks if m < NEVER})])
        yield from itertools.product(*offered)

    def _exits_taken(self, thresholds: Sequence[float]) -> NDArray[np.intp]:
        exits = np.full(self._count, self._exits, np.intp)
        for number in reversed(range(self._exits)):
            if thresholds[number] < NEVER:
                exits[self._confidence[number] >= thresholds[number]] = number
        return exits

    def _mean_s(self, thresholds: Sequence[float]) -> float:
        stops = self._costs.stops([t < NEVER for t in thresholds])
        counts = np.bincount(self._exits_taken(thresholds), minlength=len(stops))
        return float(counts @ stops) / self._count

    def _lost_by(self, thresholds: Sequence[float]) -> Tuple[int, int]:
        """Return the right answers lost, and in how many the right ones differ."""
        lost = self._lost[self._exits_taken(thresholds), np.arange(self._count)]
        return int(lost.sum()), int(np.abs(lost).sum())

    def _is_allowed(self, lost: Tuple[int, int]) -> bool:
        return bool(self._allowed(np.array([lost[0]]), np.array([lost[1]]))[0])

    def _allowed(self, lost: NDArray[np.integer], differing: NDArray[np.integer]) -> Flags:
        ratio = lost / self._count
        error = np.sqrt(np.maximum(differing / self._count - ratio ** 2, 0.0) / self._count)
        allowed: Flags = ratio + self._caution * error <= self._most_lost + 1e-12
        return allowed

    def _closed(self, thresholds: Tuple[float, ...], number: int
                ) -> Tuple[float, Tuple[float, ...]]:
        """Return what it costs not to ask an exit."""
        without = (*thresholds[:number], NEVER, *thresholds[number + 1:])
        allowed = self._is_allowed(self._lost_by(without))
        return self._mean_s(without) if allowed else math.inf, without

    def _swept(self, thresholds: Tuple[float, ...], number: int
               ) -> Tuple[float, Tuple[float, ...]]:
        """Return the best threshold of one exit, the others as they are; exact on this data."""
        without = (*thresholds[:number], NEVER, *thresholds[number + 1:])
        exits = self._exits_taken(without)
        is_open = [t < NEVER or e == number for e, t in enumerate(thresholds)]
        stops, reached = self._costs.stops(is_open), exits > number
        own = self._confidence[number]
        order = np.flatnonzero(reached & (own < NEVER))
        order = order[np.argsort(-own[order], kind='stable')]
        # What has a probability of 1 stops at any threshold below 1.
        sure = np.flatnonzero(reached & (own >= NEVER))
        order = np.concatenate([sure, order])
        if not len(order):
            return math.inf, thresholds
        now = self._lost[exits, np.arange(self._count)]
        change = self._lost[number, order] - now[order]
        differing = np.abs(self._lost[number, order]) - np.abs(now[order])
        lost = int(now.sum()) + np.cumsum(change)
        saved = np.cumsum(stops[exits[order]] - stops[number])
        mean_s = (float(stops[exits].sum()) - saved) / self._count
        edge = np.append(own[order][:-1] > own[order][1:], True)  # equals go together
        edge &= self._allowed(lost, int(np.abs(now).sum()) + np.cumsum(differing))
        if not edge.any():
            return math.inf, thresholds
        place = int(np.flatnonzero(edge)[np.argmin(mean_s[edge])])
        below = own[order[place + 1]] if place + 1 < len(order) else own[order[place]]
        threshold = _between(float(own[order[place]]), float(below))
        return float(mean_s[place]), (*without[:number], threshold, *without[number + 1:])


def _between(high: float, low: float) -> float:
    """Return a threshold that `high` reaches and `low`, where it is less, does not."""
    middle = (high + low) / 2.0
    threshold = middle if low < middle <= high else high
    return min(threshold, float(np.nextafter(NEVER, 0.0)))
