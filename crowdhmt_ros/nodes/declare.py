# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Declares the parameter tables of `params` to ROS and refuses wrong values in one line."""
from __future__ import annotations

import array
from typing import Any, Callable, Dict, List, Optional, Type, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from crowdhmt_ros.errors import ConfigError, all_problems
from crowdhmt_ros.nodes.params import ParameterSpec, changed, problems, specs_of

T = TypeVar('T')

_TYPES = {bool: ParameterType.PARAMETER_BOOL, int: ParameterType.PARAMETER_INTEGER,
          float: ParameterType.PARAMETER_DOUBLE, str: ParameterType.PARAMETER_STRING}
_ARRAYS = {int: ParameterType.PARAMETER_INTEGER_ARRAY,
           float: ParameterType.PARAMETER_DOUBLE_ARRAY,
           str: ParameterType.PARAMETER_STRING_ARRAY}


def declare(node: Node, parameters: Type[T]) -> T:
    """
    Declare every field of a parameter dataclass and return the values in force.

    :raises ConfigError: every wrong value in one line: name, value, what is allowed
    """
    specs = specs_of(parameters)
    values: Dict[str, Any] = {}
    for spec in specs:
        # Of any type at first: rclpy would refuse a wrong one before we can say it in our words.
        node.declare_parameter(spec.name, _wire(spec.default),
                               ParameterDescriptor(dynamic_typing=True))
        values[spec.name] = plain(node.get_parameter(spec.name).value)
    found = problems(parameters, values)
    if found:
        raise ConfigError(all_problems(found))
    for spec in specs:
        node.set_descriptor(spec.name, descriptor(spec))
    return changed(parameters(), values)


def descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    """Return what `ros2 param describe` shows."""
    kind = type(spec.default)
    wire_type = _ARRAYS[type(spec.default[0])] if kind is tuple else _TYPES[kind]
    result = ParameterDescriptor(
        name=spec.name, type=wire_type, description=spec.text,
        additional_constraints=spec.range_text, read_only=not spec.changeable)
    if spec.low is not None and spec.high is not None and not spec.can_be_unset:
        if kind is float:
            result.floating_point_range = [
                FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high))]
        elif kind is int:
            result.integer_range = [IntegerRange(
                from_value=int(spec.low), to_value=int(spec.high), step=1)]
    return result


def on_change(node: Node, current: Callable[[], T],
              accept: Callable[[T], Optional[str]]) -> None:
    """
    Judge parameters that are set while the node runs.

    :param current: returns the values in force
    :param accept: takes the new values into use, or returns why not
    """

    def judge(parameters: List[Parameter]) -> SetParametersResult:
        before = current()
        values = {parameter.name: plain(parameter.value) for parameter in parameters}
        reason = all_problems(problems(type(before), values))
        reason = reason or accept(changed(before, values)) or ''
        return SetParametersResult(successful=not reason, reason=reason)

    node.add_on_set_parameters_callback(judge)


def plain(value: Any) -> Any:
    """Return a parameter's value with arrays as lists."""
    if isinstance(value, (array.array, tuple)):
        return list(value)
    return value


def _wire(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default
