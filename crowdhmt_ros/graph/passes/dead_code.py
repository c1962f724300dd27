# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Operators and constants that no output of the graph depends on.

An operator is alive when it makes an output of the graph or something that a live one reads.
"""
from __future__ import annotations

from typing import List, Set

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.passes.contract import Pass, PassResult


def live_operators(graph: Graph) -> Set[str]:
    """Return the names of the operators that some output depends on."""
    waiting: List[str] = list(graph.outputs)
    seen, alive = set(waiting), set()
    while waiting:
        maker = graph.producer(waiting.pop())
        if maker is None or maker.name in alive:
            continue
        alive.add(maker.name)
        needed = {t for t in (*maker.inputs, *maker.captured) if t} - seen
        seen |= needed
        waiting.extend(needed)
    return alive


class DeadCode(Pass):
    """Removes what nothing reads."""

    def call(self, graph: Graph) -> PassResult:
        """Keep what the outputs depend on, in order from the end."""
        alive = live_operators(graph)
        dead = [o for o in reversed(graph.operators) if o.name not in alive]
        used = {t for o in graph.operators if o.name in alive for t in (*o.inputs, *o.captured)}
        unused = [n for n in graph.constants if n not in used and n not in graph.outputs]
        if not dead and not unused:
            return PassResult(graph, False)
        work = graph.copy()
        for operator in dead:
            work.remove(operator, 'no output of the graph depends on it', rule=self.name)
        for name in unused:
            work.drop_constant(name)
        return PassResult(work, True, tuple(work.removals))


PASS = DeadCode('dead code')
