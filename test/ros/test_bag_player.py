# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded bags through the robot's real processes."""
import bisect
import json
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import BatteryState

from crowdhmt_ros.nodes.bag_file import BATTERY_TYPE, IMAGE_TYPES, open_bag, rescale_for
from test.ros.bags import write_campus_bag

DISCOVERY_S = 3.5
"""Processes announce themselves every 3 s: by then the recorder hears the engine."""
DECISIONS_S = 2.1
CARRIED_S = 5.0
STREET = ('street_battery_mcap', 'street_battery_sqlite3')


@pytest.fixture(scope='module')
def campus_bag(tmp_path_factory):
    return write_campus_bag(tmp_path_factory.mktemp('bags') / 'campus', seconds=8.0)


class Played:
    """What a robot said while a bag was played, beside what the bag holds."""

    def __init__(self, events, bag, rescale=''):
        rows = [json.loads(line) for line in events.read_text().splitlines()]
        self.answered = [stamp(r['message']['header']) for r in rows if r['topic'] == 'result']
        self.plans = [r['message'] for r in rows if r['topic'] == 'plan']
        with open_bag(str(bag)) as opened:
            image = opened.the_topic('', IMAGE_TYPES, parameter='image_topic')
            battery = opened.the_topic('', (BATTERY_TYPE,), parameter='battery_topic')
            self.start_ns = opened.start_ns
            self.images = [m.time_ns for m in opened.messages([image])]
            recorded = [(m.time_ns, deserialize_message(m.data, BatteryState).percentage)
                        for m in opened.messages([battery])]
        line = rescale_for(rescale, [r for _, r in recorded]) if rescale else float
        self.times = [t for t, _ in recorded]
        self.ratios = [float(np.float32(line(r))) for _, r in recorded]

    def last_recorded(self, time_ns):
        """Return the ratio recorded last at a time; the player tells the first one in advance."""
        return self.ratios[max(0, bisect.bisect_right(self.times, time_ns) - 1)]

    @property
    def during(self):
        """The plans made while the bag played, not those before its start."""
        return [p for p in self.plans if stamp(p['snapshot']['header']) >= self.start_ns]

    @property
    def loops(self):
        """For each time that the bag was played: (recorded time in s, choice) of its plans."""
        found = [[]]
        for plan in self.during:
            time_s = (stamp(plan['snapshot']['header']) - self.start_ns) / 1e9
            if found[-1] and time_s < found[-1][-1][0] - 1.0:
                found.append([])
            found[-1].append((time_s, plan['choice']['candidate_id']))
        return found


def stamp(header):
    return header['stamp']['sec'] * 10**9 + header['stamp']['nanosec']


def play(processes, folder, bag, *, name='run', mind=None, **player):
    """Play a bag through recorder, mind and engine; all on the recording's time."""
    events = Path(folder) / f'{name}.jsonl'
    sim = {'use_sim_time': True}
    processes.start('recorder', {**sim, 'out': str(events)})
    reliable = {'qos_overrides./robot/%s.subscription.reliability' % topic: 'reliable'
                for topic in ('image_raw', 'image_raw/compressed', 'battery_state')}
    processes.start('mind', {**sim, **reliable, 'tables': 'counted', 'freeze_costs': True,
                             'adaptation_planner:accuracy_floor': 0.05, **(mind or {})})
    processes.start('engine', {**sim, **reliable})
    processes.wait_for('engine', 'is ready')
    time.sleep(DISCOVERY_S)
    processes.start('bag_player', {'bag': str(bag), 'clock': True, 'wait_s': 30.0, **player})
    code = processes.end('bag_player', 120.0, alive=('engine', 'mind', 'recorder'))
    said = processes.log('bag_player')
    for process in ('engine', 'mind', 'recorder'):
        assert processes.stop(process)[0] == 0, processes.log(process)
        assert 'Traceback' not in processes.log(process)
    assert code == 0, said
    return Played(events, bag, player.get('battery_rescale', '')), said


def assert_every_frame_answered(played, said):
    assert '0 of them not answered in time' in said
    assert sorted(set(played.answered)) == sorted(played.images)
    assert len(set(played.answered)) == len(played.answered)


def assert_battery_as_recorded(played):
    assert len(played.during) >= 5
    told = [(stamp(p['snapshot']['header']), p['snapshot']['battery_ratio'])
            for p in played.during]
    assert told == [(at_ns, played.last_recorded(at_ns)) for at_ns, _ in told]


@pytest.mark.data
def test_every_frame_of_a_street_is_answered_and_each_plan_knows_the_battery(
        processes, tmp_path, data_dir):
    played, said = play(processes, tmp_path, data_dir / 'bags' / STREET[0], pace='lockstep')
    assert_every_frame_answered(played, said)
    assert_battery_as_recorded(played)


@pytest.mark.data
def test_a_battery_that_falls_on_the_street_brings_a_cheaper_plan_and_loses_no_frame(
        processes, tmp_path, data_dir):
    played, said = play(processes, tmp_path, data_dir / 'bags' / STREET[1], pace='lockstep',
                        battery_rescale='0.9:0.15')
    assert_every_frame_answered(played, said)
    assert_battery_as_recorded(played)
    assert_cheaper(played)


@pytest.mark.data
def test_the_rate_of_the_street_and_its_repetition_change_no_plan(processes, tmp_path, data_dir):
    bag = data_dir / 'bags' / STREET[1]
    wanted = {'battery_rescale': '0.9:0.15', 'duration_s': 10.0}
    once, _ = play(processes, tmp_path, bag, name='once', rate=1.0, **wanted)
    twice, _ = play(processes, tmp_path, bag, name='twice', rate=5.0, loops=2, **wanted)
    assert_same_plans(once, twice)
    assert_cheaper(once)


def test_every_frame_of_the_campus_is_answered_and_each_plan_knows_the_battery(
        processes, tmp_path, campus_bag):
    played, said = play(processes, tmp_path, campus_bag, pace='lockstep')
    assert_every_frame_answered(played, said)
    assert_battery_as_recorded(played)


def test_the_rate_of_the_campus_and_its_repetition_change_no_plan(
        processes, tmp_path, campus_bag):
    wanted = {'battery_rescale': '0.9:0.15'}
    once, _ = play(processes, tmp_path, campus_bag, name='once', rate=1.0, **wanted)
    twice, _ = play(processes, tmp_path, campus_bag, name='twice', rate=5.0, loops=2, **wanted)
    assert_same_plans(once, twice)
    assert_cheaper(once)


def assert_cheaper(played):
    weights = [dict(zip(p['criteria'], p['weights']))['energy'] for p in played.during]
    assert weights[0] < 0.4
    assert max(weights) >= 0.8
    first, last = played.during[0]['choice'], played.during[-1]['choice']
    assert last['energy_j'] < first['energy_j']


def assert_same_plans(once, twice):
    """At each recorded time the same choice, give or take when a decision fell."""
    (alone,) = once.loops
    assert len({choice for _, choice in alone}) >= 2
    assert len(twice.loops) == 2
    for number, loop in enumerate(twice.loops):
        assert len(loop) >= 4
        for time_s, choice in loop:
            # What was in force at the end of the first time stays a while in the second.
            if number == 0 or time_s > CARRIED_S:
                assert choice in {c for t, c in alone if abs(t - time_s) <= DECISIONS_S}


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
    assert log.read_text().splitlines()[1:] == [f'{time_ns},,' for time_ns in times[:4]]


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
