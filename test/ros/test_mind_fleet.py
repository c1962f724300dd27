# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The planner in a fleet: adverts and links in, plans with peers out."""
import dataclasses
import os
import time

import pytest

pytest.importorskip('rclpy')
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from crowdhmt_ros.loop import rederive
from crowdhmt_ros.msg import Advert, Feedback, Plan, Requirements
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.adaptation_planner import AdaptationPlannerNode
from crowdhmt_ros.nodes.convert import NAN, feedback_to_msg, plan_from_msg
from crowdhmt_ros.nodes.convert_fleet import advert_to_msg
from crowdhmt_ros.nodes.resource_monitor import ResourceMonitorNode
from crowdhmt_ros.offload.channel import PROTOCOL_VERSION
from crowdhmt_ros.srv import ExplainPlan, SetRequirements
from crowdhmt_ros.types import Advert as Told
from crowdhmt_ros.types import (
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    PeerStatus,
    RemoteOption,
    Variant,
)
from crowdhmt_ros.types import Feedback as Window

LINK = PeerStatus('drone', 'd1', link_bandwidth_bytes_per_s=20e6, link_round_trip_s=0.002)


def option(front):
    """Return a way to be helped that is better than anything at home and fits anywhere."""
    best = {c: 1.0 for e in front for c in e.accuracy}
    nothing = Estimate(0.0, 0.0)
    return RemoteOption(
        'helped', Variant(((),), 0), EngineOptions(), '', 'helped.whole', 'whole', 'jpeg', best,
        nothing, nothing, 0, 0, nothing, 6000.0, 28.0, 0.001, 10**7, EnergyCoefficients(1e-12))


class Fleet:
    """A planner with one way to be helped, and hands to play a peer and the engine."""

    def __init__(self, stage, **parameters):
        self.stage = stage
        self.node = stage.add(AdaptationPlannerNode, tables='counted', **parameters)
        self.monitor = stage.add(ResourceMonitorNode, rate_hz=5.0)
        self.plans = stage.collect(topics.PLAN, Plan)
        self.health = stage.collect(topics.DIAGNOSTICS, DiagnosticArray)
        self.adverts = stage.publisher(topics.FLEET_ADVERT, Advert)
        self.feedbacks = stage.publisher(topics.FEEDBACK, Feedback)
        stage.until(lambda: self.plans and self.feedbacks.get_subscription_count())
        mind = self.node._mind
        self.node._mind = mind._replace(remote=(option(mind.front),))

    def advertise(self, robot_id='drone', boot_id='d1', **changes):
        told = dataclasses.replace(
            Told(robot_id, boot_id, PROTOCOL_VERSION, os.environ.get('ROS_DISTRO', ''),
                 self.node._mind.identity.bundle_sha256, 1e10, 2), **changes)
        self.adverts.publish(advert_to_msg(told, Time()))

    def links(self, *peers):
        self.feedbacks.publish(feedback_to_msg(
            Window(0, '', time.time(), 0.0, condition='photos', peers=peers)))

    def until(self, predicate, **changes):
        """Advertise on until something has happened."""
        def done():
            self.advertise(**changes)
            return predicate()
        self.stage.until(done)

    def need_help(self):
        """Ask for more accuracy than anything at home has."""
        best = max(max(e.accuracy.values()) for e in self.node._mind.front)
        wish = dict.fromkeys(Requirements.get_fields_and_field_types(), NAN)
        answer = self.stage.call(SetRequirements, 'set_requirements', SetRequirements.Request(
            requirements=Requirements(**{**wish, 'accuracy_floor': (1.0 + best) / 2})))
        assert answer.accepted

    def told(self, name):
        return [s for array in self.health for s in array.status if s.name.endswith(name)]

    @property
    def devices(self):
        return list(self.plans[-1].choice.segment_devices)


@pytest.fixture
def fleet(stage):
    return Fleet(stage)


def test_a_peer_with_a_link_is_asked_in_need_and_left_at_once_when_the_link_is_lost(fleet):
    fleet.until(lambda: fleet.plans[-1].peers)
    assert fleet.plans[-1].peers[0].robot_id == 'drone'
    fleet.links(LINK)
    fleet.need_help()
    fleet.until(lambda: fleet.devices == ['drone'])
    plan = plan_from_msg(fleet.plans[-1])
    assert plan.chosen.fallback_id
    assert rederive(plan, fleet.node._mind.front,
                    fleet.node._mind.remote) == plan.chosen.candidate.candidate_id
    answer = fleet.stage.call(ExplainPlan, 'explain_plan', ExplainPlan.Request())
    assert 'helped.whole@drone:jpeg' in answer.text
    for timer in fleet.monitor.timers:
        timer.cancel()
    began_s = time.monotonic()
    fleet.links(dataclasses.replace(LINK, retry_at_s=time.time() + 60.0, failures=2))
    fleet.stage.until(lambda: fleet.devices == ['local'])
    assert time.monotonic() - began_s < 1.0
    assert 'drone: it did not answer 2 times in a row' in fleet.plans[-1].reason


def test_a_peer_that_falls_silent_is_left(fleet):
    fleet.until(lambda: fleet.plans[-1].peers)
    fleet.links(LINK)
    fleet.need_help()
    fleet.until(lambda: fleet.devices == ['drone'])
    began_s = time.monotonic()
    fleet.stage.until(lambda: fleet.devices == ['local'])
    assert time.monotonic() - began_s < 4.0
    assert not fleet.plans[-1].peers or fleet.plans[-1].peers[0].link_round_trip_s != 0.002


def test_a_second_robot_of_this_name_is_an_error_and_nobody_is_asked(fleet):
    fleet.until(lambda: fleet.plans[-1].peers)
    began_s = time.monotonic()
    fleet.until(lambda: any(s.level == DiagnosticStatus.ERROR for s in fleet.told(': fleet')),
                robot_id='robot', boot_id='another')
    assert time.monotonic() - began_s < 3.0
    assert "another robot is called 'robot' too" in fleet.told(': fleet')[-1].message
    fleet.stage.until(lambda: not fleet.plans[-1].peers)


def test_its_own_advert_is_no_clash(fleet):
    boot_id = fleet.plans[-1].boot_id
    for _ in range(10):
        fleet.advertise('robot', boot_id)
        fleet.stage.spin(0.05)
    fleet.until(lambda: fleet.plans[-1].peers)
    assert [p.robot_id for p in fleet.plans[-1].peers] == ['drone']
    assert not any(s.level == DiagnosticStatus.ERROR for s in fleet.told(': fleet'))


def test_an_incompatible_robot_is_a_warning_with_its_name(fleet):
    fleet.until(lambda: any(s.level == DiagnosticStatus.WARN for s in fleet.told(': fleet')),
                bundle_sha256='0123')
    assert 'drone is not asked: it has bundle 0123' in fleet.told(': fleet')[-1].message


def test_without_offload_nobody_listens(stage):
    fleet = Fleet(stage, offload=False)
    assert fleet.adverts.get_subscription_count() == 0
    assert not fleet.plans[-1].peers
