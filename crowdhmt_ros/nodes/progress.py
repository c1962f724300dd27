# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Long work at configure, told in the log now and then."""
from __future__ import annotations

from typing import Any, Callable

from crowdhmt_ros.nodes.serving import Throttle


def bundle_progress(node: Any) -> Callable[[int, int], None]:
    """
    Return what logs how far the cache is written, once a second.

    :param node: with a logger
    """
    throttle = Throttle(1.0)

    def show(done: int, total: int) -> None:
        if throttle.ready():
            node.get_logger().info(f'preparing the bundle: {100 * done // max(1, total)} %')

    return show
