# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json
import math
from dataclasses import replace

import pytest

from crowdhmt_ros.cli import main as cli
from crowdhmt_ros.cli.redecide import (
    as_message,
    decide_again,
    parse_number,
    parse_world,
    rederive_all,
)
from crowdhmt_ros.cli.replay import outcome_lines
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.loop import step
from crowdhmt_ros.types import (
    HERE,
    Candidate,
    EngineOptions,
    Estimate,
    FrontEntry,
    LoopState,
    PeerStatus,
    Placement,
    Reading,
    RemoteOption,
    Requirements,
    ResourceSnapshot,
    SegmentPlacement,
    Variant,
)


def entry(name, accuracy, energy_j, memory_bytes):
    candidate = Candidate(name, Variant(((),), 0), Placement((
        SegmentPlacement('whole', name, HERE),)), EngineOptions())
    return FrontEntry(candidate, {'photos': accuracy}, Estimate(energy_j, energy_j),
                      Estimate(memory_bytes, memory_bytes), Estimate(energy_j, energy_j), 10 ** 6)


FRONT = (entry('rich', 0.95, 0.010, 40e6), entry('lean', 0.90, 0.001, 8e6))


@pytest.fixture
def plans():
    state, made = LoopState(), []
    for second in range(6):
        snapshot = ResourceSnapshot(float(second), battery_ratio=Reading(0.95),
                                    memory_allotted_bytes=Reading(60e6))
        state, plan = step(state, snapshot, (), Requirements(latency_budget_s=0.05), FRONT,
                           float(second))
        made.append(plan)
    return made


def test_recorded_plans_derive_themselves(plans):
    assert {p.chosen.candidate.variant_id for p in plans} == {'rich'}
    assert not any(o.differs for o in rederive_all(plans, FRONT))


def test_the_same_world_decides_the_same(plans):
    assert not any(o.differs for o in decide_again(plans, FRONT, {}))


def test_less_memory_chooses_the_lean_variant_and_says_so(plans):
    outcomes = decide_again(plans, FRONT, parse_world(['memory=20MB']))
    assert all(o.differs for o in outcomes)
    assert outcome_lines(outcomes)[-1] == '6 of 6 plans differ'


HELP = RemoteOption(
    'rich', Variant(((),), 0), EngineOptions(), '', 'rich.whole', 'whole', 'jpeg',
    {'photos': 0.95}, Estimate(0.0, 0.0), Estimate(0.0, 0.0), 0, 0, Estimate(0.0, 0.0), 6000.0,
    28.0, 0.001, 10 ** 7)
PEER = PeerStatus('drone', 'd1', 0.1, 1, 1e10, None, None, 1e7, 0.002)


@pytest.fixture
def plans_with_a_peer():
    """Return six plans: the peer is there from the second to the fourth, the floor is high."""
    state, made = LoopState(condition='photos'), []
    for second in range(6):
        snapshot = ResourceSnapshot(float(second), memory_allotted_bytes=Reading(10e6))
        wish = Requirements(latency_budget_s=0.05, accuracy_floor=0.93)
        state, plan = step(state, snapshot, (), wish, FRONT, float(second),
                           (PEER,) if 1 <= second <= 3 else (), (HELP,))
        made.append(plan)
    return made


def test_plans_with_a_peer_derive_themselves(plans_with_a_peer):
    labels = [p.chosen.candidate.placement.label for p in plans_with_a_peer]
    assert labels == ['local', 'drone', 'drone', 'drone', 'local', 'local']
    assert not any(o.differs for o in rederive_all(plans_with_a_peer, FRONT, (HELP,)))
    assert not any(o.differs for o in decide_again(plans_with_a_peer, FRONT, {}, remote=(HELP,)))


def test_in_another_world_peers_come_and_go_as_recorded(plans_with_a_peer):
    outcomes = decide_again(plans_with_a_peer, FRONT, parse_world(['memory=60MB']),
                            remote=(HELP,))
    assert all('@' not in o.candidate_id for o in outcomes)
    outcomes = decide_again(plans_with_a_peer, FRONT, parse_world(['memory=9MB']), remote=(HELP,))
    assert ['@drone' in o.candidate_id for o in outcomes] == [
        False, True, True, True, False, False]


def test_a_changed_plan_is_noticed(plans):
    forged = replace(plans[2], chosen=replace(plans[2].chosen, candidate=FRONT[1].candidate))
    assert [o.differs for o in rederive_all([forged], FRONT)] == [True]


@pytest.mark.parametrize(('text', 'value'), [
    ('0.2', 0.2), ('20%', 0.2), ('24MB', 24e6), ('30ms', 0.03), ('2s', 2.0)])
def test_numbers_may_carry_units(text, value):
    assert parse_number(text) == pytest.approx(value)


@pytest.mark.parametrize('text', ['battery', 'weather=1', 'battery=half'])
def test_what_is_not_understood_is_refused_with_the_known_names(text):
    with pytest.raises(ConfigError, match='write '):
        parse_world([text])


def test_null_in_a_recording_is_unknown():
    message = as_message(json.loads('{"a": [1, null], "b": {"c": "x"}}'))
    assert math.isnan(message.a[1])
    assert message.b.c == 'x'


def test_a_missing_recording_is_named(capsys, tmp_path):
    assert cli.main(['replay', str(tmp_path / 'none')]) == 2
    assert 'there is no recording' in capsys.readouterr().err


def test_a_run_without_plans_is_named(capsys, tmp_path):
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    (tmp_path / 'events.jsonl').write_text('')
    assert cli.main(['replay', str(tmp_path)]) == 2
    assert 'holds no plans' in capsys.readouterr().err
