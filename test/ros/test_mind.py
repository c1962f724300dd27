# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import math
import time

import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import BatteryState
from std_msgs.msg import UInt64

from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.loop import rederive
from crowdhmt_ros.msg import Feedback, Plan, Requirements, ResourceStatus
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.adaptation_planner import AdaptationPlannerNode
from crowdhmt_ros.nodes.convert import plan_from_msg
from crowdhmt_ros.nodes.resource_monitor import ResourceMonitorNode
from crowdhmt_ros.nodes.scalars import NAN, seconds_to_time
from crowdhmt_ros.srv import ExplainPlan, SetRequirements


def battery(ratio):
    nothing = dict.fromkeys(('voltage', 'current', 'charge', 'capacity', 'design_capacity',
                             'temperature'), NAN)
    return BatteryState(percentage=ratio, present=True, **nothing)


@pytest.fixture
def monitor(stage):
    stage.monitor = stage.add(ResourceMonitorNode)
    stage.batteries = stage.publisher(topics.BATTERY_STATE, BatteryState)
    stage.allotments = stage.publisher(topics.MEMORY_ALLOTMENT, UInt64)
    stage.resources = stage.collect(topics.RESOURCES, ResourceStatus)
    stage.until(lambda: stage.batteries.get_subscription_count() and stage.resources)
    return stage


@pytest.fixture
def planner(stage):
    stage.planner = stage.add(AdaptationPlannerNode, tables='counted')
    stage.monitor = stage.add(ResourceMonitorNode, rate_hz=5.0)
    stage.plans = stage.collect(topics.PLAN, Plan)
    stage.until(lambda: stage.planner.plan is not None)
    return stage


def ask(stage, **wishes):
    wanted = dict.fromkeys(Requirements.get_fields_and_field_types(), NAN)
    return stage.call(SetRequirements, 'set_requirements', SetRequirements.Request(
        requirements=Requirements(**{**wanted, **wishes})))


def test_resources_come_once_a_second_with_origin_and_age(monitor):
    monitor.until(lambda: len(monitor.resources) >= 3)
    message = monitor.resources[-1]
    assert message.robot_id == 'robot'
    assert message.boot_id
    assert message.memory_total_bytes > message.memory_available_bytes > 0.0
    assert math.isnan(message.battery_ratio)
    assert message.sources[0] == 'absent'
    assert len(message.sources) == len(message.ages_s)


def test_a_sharp_change_of_the_allotted_memory_does_not_wait_for_the_second(monitor):
    monitor.allotments.publish(UInt64(data=1000000))
    monitor.until(lambda: monitor.resources[-1].memory_allotted_bytes == 1000000.0)
    monitor.spin(0.25)
    began_s = time.monotonic()
    monitor.allotments.publish(UInt64(data=500000))
    monitor.until(lambda: monitor.resources[-1].memory_allotted_bytes == 500000.0)
    assert time.monotonic() - began_s < 0.9


def test_memory_allotted_as_nothing_is_nothing(monitor):
    monitor.allotments.publish(UInt64(data=0))
    monitor.until(lambda: monitor.resources[-1].memory_allotted_bytes == 0.0)


def test_the_battery_timeout_can_be_changed(monitor):
    monitor.batteries.publish(battery(0.5))
    monitor.until(lambda: monitor.resources[-1].battery_ratio == 0.5)
    node = monitor.monitor
    assert node.set_parameters([Parameter('battery_timeout_s', value=0.5)])[0].successful
    monitor.until(lambda: math.isnan(monitor.resources[-1].battery_ratio), 5.0)


def test_a_battery_message_waits_for_the_played_clock_to_reach_its_time(stage):
    clock = stage.peer.create_publisher(Clock, '/clock', 10)
    node = stage.add(ResourceMonitorNode, use_sim_time=True, rate_hz=5.0)
    batteries = stage.publisher(topics.BATTERY_STATE, BatteryState)
    resources = stage.collect(topics.RESOURCES, ResourceStatus)
    stage.until(lambda: batteries.get_subscription_count() and clock.get_subscription_count())

    def tick(at_s):
        clock.publish(Clock(clock=seconds_to_time(at_s)))
        stage.until(lambda: node.get_clock().now().nanoseconds == round(at_s * 1e9))

    tick(100.0)
    for ratio, at_s in ((0.9, 100.1), (0.5, 100.3)):
        message = battery(ratio)
        message.header.stamp = seconds_to_time(at_s)
        batteries.publish(message)
    stage.until(lambda: len(node._ahead) == 2)
    tick(100.25)
    stage.until(lambda: resources and resources[-1].battery_ratio == pytest.approx(0.9))
    tick(100.5)
    stage.until(lambda: resources[-1].battery_ratio == 0.5)
    assert len(resources) >= 2


