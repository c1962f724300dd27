# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded bags through the robot's real processes."""
import os
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
from crowdhmt_ros.nodes.bag_file import open_bag
from test.ros.bags import write_campus_bag
from test.ros.playbacks import Playback, play_all, stamp_ns

PERIOD_S = 1.0
LATE_S = 0.25
"""Of recorded time, by which a timer may be late: 50 ms of a machine's time at rate 5."""
RESCALED = {'battery_rescale': '0.9:0.15'}
STREETS = ('mcap', 'sqlite3')
CAMPUS = 'campus'
RECORDINGS = [*(pytest.param(name, marks=pytest.mark.data) for name in STREETS), CAMPUS]
WAYS = {
    'lockstep': {'pace': 'lockstep'},
    'falling': {'pace': 'lockstep', **RESCALED},
    'once': {'rate': 1.0, **RESCALED},
    'twice': {'rate': 5.0, 'loops': 2, **RESCALED},
}
CAMPUS_AS_WELL = ('falling',)
"""Of a campus whose light and raw images no street has; all ways where no street is at hand."""
SLOW, FAST = ('once', 'lockstep', 'falling'), ('twice',)
"""Played fast, a bag shares the machine only with others that are just as fast."""


@pytest.fixture(scope='module')
def campus_bag(tmp_path_factory):
    return write_campus_bag(tmp_path_factory.mktemp('bags') / 'campus', seconds=8.0)


@pytest.fixture(scope='module')
def robots(tmp_path_factory, campus_bag, ros_domain):
    """Play each recording in each way; gives the futures of what the robots said, by name."""
    folder = os.environ.get('CROWDHMT_DATA', '')
    bags = {name: Path(folder, 'bags', f'street_battery_{name}') for name in STREETS}
    bags = {n: b for n, b in bags.items() if folder and b.exists()}
    bags[CAMPUS] = campus_bag
    out = tmp_path_factory.mktemp('played')

    def all_of(ways, at_once):
        return play_all([Playback(f'{name}-{way}', bag, WAYS[way]) for way in ways
                         for name, bag in bags.items() if way in played_of(name)],
                        out, at_once=at_once, draw_domain=ros_domain)

    def played_of(name):
        return CAMPUS_AS_WELL if name == CAMPUS and len(bags) > 1 else WAYS

    return {**all_of(SLOW, at_once=4), **all_of(FAST, at_once=2)}


@pytest.fixture(params=RECORDINGS)
def played(robots, request):
    """Give what the robot said to a recording played in one way; skips where it is not there."""

    def said(way):
        if f'{request.param}-{way}' not in robots:
            pytest.skip('the streets are played this way, the campus stands in for them'
                        if request.param == CAMPUS else
                        f'the bag street_battery_{request.param} is not there')
        return robots[f'{request.param}-{way}'].result()

    return said


def assert_battery_as_recorded(played):
    told = [(stamp_ns(p['snapshot']), p['snapshot']['battery_ratio']) for p in played.plans]
    assert told == [(at_ns, played.last_recorded(at_ns)) for at_ns, _ in told]


def assert_decided_every_second(played, loops):
    """A plan for each second of each loop; one may be cut off at either end."""
    seconds = (played.end_ns - played.start_ns) / 1e9
    assert [len(loop) >= int(seconds) - 1 for loop in played.loops] == [True] * loops


@pytest.mark.parametrize('way', ['lockstep', 'falling'])
def test_in_lockstep_every_frame_is_answered_once(played, way):
    robot = played(way)
    assert '0 of them not answered in time' in robot.said
    assert sorted(robot.answered) == robot.images


@pytest.mark.parametrize(('way', 'loops'), [('lockstep', 1), ('falling', 1), ('once', 1),
                                            ('twice', 2)])
def test_each_plan_knows_the_battery_that_was_recorded_last(played, way, loops):
    robot = played(way)
    assert_decided_every_second(robot, loops)
    assert_battery_as_recorded(robot)


@pytest.mark.parametrize('way', ['falling', 'once', 'twice'])
def test_a_battery_that_falls_brings_a_cheaper_plan(played, way):
    for plans in played(way).loops:
        weights = [dict(zip(p['criteria'], p['weights']))['energy'] for p in plans]
        assert weights[0] < 0.4
        assert max(weights) >= 0.8
        assert plans[-1]['choice']['energy_j'] < plans[0]['choice']['energy_j']


