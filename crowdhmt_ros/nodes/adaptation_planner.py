# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DECIDE as a node: one step of the loop for each look at the resources."""
from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from typing import Any, Deque, Optional, Tuple

from rclpy.node import Node
from rclpy.parameter import Parameter

from crowdhmt_ros.errors import CrowdHMTError, all_problems
from crowdhmt_ros.loop import step
from crowdhmt_ros.msg import Feedback, Plan, ResourceStatus
from crowdhmt_ros.nodes import log_bridge, topics
from crowdhmt_ros.nodes.convert import (
    estimate_to_msg,
    feedback_from_msg,
    plan_to_msg,
    requirements_from_msg,
    requirements_to_msg,
    snapshot_from_msg,
)
from crowdhmt_ros.nodes.declare import declare, on_change
from crowdhmt_ros.nodes.diagnostics import ERROR, STALE, WARN, Diagnostics, Health
from crowdhmt_ros.nodes.fleet_ear import FleetEar
from crowdhmt_ros.nodes.mind_start import Mind, MindStart, config_sha256
from crowdhmt_ros.nodes.params import AdaptationPlannerParameters
from crowdhmt_ros.nodes.process import main_of
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.scalars import NAN, number
from crowdhmt_ros.nodes.starting_over import on_starting_over
from crowdhmt_ros.offload.placement import objection, uses
from crowdhmt_ros.planner.reasons import describe, explain
from crowdhmt_ros.srv import ExplainPlan, SetRequirements
from crowdhmt_ros.types import (
    NO_READING,
    READING_FIELDS,
    BundleIdentity,
    LoopState,
    PeerStatus,
    Requirements,
    ResourceSnapshot,
)
from crowdhmt_ros.types import Feedback as Window
from crowdhmt_ros.types import Plan as Decided

WISHES = ('latency_budget_s', 'memory_budget_bytes', 'accuracy_floor', 'accuracy_weight')
STALE_S = 5.0
OLD_AHEAD_S = 0.5
"""After the clock was set back, a look so far ahead of it is from before."""
KEPT_WINDOWS = 100
"""Without a look at the resources nothing takes the windows: the oldest go."""


def wishes_of(parameters: AdaptationPlannerParameters) -> Requirements:
    """Return the requirements that the parameters state; NaN is no wish."""
    values = {name: getattr(parameters, name) for name in WISHES}
    return Requirements(**{name: None if math.isnan(value) else value
                           for name, value in values.items()})


def without_costs(window: Window) -> Window:
    """Return a window that tells the condition of the images and nothing about costs."""
    return replace(window, capture_to_result_s=(), queue_s=(), preprocess_s=(), infer_s=(),
                   exit_index=(), confidence=(), offload_s=(), encode_s=(), link_s=(),
                   remote_queue_s=(), remote_infer_s=(), degraded=0)


TOLD = ('battery_ratio', 'battery_voltage_v', 'battery_current_a', 'power_w',
        'memory_allotted_bytes')


def only_told(snapshot: ResourceSnapshot) -> ResourceSnapshot:
    """Return a snapshot of what was told by topics, without this machine's own load."""
    return replace(snapshot, **{name: NO_READING for name in READING_FIELDS if name not in TOLD})


