# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crowdhmt_ros import types

pytest.importorskip('rclpy')
pytestmark = pytest.mark.ros
from crowdhmt_ros.nodes import convert, convert_fleet  # noqa: E402

finite = st.floats(0.0, 1e12)
maybe = st.none() | finite
sources = st.sampled_from(types.SOURCES)
stamps = st.integers(0, 2**31 * 10**9 - 10**9).map(lambda ns: ns / 1000000000)
names = st.text('abc/-0', min_size=1, max_size=8)
readings = st.builds(types.Reading, maybe, sources, finite)
constant = st.builds(lambda mean, source: types.Estimate(mean, mean, source), finite, sources)
spread = st.builds(types.Estimate, finite, finite, sources)
operators = st.builds(
    types.OperatorChoice, names,
    st.dictionaries(names, st.integers(0, 9) | st.text('xy') | st.floats(0, 1),
                    max_size=2).map(lambda found: tuple(sorted(found.items()))))
variants = st.builds(types.Variant, st.lists(st.lists(operators, max_size=2).map(tuple),
                                             max_size=3).map(tuple),
                     st.integers(0, 3), st.sampled_from(['fp32', 'int8']))
placements = st.builds(types.Placement, st.lists(
    st.builds(types.SegmentPlacement, names, names, names, names), max_size=3).map(tuple))
engines = st.builds(types.EngineOptions, names, st.integers(1, 64), st.booleans(), names, names,
                    st.sampled_from(['fast', 'lean']))
candidates = st.builds(types.Candidate, names, variants, placements, engines)
estimates = st.builds(types.CostEstimate, candidates, constant, spread, constant, constant,
                      names)
counts = st.integers(0, 2**32 - 1)
peers = st.builds(types.PeerStatus, names, names, maybe, counts, maybe, maybe, maybe, maybe, maybe,
                  counts, maybe)
adverts = st.builds(types.Advert, names, names, counts, names, names, maybe, counts, maybe, maybe,
                    st.lists(names, max_size=2).map(tuple), names, names)
snapshots = st.builds(types.ResourceSnapshot, stamps, names, names,
                      **dict.fromkeys(types.READING_FIELDS, readings))
requirements = st.builds(types.Requirements, maybe, maybe, maybe, maybe)
corrections = st.builds(types.CostCorrection, names, finite, finite, st.integers(0, 2**32 - 1))
states = st.builds(types.LoopState, st.integers(0, 2**63), names, finite,
                   st.lists(corrections, max_size=3).map(tuple), names, names,
                   st.integers(0, 99), maybe, st.floats(0, 1), names, st.lists(st.builds(
                       types.LeftOut, names, finite, counts), max_size=2).map(tuple))
violations = st.builds(types.Violation, names, finite, finite)
plans = st.builds(types.Plan, st.integers(0, 2**63), stamps, estimates, st.none() | estimates,
                  st.dictionaries(names, finite, max_size=3), st.floats(-9, 9),
                  st.lists(violations, max_size=3).map(tuple), names, requirements, snapshots,
                  states, st.lists(peers, max_size=2).map(tuple))
floats = st.lists(finite, max_size=4).map(tuple)
feedbacks = st.builds(
    types.Feedback, st.integers(0, 2**63), names, stamps, finite, floats, floats, floats, floats,
    st.lists(st.integers(0, 9), max_size=3).map(tuple), floats,
    st.lists(st.integers(0, 2**31 * 10**9 - 10**9), max_size=3).map(tuple), st.integers(0, 9),
    st.builds(types.Reading, maybe, sources), st.builds(types.Reading, maybe, sources), names,
    st.just(types.NO_READING) | st.builds(types.Reading, st.floats(0, 1)),
    st.lists(maybe, max_size=4).map(tuple), floats, floats, floats, floats, counts, counts, counts,
    st.lists(peers, max_size=2).map(tuple))
quick = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(st.integers(0, 2**31 * 10**9 - 10**9))
def test_a_stamp_comes_back_to_the_nanosecond(stamp_ns):
    assert convert.time_to_ns(convert.ns_to_time(stamp_ns)) == stamp_ns
    seconds = stamp_ns / 1000000000
    assert convert.time_to_seconds(convert.seconds_to_time(seconds)) == seconds


@quick
@given(plans)
def test_a_plan_comes_back_equal(plan):
    identity = types.BundleIdentity('a', 'b', 'c')
    message = convert.plan_to_msg(plan, identity)
    assert convert.plan_from_msg(message) == plan
    assert list(convert.plan_from_msg(message).weights) == list(plan.weights)
    assert convert.identity_from_msg(message) == identity


@quick
@given(plans)
def test_a_plan_survives_the_wire(plan):
    from rclpy.serialization import deserialize_message, serialize_message
    message = convert.plan_to_msg(plan, types.BundleIdentity())
    back = deserialize_message(serialize_message(message), type(message))
    assert convert.plan_from_msg(back) == plan


@quick
@given(feedbacks)
def test_feedback_comes_back_equal(feedback):
    message = convert.feedback_to_msg(feedback, answered_stamps_ns=(1, 2))
    assert convert.feedback_from_msg(message) == feedback
    assert convert.stamps_ns(message.answered_stamps) == (1, 2)


@quick
@given(adverts)
def test_an_advert_comes_back_equal(advert):
    message = convert_fleet.advert_to_msg(advert, convert.ns_to_time(5))
    assert convert_fleet.advert_from_msg(message) == advert
    assert message.header.stamp.nanosec == 5


def test_unknown_is_nan_on_the_wire_and_null_in_json():
    message = convert.snapshot_to_msg(types.ResourceSnapshot(1.5))
    assert math.isnan(message.battery_ratio)
    plain = convert.to_plain(message)
    assert plain['battery_ratio'] is None
    assert plain['header']['stamp'] == {'sec': 1, 'nanosec': 500000000}
    assert plain['sources'] == ['absent'] * len(types.READING_FIELDS)


def test_a_status_without_origins_counts_as_measured():
    message = convert.snapshot_to_msg(types.ResourceSnapshot(1.0))
    message.battery_ratio = 0.4
    message.sources = []
    snapshot = convert.snapshot_from_msg(message)
    assert snapshot.battery_ratio == types.Reading(0.4, types.MEASURED)
    assert snapshot.power_w == types.NO_READING


def test_a_plan_without_a_choice_is_refused():
    with pytest.raises(ValueError, match='plan 7 carries no choice'):
        convert.plan_from_msg(convert.Plan(plan_seq=7))