def test_changes_are_published_at_most_five_times_a_second(monitor):
    count = len(monitor.resources)
    for number in range(60):
        monitor.allotments.publish(UInt64(data=1000000 * (1 + number % 2)))
        monitor.spin(0.02)
    assert len(monitor.resources) - count <= 5 * 2 + 2


@pytest.mark.parametrize(('ratio', 'said'), [
    (math.nan, 'percentage is NaN'), (37.0, 'percentage is 37'), (4200.0, 'percentage is 4200')])
def test_a_bad_battery_is_one_warning_and_unknown(monitor, ratio, said):
    found = monitor.collect(topics.DIAGNOSTICS, DiagnosticArray)
    monitor.batteries.publish(battery(0.5))
    monitor.until(lambda: monitor.resources[-1].battery_ratio == 0.5)
    message = battery(ratio)
    message.voltage = 12.0
    monitor.batteries.publish(message)
    monitor.until(lambda: math.isnan(monitor.resources[-1].battery_ratio))
    monitor.until(lambda: any(said in s.message for a in found for s in a.status))
    said_of = [s for a in found for s in a.status if said in s.message]
    assert {s.level for s in said_of} == {b'\x01'}
    assert {s.name for s in said_of} == {'resource_monitor: battery'}
    assert '\n' not in said_of[0].message


def test_a_plan_re_derives_itself_from_its_message(planner):
    planner.until(lambda: len(planner.plans) >= 2)
    front = planner.planner._mind[0]
    for message in planner.plans:
        plan = plan_from_msg(message)
        assert rederive(plan, front) == message.choice.candidate_id
        assert plan.snapshot.boot_id == planner.monitor.boot_id
    assert planner.plans[-1].plan_seq == planner.plans[-2].plan_seq + 1
    assert len(planner.plans[-1].bundle_sha256) == 64
    assert len(planner.plans[-1].front_sha256) == 64


def test_a_latecomer_gets_the_plan_in_force(planner):
    seen = planner.collect(topics.PLAN, Plan, depth=1)
    planner.until(lambda: seen, 3.0)


def test_requirements_are_taken_at_once_and_change_the_digest_of_the_configuration(planner):
    planner.until(lambda: planner.plans)
    before = planner.plans[-1]
    answer = ask(planner, latency_budget_s=0.5, accuracy_floor=0.01)
    assert (answer.accepted, answer.message) == (True, '')
    assert answer.in_force.latency_budget_s == 0.5
    planner.until(lambda: planner.plans[-1].plan_seq > before.plan_seq)
    after = planner.plans[-1]
    assert after.requirements.accuracy_floor == 0.01
    assert after.config_sha256 != before.config_sha256
    assert planner.planner.get_parameter('latency_budget_s').value == 0.5


def test_what_cannot_be_met_is_accepted_planned_as_least_violation_and_said(planner):
    answer = ask(planner, latency_budget_s=1e-4)
    assert answer.accepted
    assert 'cannot be met at present: latency' in answer.message
    planner.until(lambda: planner.plans and planner.plans[-1].violated)
    plan = planner.plans[-1]
    assert list(plan.violated) == ['latency_s']
    assert plan.violated_predictions[0] > plan.violated_limits[0]


def test_an_allotment_of_nothing_is_planned_as_least_violation(planner):
    allotments = planner.publisher(topics.MEMORY_ALLOTMENT, UInt64)
    allotments.publish(UInt64(data=0))
    planner.until(lambda: planner.plans and planner.plans[-1].violated)
    plan = planner.plans[-1]
    assert plan.snapshot.memory_allotted_bytes == 0.0
    assert (list(plan.violated), list(plan.violated_limits)) == (['memory_bytes'], [0.0])


def test_requirements_out_of_range_are_refused_and_the_old_ones_stay(planner):
    assert ask(planner, accuracy_floor=0.02).accepted
    answer = ask(planner, accuracy_floor=1.5, latency_budget_s=-1.0)
    assert not answer.accepted
    assert 'accuracy_floor is 1.5' in answer.message
    assert 'latency_budget_s is -1.0' in answer.message
    assert answer.in_force.accuracy_floor == 0.02


def test_a_parameter_set_at_run_time_is_vetoed_with_its_range(planner):
    node = planner.planner
    result = node.set_parameters([Parameter('accuracy_floor', value=1.5)])[0]
    assert not result.successful
    assert 'accuracy_floor is 1.5, it must lie in 0..1 or .nan' in result.reason
    assert not node.set_parameters([Parameter('bundle', value='x')])[0].successful
    assert node.set_parameters([Parameter('accuracy_floor', value=0.5)])[0].successful


