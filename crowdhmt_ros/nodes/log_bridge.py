# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Brings the core's `logging` lines to the log of a ROS node."""
from __future__ import annotations

import logging
from typing import List

from rclpy.node import Node

CORE = 'crowdhmt_ros'
_handlers: List[logging.Handler] = []


class RosHandler(logging.Handler):
    """Passes each record on to a node's logger at the same level."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        text = record.getMessage()
        # One call per level: rclpy ties a call site to one severity.
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def attach(node: Node) -> None:
    """Send the core's lines to NODE; the first node of a process gets them."""
    if _handlers:
        return
    _handlers.append(RosHandler(node))
    logger = logging.getLogger(CORE)
    logger.addHandler(_handlers[0])
    logger.setLevel(logging.INFO)
    logger.propagate = False


def detach() -> None:
    """Stop sending; the nodes are about to go."""
    while _handlers:
        logging.getLogger(CORE).removeHandler(_handlers.pop())
