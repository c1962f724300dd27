# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One operating system process with its nodes: start, spin, clean end.

SIGINT and SIGTERM are ours, not rclpy's: rclpy would invalidate the publishers before the last
feedback is flushed. The exit code is 0 after a signal, 2 after wrong parameters or what a node
calls its own failure, 1 after a failure that no one caught; the nodes are closed in any case.
"""
from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import List, Optional, Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.nodes import log_bridge
from crowdhmt_ros.nodes.engine_share import EngineShare
from crowdhmt_ros.nodes.table import node_entry, process_named

SPIN_S = 0.1
"""Longest time before a signal is noticed."""
THREAD_TURN_S = 0.001
"""A worker that comes back from the engine must not wait 5 ms for the interpreter."""


class StopRequest:
    """Turns SIGINT and SIGTERM into a flag, or into KeyboardInterrupt while `interrupting`."""

    def __init__(self) -> None:
        self.requested = False
        self.interrupting = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        first = not self.requested
        self.requested = True
        if first and self.interrupting:
            raise KeyboardInterrupt


def run(names: Sequence[str], args: Optional[List[str]] = None) -> int:
    """
    Create the named nodes, spin them in one thread until told to stop, and end cleanly.

    :param names: node names of `table`
    :param args: command line, None for the process's own
    :returns: exit code; 0 or what a node that ended by itself gives as `exit_code`
    """
    stop = StopRequest()
    sys.setswitchinterval(THREAD_TURN_S)
    nodes: List[object] = []
    code = 0
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        executor = SingleThreadedExecutor()
        share = EngineShare()
        for name in names:
            nodes.append(_create(name, share))
            executor.add_node(nodes[-1])
        for node in nodes:
            node.start()
        stop.interrupting = False
        while not stop.requested and not any(node.finished for node in nodes):
            executor.spin_once(timeout_sec=SPIN_S)
        code = max(getattr(node, 'exit_code', 0) for node in nodes)
    except CrowdHMTError as error:
        print(f'{"/".join(names)}: {error}', file=sys.stderr, flush=True)  # noqa: T201
        code = 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        stop.requested, stop.interrupting = True, False
        _end(nodes)
    return code


def _create(name: str, share: EngineShare) -> object:
    entry = node_entry(name)
    given = {'share': share} if entry.shares_engine else {}
    return getattr(importlib.import_module(entry.module), entry.class_name)(**given)


def _end(nodes: Sequence[object]) -> None:
    """Let every node flush what it holds, then take ROS down once, whichever of them fails."""
    with contextlib.ExitStack() as last_first:
        last_first.callback(rclpy.try_shutdown)
        for node in nodes:
            last_first.callback(node.destroy_node)
        last_first.callback(log_bridge.detach)
        for node in nodes:
            last_first.callback(node.close)


def leave(code: int) -> None:
    """End the process at once with this code when a thread is still inside an engine."""
    alive = [t for t in threading.enumerate() if t is not threading.current_thread()]
    if alive:  # the interpreter's own shutdown would crash under such a thread
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main_of(name: str, args: Optional[List[str]] = None) -> int:
    """Run the process, or the single node, of this name."""
    code = 1
    try:
        code = run(process_named(name).nodes, args)
    finally:
        leave(code)
    return code


def main_engine() -> int:
    """Run the process `engine`."""
    return main_of('engine')


def main_mind() -> int:
    """Run the process `mind`."""
    return main_of('mind')


def main_world() -> int:
    """Run the process `world`."""
    return main_of('world')


def main() -> int:
    """Run the process that the first argument names."""
    if len(sys.argv) < 2:
        print('usage: python -m crowdhmt_ros.nodes.process NAME [--ros-args ...]',  # noqa: T201
              file=sys.stderr)
        return 2
    name = sys.argv.pop(1)
    try:
        process_named(name)
    except KeyError:
        print(f'{name}: no process and no node has this name', file=sys.stderr)  # noqa: T201
        return 2
    return main_of(name)


if __name__ == '__main__':
    raise SystemExit(main())