def test_the_plan_is_explained_candidate_by_candidate(planner):
    answer = planner.call(ExplainPlan, 'explain_plan', ExplainPlan.Request())
    assert answer.available
    count = len(planner.planner._mind[0])
    assert len(answer.candidates) == len(answer.scores) == len(answer.objections) == count
    assert answer.plan.choice.candidate_id in answer.text


def test_a_falling_battery_shifts_the_weights(planner):
    batteries = planner.publisher(topics.BATTERY_STATE, BatteryState)
    planner.until(lambda: batteries.get_subscription_count() > 0)
    for ratio, weight in ((0.9, 0.3), (0.2, 0.8)):
        batteries.publish(battery(ratio))
        planner.until(lambda r=ratio: planner.plans
                      and planner.plans[-1].snapshot.battery_ratio == pytest.approx(r))
        plan = planner.plans[-1]
        assert dict(zip(plan.criteria, plan.weights))['energy'] == pytest.approx(weight)


def test_a_candidate_that_the_camera_cannot_make_ready_is_left_out(planner):
    feedback = planner.publisher(topics.FEEDBACK, Feedback)
    planner.until(lambda: planner.plans and feedback.get_subscription_count())
    last = planner.plans[-1]
    failed = Feedback(plan_seq=last.plan_seq, candidate_id=last.choice.candidate_id, failed=True,
                      energy_j=NAN, memory_bytes=NAN, luminance_ratio=NAN)
    failed.header.stamp = planner.planner.get_clock().now().to_msg()
    feedback.publish(failed)
    planner.until(lambda: planner.plans[-1].choice.candidate_id != last.choice.candidate_id)
    message = planner.plans[-1]
    assert 'could not make it ready' in message.reason
    assert plan_from_msg(message).state.left_out[0].candidate_id == last.choice.candidate_id
    front = planner.planner._mind.front
    assert rederive(plan_from_msg(message), front) == message.choice.candidate_id


def test_frozen_costs_learn_nothing_and_look_at_no_load(stage):
    node = stage.add(AdaptationPlannerNode, tables='counted', freeze_costs=True)
    stage.add(ResourceMonitorNode, rate_hz=5.0)
    feedback = stage.publisher(topics.FEEDBACK, Feedback)
    plans = stage.collect(topics.PLAN, Plan)
    stage.until(lambda: plans and feedback.get_subscription_count())
    slow = Feedback(plan_seq=plans[-1].plan_seq, candidate_id=plans[-1].choice.candidate_id,
                    window_s=1.0, capture_to_result_s=[9.0] * 20, queue_s=[0.0] * 20,
                    preprocess_s=[0.0] * 20, infer_s=[9.0] * 20, exit_indices=[0] * 20,
                    confidences=[1.0] * 20, condition='photos', energy_j=NAN, memory_bytes=NAN,
                    luminance_ratio=NAN)
    feedback.publish(slow)
    stage.until(lambda: plans[-1].state.condition == 'photos')
    assert list(plans[-1].state.correction_ids) == []
    assert math.isnan(plans[-1].snapshot.cpu_load_ratio)
    assert node.plan is not None


def test_a_pinned_candidate_is_kept_whatever_is_asked(stage):
    stage.add(AdaptationPlannerNode, tables='counted', pinned_candidate='w100d2')
    stage.add(ResourceMonitorNode, rate_hz=5.0)
    plans = stage.collect(topics.PLAN, Plan)
    stage.until(lambda: plans)
    assert ask(stage, latency_budget_s=1e-4).accepted
    stage.until(lambda: plans[-1].violated)
    assert plans[-1].choice.variant_id == 'w100d2'


def test_a_bundle_that_is_not_there_is_an_error_and_the_node_answers(stage):
    node = stage.add(AdaptationPlannerNode, bundle='nowhere', tables='counted')
    stage.until(lambda: node._start.failure)
    answer = stage.call(ExplainPlan, 'explain_plan', ExplainPlan.Request())
    assert not answer.available
    assert 'nowhere' in answer.text


def test_a_parameter_out_of_range_stops_the_start_with_one_line(stage):
    with pytest.raises(ConfigError) as caught:
        stage.add(AdaptationPlannerNode, accuracy_floor=1.5, threads=[0], latency_budget_s=1)
    text = str(caught.value)
    assert 'accuracy_floor is 1.5, it must lie in 0..1 or .nan' in text
    assert 'threads is [0], it must be a list of 1..64' in text
    assert 'latency_budget_s is the integer 1, write it as 1.0' in text
