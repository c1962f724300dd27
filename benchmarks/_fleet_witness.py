# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Robots on their real processes, and a node that hears what they tell of each other."""
from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from crowdhmt_ros.cli.processes import Fleet, ProcessError
from crowdhmt_ros.cli.robot_run import write_parameters
from crowdhmt_ros.msg import Advert, Feedback, InferenceResult
from crowdhmt_ros.nodes import table, topics
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.scalars import time_to_seconds

SCENARIO = Path(__file__).with_name('always_help.yaml')
SPIN_S = 0.02
WISHES: Mapping[str, object] = {
    'adaptation_planner:memory_budget_bytes': 7.36e6, 'adaptation_planner:accuracy_floor': 0.893,
    'adaptation_planner:latency_budget_s': 0.15, 'camera_inference:source': 'campus',
    'camera_inference:scenario': str(SCENARIO), 'camera_inference:view': 'vehicle',
    'camera_inference:condition': 'scenes/noon', 'camera_inference:start_timeout_s': 0.0,
    'camera_inference:backend': 'onnxruntime', 'adaptation_planner:backend': 'onnxruntime'}
"""What makes a robot want help with every frame."""


class Witness:
    """
    Hears adverts, feedback, answers and diagnostics of every robot.

    :param namespaces: of the robots
    """

    def __init__(self, namespaces: Tuple[str, ...]) -> None:
        self.node = Node('witness')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.adverts: List[Tuple[float, Advert]] = []
        self.found: Dict[str, Dict[str, float]] = {name: {} for name in namespaces}
        self.answers: Dict[str, List[InferenceResult]] = {name: [] for name in namespaces}
        self.status: Dict[str, DiagnosticStatus] = {}
        self._listen('/fleet/advert', Advert, topics.FLEET_ADVERT,
                     lambda m: self.adverts.append((time.monotonic(), m)))
        self._listen(topics.DIAGNOSTICS.name, DiagnosticArray, topics.DIAGNOSTICS,
                     lambda m: self.status.update({s.name: s for s in m.status}))
        for name in namespaces:
            self._listen(f'/{name}/{topics.FEEDBACK.name}', Feedback, topics.FEEDBACK,
                         partial(self._on_feedback, name))
            self._listen(f'/{name}/{topics.RESULT.name}', InferenceResult, topics.RESULT,
                         self.answers[name].append)

    def _listen(self, topic: str, kind: Any, entry: topics.Topic, take: Callable[[Any], Any]
                ) -> None:
        self.node.create_subscription(kind, topic, take, profile_of(entry.profile, depth=100))

    def _on_feedback(self, name: str, message: Feedback) -> None:
        linked = {p.robot_id for p in message.peers if p.link_round_trip_s > 0.0}
        for peer in linked:
            self.found[name].setdefault(peer, time.monotonic())
        for gone in set(self.found[name]) - linked:
            del self.found[name][gone]

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> float:
        """
        Listen until something is so; returns how long it took, s.

        :raises ProcessError: it was not within the timeout
        """
        start_s = time.monotonic()
        while not condition():
            if time.monotonic() - start_s > timeout_s:
                raise ProcessError('%s: not within %.0f s' % (what, timeout_s))
            self._executor.spin_once(timeout_sec=SPIN_S)
        return time.monotonic() - start_s

    def listen(self, seconds: float) -> None:
        """Listen for a while."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=SPIN_S)

    def advert_s(self, robot_id: str, since_s: float = 0.0) -> Optional[float]:
        """Return when a robot was first heard since a moment, None when it was not."""
        return next((at_s for at_s, m in self.adverts
                     if m.robot_id == robot_id and at_s >= since_s), None)

    def offloaded(self, name: str, since_s: float) -> int:
        """Return how many frames with a stamp since a moment of the node clock peers answered."""
        return sum(m.placement != 'local' and time_to_seconds(m.header.stamp) >= since_s
                   for m in self.answers[name])

    def level(self, namespace: str, node: str, task: str) -> Optional[bytes]:
        """Return the level that a node last told of a task, None when it told none."""
        status = self.status.get(f'/{namespace}/{node}: {task}')
        return status.level if status else None

    def close(self) -> None:
        """End the node."""
        self.node.destroy_node()


class Robots:
    """
    The processes of several robots, without a world.

    :param fleet: starts them
    :param keys: robot_id -> key folder
    :param folder: gets a parameter file of each robot
    :param parameters: 'node:name' -> value, of every robot
    """

    def __init__(self, fleet: Fleet, keys: Mapping[str, Path], folder: Path,
                 parameters: Mapping[str, object]) -> None:
        self._fleet = fleet
        self._keys = keys
        self._folder = folder
        self._parameters = dict(parameters)

    def start(self, namespace: str, *, robot_id: str = '', wants_help: bool = False) -> None:
        """
        Start a robot.

        :param robot_id: '' takes the namespace
        :param wants_help: has a camera, and little memory; else it has none and helps others
        """
        keys = str(self._keys[robot_id or namespace])
        parameters: Dict[str, object] = {
            'diagnostic_updater.use_fqn': True, 'camera_inference:keys_dir': keys,
            'offload_server:keys_dir': keys, **(WISHES if wants_help else {}),
            **self._parameters}
        if robot_id:
            parameters['robot_id'] = robot_id
        path = self._folder / (namespace + '.yaml')
        write_parameters(path, parameters)
        for process in table.processes():
            self._fleet.start('%s-%s' % (namespace, process.name), table.command(
                process.name, namespace=namespace, params_file=str(path)))

    def stop(self, namespace: str) -> None:
        """Stop a robot."""
        for process in table.processes():
            self._fleet.stop('%s-%s' % (namespace, process.name))


def start_ros() -> None:
    """Start ROS in this process."""
    rclpy.init()
