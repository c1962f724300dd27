# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A variant that answers early where it is sure: its steps, what they cost, when it stops.

P III-A1. A step is a graph of its own: the first ends at an early exit and gives the exit's scores
and the features, the last goes on from there to the variant's own answer. What a step takes is
measured as a robot runs it; on data held back the thresholds are chosen.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from crowdhmt_ros.bundle.writer_graphs import exit_cut
from crowdhmt_ros.elastic.export import EXIT_NAME, export_family
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.graph.family import Family, FamilyGraph
from crowdhmt_ros.graph.split import steps
from crowdhmt_ros.tasks.evaluation import outputs_of
from crowdhmt_ros.tasks.latency import ROUNDS, measured
from crowdhmt_ros.tasks.material import Labelled
from crowdhmt_ros.tasks.thresholds import (
    CAUTION,
    MOST_LOST_RATIO,
    Costs,
    Outcome,
    Thresholds,
    choose,
    confidences,
    outcome,
)
from crowdhmt_ros.types import EarlyExit, Variant

BATCH = 256
Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cascade:
    """
    A variant with the exits at which it may stop.

    :param family: of one graph, the whole variant with the exits that are asked as further
        outputs, and the shared tensors that it rests on
    :param thresholds: of all its early exits, those that are not asked included
    :param costs: measured, in seconds
    :param held_back: what it does on the data that the thresholds were chosen on
    """

    family: Family
    thresholds: Thresholds
    costs: Costs
    held_back: Outcome

    @property
    def graph(self) -> FamilyGraph:
        """The whole variant with the exits that are asked."""
        return self.family.graphs[0]

    @property
    def early_exits(self) -> Tuple[EarlyExit, ...]:
        """Where and when it stops, as a bundle says it; empty where no exit pays."""
        found, graph = self.thresholds, self.graph
        return tuple(EarlyExit(
            number, exit_cut(graph.variant_id, number), found.confidence[number],
            found.temperature[number], self.held_back.exit_ratios[number])
            for number in graph.exits)


def cascade_of(net: Supernet, variant: Variant, statistics: Statistics, held_back: Labelled, *,
               variant_id: str = 'cascade', rounds: int = ROUNDS, half: bool = True,
               most_lost_ratio: float = MOST_LOST_RATIO, caution: float = CAUTION) -> Cascade:
    """
    Measure a variant's exits and choose where it stops.

    :param statistics: of its normalisations
    :param held_back: data that it was not trained on
    :param variant_id: name of the graph
    :param rounds: turns of each session, see `latency.measured`
    :param half: store weights of several axes in float16
    :param most_lost_ratio: see `thresholds.choose`
    :param caution: see `thresholds.choose`
    :raises ConfigError: it has no early exit
    :raises DataError: nothing was held back
    :raises ExportError: statistics are missing, or it cannot be expressed
    """
    numbers = tuple(range(variant.exit_index))
    if not numbers:
        raise ConfigError('the variant has no early exit to stop at; train with exits')
    if not len(held_back):
        raise DataError('no data is held back to choose thresholds on; set held_back_ratio in the '
                        "task's file")
    example = held_back.inputs[:1]
    family = exported(net, variant, statistics, example, variant_id, numbers, half=half)
    costs = measured_costs(family.graphs[0], example, rounds=rounds)
    logits = exit_logits(net, variant, statistics, held_back.inputs)
    labels = held_back.labels.numpy()
    found = choose(logits, labels, costs, most_lost_ratio=most_lost_ratio, caution=caution)
    asked = tuple(n for n in numbers if found.open_exits[n])
    return Cascade(exported(net, variant, statistics, example, variant_id, asked, half=half),
                   found, costs, outcome(found, logits, labels, costs))


def exported(net: Supernet, variant: Variant, statistics: Statistics, example: torch.Tensor,
             variant_id: str, exits: Sequence[int], *, half: bool = True) -> Family:
    """
    Export a variant with some of its early exits.

    :param example: one input, (1, ...)
    :param exits: their numbers
    """
    return export_family(net, {variant_id: variant}, statistics, example, half=half,
                         early={variant_id: exits})


def exit_logits(net: Supernet, variant: Variant, statistics: Statistics, inputs: torch.Tensor, *,
                batch: int = BATCH) -> List[Array]:
    """
    Return the scores of each exit, the variant's own last, each (n, classes).

    :param inputs: (n, ...)
    :param batch: inputs at once
    """
    return [scores.numpy()
            for scores in outputs_of(net, variant, statistics, inputs, batch=batch)]


def measured_costs(graph: FamilyGraph, example: torch.Tensor, *, rounds: int = ROUNDS) -> Costs:
    """
    Measure heads, tails and the whole in turn, one thread, one input.

    :param graph: with all its early exits
    :param example: one input, (1, ...)
    :param rounds: turns of each
    """
    runs: Dict[str, Callable[[], Any]] = {}
    for number, output in graph.exits.items():
        (_, head), (_, tail) = steps(graph.model, [output])
        first, second = Steps([session(head)]), Steps([session(tail)])
        features = first.run(0, example.numpy())[-1]
        runs['head%d' % number] = first.bound(example.numpy())
        runs['tail%d' % number] = second.bound(features)
    ((_, whole),) = steps(graph.model, [])
    runs['whole'] = Steps([session(whole)]).bound(example.numpy())
    took_s = measured(runs, rounds=rounds)
    return Costs(tuple(took_s['head%d' % n] for n in graph.exits),
                 tuple(took_s['tail%d' % n] for n in graph.exits), took_s['whole'])


def plain(cascade: Cascade) -> onnx.ModelProto:
    """Return the variant without its early exits."""
    ((_, model),) = steps(cascade.graph.model, [])
    return model


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Prepare a graph to run with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider'])


class Steps:
    """
    Graphs that run one behind the other.

    :param sessions: each takes one tensor, the last one that the step before gave
    """

    def __init__(self, sessions: Sequence[onnxruntime.InferenceSession]) -> None:
        self._sessions = [(s, s.get_inputs()[0].name) for s in sessions]

    def run(self, number: int, given: Array) -> List[Array]:
        """Run one step."""
        one, name = self._sessions[number]
        found: List[Array] = one.run(None, {name: given})
        return found

    def bound(self, given: Array) -> Callable[[], Any]:
        """Return what runs the first step on an input."""
        return lambda: self.run(0, given)

    def answer(self, given: Array, stops: Sequence[Tuple[float, float]]) -> Tuple[int, Array]:
        """
        Answer one input, running no more steps than needed.

        :param given: (1, ...)
        :param stops: per step but the last, least confidence and temperature
        :returns: number of the step that answered, its scores (1, classes)
        """
        for number, (least, temperature) in enumerate(stops):
            scores, given = self.run(number, given)
            if confidences(scores, temperature)[0] >= least:
                return number, scores
        return len(stops), self.run(len(stops), given)[0]


def steps_of(cascade: Cascade) -> Tuple[Steps, Tuple[Tuple[float, float], ...]]:
    """Prepare a cascade's steps: what runs, and where it stops, as `Steps.answer` takes it."""
    graph, found = cascade.graph, cascade.thresholds
    chain = steps(graph.model, [EXIT_NAME % n for n in graph.exits])
    return (Steps([session(model) for _, model in chain]),
            tuple((found.confidence[n], found.temperature[n]) for n in graph.exits))