class AdaptationPlannerNode(Node):
    """Publishes a plan for each look at the resources, with all that it was derived from."""

    def __init__(self, **options: Any) -> None:
        super().__init__('adaptation_planner', **options)
        log_bridge.attach(self)
        self.finished = False
        self.parameters = declare(self, AdaptationPlannerParameters)
        on_change(self, lambda: self.parameters, self._accept)
        self.state = LoopState()
        self.plan: Optional[Decided] = None
        self._mind: Optional[Mind] = None
        self._snapshot: Optional[ResourceSnapshot] = None
        self._heard_s = time.monotonic()
        self._windows: Deque[Window] = deque(maxlen=KEPT_WINDOWS)
        self._old_until_s: Optional[float] = None
        self._problem = ''
        self._start = MindStart(self.parameters, self._on_ready)
        self._publisher = self.create_publisher(
            Plan, topics.PLAN.name, profile_of(topics.PLAN.profile))
        self.create_subscription(Feedback, topics.FEEDBACK.name, self._on_feedback,
                                 profile_of(topics.FEEDBACK.profile))
        self.create_subscription(ResourceStatus, topics.RESOURCES.name, self._on_resources,
                                 profile_of(topics.RESOURCES.profile))
        self.create_service(SetRequirements, topics.SET_REQUIREMENTS.name, self._set)
        self.create_service(ExplainPlan, topics.EXPLAIN_PLAN.name, self._explain)
        robot_id = self.parameters.robot_id or self.get_namespace().strip('/')
        self.diagnostics = Diagnostics(self, hardware_id=robot_id or 'robot')
        self.diagnostics.add('plan', self._health)
        self._fleet: Optional[FleetEar] = None
        if self.parameters.offload:
            self._fleet = FleetEar(self, self.parameters.fleet_advert_topic, robot_id)
            self.diagnostics.add('fleet', self._fleet_health)
        self._jump = on_starting_over(self, self._start_over)

    def start(self) -> None:
        """Start measuring; the node answers meanwhile."""
        self._start.start()

    def close(self) -> None:
        """End a measurement that still runs."""
        self._start.stop()

    # Callbacks

    def _on_ready(self, mind: Mind) -> None:
        """Take the front; called in the starting thread, one assignment."""
        self.get_logger().info(f'{len(mind.front)} candidates to choose from here, '
                               f'{len(mind.remote)} ways to be helped')
        self._mind = mind

    def _on_feedback(self, message: Feedback) -> None:
        window = feedback_from_msg(message)
        self._windows.append(without_costs(window) if self.parameters.freeze_costs else window)
        if self._fleet is not None and self._fleet.take(window, self._now_s()):
            self._decide()

    def _on_resources(self, message: ResourceStatus) -> None:
        snapshot = snapshot_from_msg(message)
        if self._is_old(snapshot):
            return
        if self._fleet is not None:
            self._fleet.know_self(boot_id=snapshot.boot_id)
        self._snapshot = only_told(snapshot) if self.parameters.freeze_costs else snapshot
        self._heard_s = time.monotonic()
        self._decide()

    def _start_over(self, now_s: float) -> None:
        """Decide as after a start when the clock was set back; what costs are learned stay."""
        self.state = replace(self.state, current_id='', current_since_s=0.0, condition='',
                             challenger_id='', challenger_steps=0, left_out=())
        self._windows.clear()
        if self._fleet is not None:
            self._fleet.forget_links()
        self._old_until_s = self._snapshot.stamp_s if self._snapshot is not None else None
        self._snapshot = None

    def _is_old(self, snapshot: ResourceSnapshot) -> bool:
        """Whether a look was taken before the clock was set back, and came only now."""
        if self._old_until_s is None:
            return False
        now_s = self._now_s()
        if snapshot.stamp_s >= self._old_until_s and snapshot.stamp_s > now_s + OLD_AHEAD_S:
            return True
        self._old_until_s = None
        return False

    def _decide(self) -> None:
        """Take one step of the loop and publish what came out."""
        if self._mind is None or self._snapshot is None:
            return
        mind = self._mind
        windows = tuple(self._windows)
        self._windows.clear()
        now_s = self._now_s()
        try:
            self.state, self.plan = step(
                self._not_ahead(now_s), self._snapshot, windows, wishes_of(self.parameters),
                mind.front, now_s, self._peers(mind), mind.remote)
        except CrowdHMTError as error:
            self._problem = f'{error}; the plan before stays'
            self.get_logger().error(self._problem, throttle_duration_sec=5.0)
            return
        self._problem = ''
        self._tell_change()
        self._publisher.publish(plan_to_msg(self.plan, self._identity()))

    def _now_s(self) -> float:
        return float(self.get_clock().now().nanoseconds) / 1e9

    def _peers(self, mind: Mind) -> Tuple[PeerStatus, ...]:
        """Return who could help now; a plan published with them can be derived again."""
        if self._fleet is None:
            return ()
        self._fleet.know_self(bundle_sha256=mind.identity.bundle_sha256)
        return self._fleet.peers()

    def _identity(self) -> BundleIdentity:
        return replace(self._mind.identity, config_sha256=config_sha256(self.parameters))

    def _not_ahead(self, now_s: float) -> LoopState:
        """Return the state, its times moved where the clock was set back."""
        if self.state.current_since_s <= now_s:
            return self.state
        return replace(self.state, current_since_s=now_s)

    def _tell_change(self) -> None:
        plan = self.plan
        if plan.chosen.candidate.candidate_id != plan.state.current_id:
            self.get_logger().info(f'plan {plan.plan_seq}: {plan.reason}')

    # Services

    def _set(self, request: SetRequirements.Request,
             response: SetRequirements.Response) -> SetRequirements.Response:
        response.message = self._take_wishes(requirements_from_msg(request.requirements))
        response.accepted = not response.message
        if response.accepted:
            response.message = self._unmet()
        response.in_force = requirements_to_msg(wishes_of(self.parameters))
        return response

    def _take_wishes(self, wanted: Requirements) -> str:
        """Bring requirements into force through the parameters; returns why not."""
        problems = all_problems(wanted.problems())
        if problems:
            return problems
        result = self.set_parameters_atomically([
            Parameter(name, Parameter.Type.DOUBLE, number(getattr(wanted, name)))
            for name in WISHES])
        return '' if result.successful else str(result.reason)

    def _unmet(self) -> str:
        """Decide again under the new wishes and say what cannot be met at present."""
        self._decide()
        if self._mind is None or self.plan is None:
            return 'accepted; no plan yet: ' + self._start.progress
        if not self.plan.violated:
            return ''
        return (f'accepted, but cannot be met at present: {describe(self.plan.violated)}; '
                'the least violation is in force')

    def _explain(self, request: ExplainPlan.Request,
                 response: ExplainPlan.Response) -> ExplainPlan.Response:
        if self.plan is None or self._mind is None:
            response.text = 'no plan yet: ' + (self._start.failure or self._start.progress)
            return response
        told = explain(self.plan, self._mind.front, self._mind.remote)
        response.available = True
        response.plan = plan_to_msg(self.plan, self._identity())
        response.candidates = [estimate_to_msg(estimate) for estimate in told.candidates]
        response.scores = [NAN if score is None else score for score in told.scores]
        response.objections = list(told.objections)
        response.text = told.text
        return response

    # Words

    def _accept(self, wanted: AdaptationPlannerParameters) -> Optional[str]:
        problems = wishes_of(wanted).problems()
        if problems:
            return all_problems(problems)
        self.parameters = wanted
        return None

    def _fleet_health(self) -> Health:
        told = self._fleet.health()
        if told is not None or self.plan is None:
            return told or Health()
        return Health(message=f'{len(self.plan.peers)} peers', values={
            peer.robot_id: objection(peer, self.plan.stamp_s, in_use=uses(
                self.state.current_id, peer.robot_id)) or 'may be asked'
            for peer in self.plan.peers})

    def _health(self) -> Health:
        failure = self._start.failure or self._problem
        if failure:
            return Health(ERROR, failure)
        if self._mind is None:
            return Health(WARN, self._start.progress)
        silent_s = time.monotonic() - self._heard_s
        if silent_s > STALE_S:
            topic = self.resolve_topic_name(topics.RESOURCES.name)
            return Health(STALE, f'nothing came on {topic} for {silent_s:.0f} s')
        if self.plan is None:
            return Health(WARN, 'no plan yet')
        values = {'plan_seq': self.plan.plan_seq, 'reason': self.plan.reason,
                  'candidate': self.plan.chosen.candidate.candidate_id,
                  'engines': self._start.engines}
        if self.plan.violated:
            return Health(WARN, f'cannot be met: {describe(self.plan.violated)}', values)
        return Health(values=values)


def main() -> int:
    """Run this node alone."""
    return main_of('adaptation_planner')