@pytest.mark.parametrize('way', ['falling', 'twice'])
def test_neither_rate_nor_pace_nor_repetition_changes_a_plan(played, way):
    once, other = played('once'), played(way)
    (wanted,) = (changes(once, plans) for plans in once.loops)
    assert len(wanted) >= 2
    for plans in other.loops:
        found = changes(other, plans)
        assert [choice for _, choice in found] == [choice for _, choice in wanted]
        for (found_s, _), (wanted_s, _) in zip(found[1:], wanted[1:]):
            assert abs(found_s - wanted_s) <= PERIOD_S + LATE_S


def changes(played, plans):
    """Return (recorded time, choice) of the first plan and of each that chose another."""
    chosen = [(played.time_s(p), p['choice']['candidate_id']) for p in plans]
    return [now for before, now in zip([(0.0, ''), *chosen], chosen) if now[1] != before[1]]


def test_a_damaged_message_ends_the_player_with_one_line_and_code_2(processes, tmp_path):
    bag = write_campus_bag(tmp_path / 'damaged', seconds=1.0, damaged_after=4)
    log = tmp_path / 'sent.csv'
    processes.start('bag_player', {'bag': str(bag), 'wait_s': 0.0, 'wait_for_plan': False,
                                   'exit_at_end': False, 'source_log': str(log)})
    assert processes.end('bag_player', 30.0) == 2
    said = processes.log('bag_player')
    assert 'the recording is damaged: a message of 5 bytes' in said
    assert '4 frames were sent before' in said
    assert 'Traceback' not in said
    with open_bag(str(bag)) as opened:
        times = [m.time_ns for m in opened.messages(['/front/image'])]
    assert log.read_text().splitlines()[1:] == [f'{time_ns},,,' for time_ns in times[:4]]


def test_a_bag_cut_short_ends_the_player_with_one_line_and_code_2(processes, tmp_path, campus_bag):
    cut = tmp_path / 'cut.mcap'
    whole = next(campus_bag.glob('*.mcap')).read_bytes()
    cut.write_bytes(whole[:len(whole) // 2])
    processes.start('bag_player', {'bag': str(cut), 'wait_s': 0.0, 'wait_for_plan': False})
    assert processes.end('bag_player', 30.0) == 2
    said = processes.log('bag_player')
    assert 'cut.mcap cannot be read' in said
    assert 'Traceback' not in said


def test_a_topic_that_the_bag_lacks_is_one_line_with_what_it_holds(processes, campus_bag):
    processes.start('bag_player', {'bag': str(campus_bag), 'image_topic': '/rear/image'})
    assert processes.end('bag_player') == 2
    said = processes.log('bag_player').strip()
    assert len(said.splitlines()) == 1
    for text in ("image_topic is '/rear/image'", '/front/image [sensor_msgs/msg/Image]',
                 '/wheels [my_robot_msgs/msg/Wheels]'):
        assert text in said


def test_a_type_that_is_not_installed_is_named_only_when_its_topic_is_asked_for(
        processes, campus_bag):
    processes.start('bag_player', {'bag': str(campus_bag), 'other_topics': ['/wheels']})
    assert processes.end('bag_player') == 2
    assert 'my_robot_msgs/msg/Wheels, which is not installed here' in processes.log('bag_player')


def test_a_frame_that_nobody_answers_is_said_and_the_bag_goes_on(stage, campus_bag):
    from std_msgs.msg import Float32

    from crowdhmt_ros.nodes.bag_player import BagPlayerNode
    loads = []
    stage.peer.create_subscription(Float32, 'load', loads.append, 10)
    node = stage.add(BagPlayerNode, bag=str(campus_bag), pace='lockstep', wait_s=0.3,
                     answer_timeout_s=0.1, duration_s=0.35, other_topics=['/load'],
                     wait_for_plan=False)
    stage.until(lambda: node.finished)
    assert (node.sent, node.unanswered) == (4, 4)
    assert [message.data for message in loads] == [0.25]
