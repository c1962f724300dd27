# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bags played into robots of real processes, several at a time, each in a domain of its own."""
import bisect
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import BatteryState

from crowdhmt_ros.nodes.bag_file import BATTERY_TYPE, IMAGE_TYPES, open_bag, rescale_for
from test.ros.conftest import Processes

DISCOVERY_S = 3.5
"""Processes announce themselves every 3 s: by then the recorder hears the engine."""
READY_S = 60.0
ROUNDED_NS = 500
"""A snapshot's time went through seconds in a float."""
LONGEST_S = 150.0


@dataclass(frozen=True)
class Playback:
    """A bag and how it is to be played."""

    name: str
    bag: Path
    player: dict = field(default_factory=dict)


class Played:
    """What a robot said while a bag was played, beside what the bag holds."""

    def __init__(self, events, bag, rescale='', said=''):
        rows = [json.loads(line) for line in events.read_text().splitlines()]
        self.said = said
        self.answered = [stamp_ns(r['message']) for r in rows if r['topic'] == 'result']
        plans = [r['message'] for r in rows if r['topic'] == 'plan']
        with open_bag(str(bag)) as opened:
            image = opened.the_topic('', IMAGE_TYPES, parameter='image_topic')
            battery = opened.the_topic('', (BATTERY_TYPE,), parameter='battery_topic')
            self.start_ns, self.end_ns = opened.start_ns, opened.end_ns
            self.images = [m.time_ns for m in opened.messages([image])]
            recorded = [(m.time_ns, deserialize_message(m.data, BatteryState).percentage)
                        for m in opened.messages([battery])]
        line = rescale_for(rescale, [r for _, r in recorded]) if rescale else float
        self.times = [t for t, _ in recorded]
        self.ratios = [float(np.float32(line(r))) for _, r in recorded]
        self.plans = [p for p in plans if stamp_ns(p['snapshot']) >= self.start_ns]

    def last_recorded(self, time_ns):
        """Return the ratio recorded last at a time; the player tells the first one in advance."""
        return self.ratios[max(0, bisect.bisect_right(self.times, time_ns + ROUNDED_NS) - 1)]

    def time_s(self, plan):
        """Return the recorded time of a plan since the start of the bag."""
        return (stamp_ns(plan['snapshot']) - self.start_ns) / 1e9

    @property
    def loops(self):
        """For each time that the bag was played: its plans."""
        found = [[]]
        for plan in self.plans:
            if found[-1] and self.time_s(plan) < self.time_s(found[-1][-1]) - 1.0:
                found.append([])
            found[-1].append(plan)
        return found


def stamp_ns(message):
    stamp = message['header']['stamp']
    return stamp['sec'] * 10**9 + stamp['nanosec']


def play(playback, folder, environment):
    """
    Play a bag through recorder, mind and engine, all on the recording's time.

    :returns: `Played`, once every process has ended as it should
    """
    folder.mkdir()
    events = folder / 'events.jsonl'
    processes = Processes(folder, environment)
    sim = {'use_sim_time': True}
    reliable = {'qos_overrides./robot/%s.subscription.reliability' % topic: 'reliable'
                for topic in ('image_raw', 'image_raw/compressed', 'battery_state')}
    try:
        processes.start('recorder', {**sim, 'out': str(events)})
        processes.start('mind', {**sim, **reliable, 'tables': 'counted', 'freeze_costs': True,
                                 'adaptation_planner:accuracy_floor': 0.05})
        processes.start('engine', {**sim, **reliable})
        processes.wait_for('engine', 'is ready', READY_S)
        time.sleep(DISCOVERY_S)
        processes.start('bag_player', {'bag': str(playback.bag), 'clock': True, 'wait_s': 60.0,
                                       **playback.player})
        code = processes.end('bag_player', LONGEST_S, alive=('engine', 'mind', 'recorder'))
        said = processes.log('bag_player')
        for process in ('engine', 'mind', 'recorder'):
            assert processes.stop(process)[0] == 0, processes.log(process)
            assert 'Traceback' not in processes.log(process)
    finally:
        processes.close()
    assert code == 0, said
    return Played(events, playback.bag, playback.player.get('battery_rescale', ''), said)


def different(draw, count):
    """Return so many different values of what is drawn by chance."""
    found = set()
    while len(found) < count:
        found.add(draw())
    return sorted(found)


def play_all(playbacks, folder, *, at_once, draw_domain):
    """
    Play bags, so many at once.

    :returns: name -> a future of its `Played`
    """
    domains = different(draw_domain, len(playbacks))
    with ThreadPoolExecutor(at_once) as pool:
        return {playback.name: pool.submit(play, playback, folder / playback.name, {
            **os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_DOMAIN_ID': domain, 'CROWDHMT_CACHE': str(folder / 'cache')})
            for playback, domain in zip(playbacks, domains)}
