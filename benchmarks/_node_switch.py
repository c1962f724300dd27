# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One process of the switch bench: real plans to the real camera_inference while it answers.

`python -m benchmarks._node_switch JSON` prints JSON. A planner's node publishes each plan; the
camera node is spun in the main thread as on a robot, its worker never waits for a frame. Timed
is from the entry of the plan callback to the moment at which the executor holds the new
executable.
"""
from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any, Callable, Dict, List

import rclpy  # noqa: TID251 - the bench runs the real node
from rclpy.executors import SingleThreadedExecutor  # noqa: TID251
from rclpy.node import Node  # noqa: TID251
from rclpy.parameter import Parameter  # noqa: TID251

from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.campus.scene import independent_scene
from crowdhmt_ros.loop import step
from crowdhmt_ros.msg import Plan  # noqa: TID251
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.camera_inference import CameraInferenceNode
from crowdhmt_ros.nodes.convert import plan_to_msg
from crowdhmt_ros.nodes.process import THREAD_TURN_S
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.profiling.devices import load_device
from crowdhmt_ros.profiling.front import build_front, counted_tables
from crowdhmt_ros.types import (
    BundleIdentity,
    FrontEntry,
    LoopState,
    Requirements,
    ResourceSnapshot,
)
from crowdhmt_ros.vision.frame import Frame

ANSWER_TIMEOUT_S = 5.0
SPIN_S = 0.05
LONGEST_PAUSE_S = 0.01
STRIDE = 5
"""Neighbours in the list differ little: every so many-th follows."""


class Watched:
    """
    The node with a stopwatch around its plan callback.

    :param bundle_name: what it runs
    """

    def __init__(self, bundle_name: str) -> None:
        self.node = CameraInferenceNode(namespace='vehicle', parameter_overrides=[
            Parameter('autostart', value=False), Parameter('source', value='topic'),
            Parameter('bundle', value=bundle_name), Parameter('no_frame_warn_s', value=600.0)])
        self.entered_s = self.replaced_s = 0.0
        self.answers = 0
        self.answered = threading.Event()
        on_plan = self.node._on_plan

        def enter(message: Plan) -> None:
            self.entered_s = time.perf_counter()
            on_plan(message)

        self.node._on_plan = enter  # before configure: the subscription takes it
        self.node.trigger_configure()
        switch, publish = self.node.room.executor.switch, self.node.answers.publish

        def switch_and_note(*rest: Any) -> None:
            switch(*rest)
            self.replaced_s = time.perf_counter()

        def publish_and_note(*rest: Any) -> None:
            publish(*rest)
            self.answers += 1
            self.answered.set()

        self.node.room.executor.switch = switch_and_note
        self.node.answers.publish = publish_and_note
        self.node.trigger_activate()


def resident_entries(bundle: Bundle, node: CameraInferenceNode) -> List[FrontEntry]:
    """Return candidates of one thread with figures; all are compiled now."""
    segments = materialise(bundle, default_cache_dir())
    tables = counted_tables(bundle, segments, threads=(1,))
    front = build_front(bundle, tables, load_device('generic_x86'), segments=segments,
                        threads=(1,))
    for entry in front:
        node.room.pool.prepare(entry.candidate)
    return list(front)


def plan_messages(bundle: Bundle, entries: List[FrontEntry], count: int) -> List[Plan]:
    """Return plans as the planner's loop makes them, each for another candidate."""
    found = []
    state, identity = LoopState(), BundleIdentity(bundle_sha256=bundle.sha256)
    for number in range(count):
        now_s = time.time()
        entry = entries[number * STRIDE % len(entries)]
        state, plan = step(state, ResourceSnapshot(stamp_s=now_s), (), Requirements(), [entry],
                           now_s)
        found.append(plan_to_msg(plan, identity))
    return found


def feed(watched: Watched, ended: threading.Event) -> None:
    """Offer the next frame as soon as the last one is answered."""
    image = independent_scene(1, 0, 'noon')[0]
    while not ended.is_set():
        watched.answered.clear()
        now_ns = watched.node.get_clock().now().nanoseconds
        watched.node._emit(Frame(image, now_ns, 'camera', time.monotonic(), 'scenes'))
        watched.answered.wait(ANSWER_TIMEOUT_S)


def switch_times(watched: Watched, plans: List[Plan], executor: SingleThreadedExecutor,
                 publisher: Any, pause_s: Callable[[], float]) -> List[float]:
    """
    Return the seconds of each switch; one plan is published after the other.

    :param pause_s: asked before each plan; meanwhile the node goes on
    """
    found = []
    for plan in plans:
        until_s = time.monotonic() + pause_s()
        executor.spin_once(timeout_sec=max(0.0, until_s - time.monotonic()))
        while time.monotonic() < until_s:
            executor.spin_once(timeout_sec=max(0.0, until_s - time.monotonic()))
        watched.replaced_s = 0.0
        publisher.publish(plan)
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        while not watched.replaced_s:
            if time.monotonic() > deadline_s:
                raise RuntimeError('plan %d was not brought into force: %s' % (
                    plan.plan_seq, watched.node.door.problem or 'it did not arrive'))
            executor.spin_once(timeout_sec=SPIN_S)
        found.append(watched.replaced_s - watched.entered_s)
    return found


def measure(options: Dict[str, Any]) -> Dict[str, Any]:
    """
    Switch to and fro while frames are answered.

    Plans come after pauses of random length, at every moment of a frame; then, where
    'rare_count' is asked for, so many 'rare_s' apart.
    """
    watched = Watched(options['bundle'])
    planner = Node('adaptation_planner', namespace='vehicle')
    publisher = planner.create_publisher(Plan, topics.PLAN.name, profile_of(topics.PLAN.profile))
    executor = SingleThreadedExecutor()
    executor.add_node(watched.node)
    bundle = watched.node.room.bundle
    count, rng = options['count'], random.Random(1)
    plans = plan_messages(bundle, resident_entries(bundle, watched.node),
                          count + options.get('rare_count', 0))
    ended = threading.Event()
    feeder = threading.Thread(target=feed, args=(watched, ended))
    feeder.start()
    try:
        watched.answered.wait(ANSWER_TIMEOUT_S)
        times_s = switch_times(watched, plans[:count], executor, publisher,
                               lambda: rng.uniform(0.0, LONGEST_PAUSE_S))
        rare_s = switch_times(watched, plans[count:], executor, publisher,
                              lambda: options['rare_s'])
    finally:
        ended.set()
        feeder.join()
    answers = watched.answers
    watched.node.close()
    for node in (watched.node, planner):
        node.destroy_node()
    return {'times_s': times_s, 'rare_s': rare_s, 'answers': answers}


def main() -> int:
    """Measure and print."""
    rclpy.init()
    sys.setswitchinterval(THREAD_TURN_S)  # as the node's own process
    result = measure(json.loads(sys.argv[1]))
    rclpy.try_shutdown()
    print(json.dumps(result), flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
