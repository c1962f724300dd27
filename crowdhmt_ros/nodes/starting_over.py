# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Notices that a played clock was set back: a recording or a simulation that starts over."""
from __future__ import annotations

from typing import Any, Callable

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node

SHORTEST_S = 1.0
"""Set back by less than one step of the loop, a clock only wavers."""


def on_starting_over(node: Node, callback: Callable[[float], None]) -> Any:
    """
    Call back in the executor's thread each time that the node's clock was set back.

    :param callback: takes the new time, s
    :returns: keep it as long as the callback is wanted
    """
    clock = node.get_clock()
    threshold = JumpThreshold(min_forward=None, on_clock_change=False,
                              min_backward=Duration(seconds=-SHORTEST_S))
    return clock.create_jump_callback(
        threshold, post_callback=lambda jump: callback(clock.now().nanoseconds / 1e9))
