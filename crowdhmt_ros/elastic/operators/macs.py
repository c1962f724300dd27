# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a form costs, before a plan: forms that would not save work are refused."""
from __future__ import annotations

import math
from typing import Tuple

from crowdhmt_ros.elastic.operators.operator import UnitShape
from crowdhmt_ros.elastic.steps import Apply, Program
from crowdhmt_ros.elastic.structure import Unit


def whole(unit: Unit) -> UnitShape:
    """Return a unit's full shape."""
    return UnitShape(unit, unit.inputs, unit.outputs, unit.kernel, unit.stride)


def program_macs(program: Program, extent: Tuple[int, ...]) -> int:
    """
    Count the multiply-accumulates of a program for one input.

    :param extent: of its result beside channels; a step computes more places than that where
        the step that reads it has the stride
    """
    total = 0
    for number, step in enumerate(program):
        if isinstance(step, Apply):
            strides = [math.prod(s.stride) for s in program
                       if isinstance(s, Apply) and s.source == number + 1]
            total += step.weight.words * math.prod(extent) * max(strides or [1])
    return total


def cost_refusal(unit: Unit, program: Program) -> str:
    """
    Refuse a form that is not cheaper than the unit itself.

    :param program: of the form, for the unit's full shape
    """
    macs = program_macs(program, unit.extent)
    if macs < unit.macs:
        return ''
    return 'it would not save work: %d multiply-accumulates instead of %d' % (macs, unit.macs)
