# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One run of one robot on real nodes: which processes, with which parameters, for how long.

`crowdhmt demo`, `crowdhmt replay` and the benches start their robots here.
"""
from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import yaml

from crowdhmt_ros.campus.scenario import (
    Scenario,
    load_scenario,
    robots_of,
    scenario_content,
)
from crowdhmt_ros.cli.board import Board
from crowdhmt_ros.cli.interrupts import undisturbed
from crowdhmt_ros.cli.processes import (
    POLL_S,
    Child,
    Ended,
    Fleet,
    ProcessError,
    ros_environment,
    wait_until,
)
from crowdhmt_ros.errors import ConfigError, ScenarioError
from crowdhmt_ros.nodes import table
from crowdhmt_ros.nodes.topics import IMAGE_COMPRESSED, IMAGE_RAW

CAMPUS, VIDEO, CAMERA, BAG = 'campus', 'video', 'camera', 'bag'
REFUSAL = re.compile(r'(?:configure|activate) failed: (.*?)(?: / |$)')
REFUSAL_LINES = 8
START_TIMEOUT_S = 150.0
"""Longest wait for the first answer: the measurement at first start takes up to 60 s."""
RECORDER_TIMEOUT_S = 30.0
LISTENERS_TIMEOUT_S = 30.0
DISCOVERY_S = 3.5
"""Processes announce themselves every 3 s: by then all have found each other."""
DRAIN_S = 1.5
"""The last feedback and the last plan are still on their way when the source has ended."""
SILENCE_S = 30.0
"""A robot that has answered and then says nothing for so long has failed."""
OVERTIME_S = 60.0
SILENT_FRAMES = 3
"""A recording may pause: only with so many frames unanswered it is the robot that is silent."""
DEFAULT_SCENARIO = 'campus_minute'


@dataclass(frozen=True)
class RunSettings:
    """
    What to run.

    :param out: folder of the run, existing
    :param source: 'campus', 'video', 'camera' or 'bag'
    :param target: video file, camera number or bag
    :param seconds: length; None for the scenario's own, or to the end of the input
    :param seed: of the campus, None for the scenario's
    :param scenario: name or file, of the campus
    :param robot: namespace; which one of a scenario for several, else the view
    :param ends: whether the run ends when the campus does; a robot that helps another stays
    :param parameters: 'node:name' -> value, they win
    :param environment: variables that win over those of this process
    :param prefix: words before each command line, such as `ip netns exec NAME`
    """

    out: Path
    source: str = CAMPUS
    target: str = ''
    seconds: Optional[float] = None
    seed: Optional[int] = None
    scenario: str = DEFAULT_SCENARIO
    robot: str = 'vehicle'
    parameters: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    remappings: Mapping[str, str] = field(default_factory=dict)
    log_level: str = ''
    ends: bool = True
    prefix: Tuple[str, ...] = ()

    @property
    def events(self) -> Path:
        """The recorder's file."""
        return self.out / 'events.jsonl'

    @property
    def parameter_file(self) -> Path:
        """The ROS parameters of all nodes."""
        return self.out / 'parameters.yaml'

    @property
    def frames(self) -> Path:
        """The source's own log."""
        return self.out / 'frames.csv'


def write_scenario(settings: RunSettings) -> Scenario:
    """
    Write the scenario as it will be played, compressed to the wished length, into the run.

    :returns: the scenario
    :raises ScenarioError: when it cannot be used or written
    """
    content = scenario_content(settings.scenario, settings.robot)
    scenario = load_scenario(settings.scenario, settings.robot)
    if settings.seconds is not None:
        scenario = scenario.compressed(settings.seconds)
        content['duration_s'] = scenario.duration_s
        content.setdefault('battery', {})['time_compression_ratio'] = \
            scenario.time_compression_ratio
    if settings.seed is not None:
        content['seed'] = settings.seed
    if not robots_of(settings.scenario):
        content['view'] = settings.robot
    try:
        (settings.out / 'scenario.yaml').write_text(yaml.safe_dump(content, sort_keys=False),
                                                    encoding='utf-8')
    except OSError as error:
        raise ScenarioError('%s cannot be written: %s' % (
            settings.out / 'scenario.yaml', error.strerror)) from error
    return load_scenario(settings.out / 'scenario.yaml')


def write_parameters(path: Path, parameters: Mapping[str, object]) -> None:
    """
    Write a ROS parameter file.

    :param path: YAML file
    :param parameters: 'name' for every node, or 'node:name', -> value; the latter win
    :raises ConfigError: when it cannot be written
    """
    sections: Dict[str, Dict[str, object]] = {'/**': {}}
    for name, value in parameters.items():
        node, colon, own_name = name.partition(':')
        section = '/**/' + node if colon else '/**'
        sections.setdefault(section, {})[own_name if colon else name] = value
    content = {section: {'ros__parameters': values}
               for section, values in sections.items() if values}
    try:
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding='utf-8')
    except OSError as error:
        raise ConfigError('%s cannot be written: %s' % (path, error.strerror)) from error


def source_parameters(settings: RunSettings) -> Dict[str, object]:
    """Return the parameters that the kind of input asks for."""
    log: Dict[str, object] = {'camera_inference:source_log': str(settings.frames),
                              'camera_inference:wait_for_listeners_s': LISTENERS_TIMEOUT_S}
    if settings.source == CAMPUS:
        scenario = write_scenario(settings)
        path = str(settings.out / 'scenario.yaml')
        return {**log, 'camera_inference:source': CAMPUS, 'camera_inference:scenario': path,
                'camera_inference:view': scenario.view, 'camera_inference:seed': scenario.seed,
                'camera_inference:rate_hz': scenario.frame_rate_hz,
                'camera_inference:start_timeout_s': 600.0,
                'camera_inference:stop_at_end': settings.ends,
                'scenario_player:scenario': path, 'scenario_player:view': scenario.view,
                'scenario_player:start_delay_s': DISCOVERY_S}
    if settings.source == VIDEO:
        return {**log, 'camera_inference:source': VIDEO,
                'camera_inference:video_path': str(Path(settings.target).resolve()),
                'camera_inference:rate_hz': 0.0, 'camera_inference:stop_at_end': True}
    if settings.source == CAMERA:
        return {**log, 'camera_inference:source': CAMERA,
                'camera_inference:camera_index': int(settings.target)}
    return {'camera_inference:source': 'topic', 'use_sim_time': True,
            'bag_player:bag': str(Path(settings.target).resolve()), 'bag_player:clock': True,
            'bag_player:source_log': str(settings.frames), 'bag_player:exit_at_end': True,
            **reliable_images(settings)}


def reliable_images(settings: RunSettings) -> Dict[str, object]:
    """
    Return what makes the camera node ask for every frame again that the transport dropped.

    In lockstep only: there the next frame waits for the answer, one dropped would cost its
    whole timeout. At the recorded pace frames come as from a camera: best effort.
    """
    if settings.parameters.get('bag_player:pace') != 'lockstep':
        return {}
    return {'camera_inference:qos_overrides./%s/%s.subscription.reliability' % (
        settings.robot, topic.name): 'reliable' for topic in (IMAGE_RAW, IMAGE_COMPRESSED)}


def length_s(settings: RunSettings) -> Optional[float]:
    """Return how long the source will play, None where only its end tells."""
    if settings.source == CAMPUS:
        return load_scenario(settings.out / 'scenario.yaml').duration_s
    return settings.seconds


DRIVERS = {CAMPUS: 'engine', VIDEO: 'engine', CAMERA: '', BAG: 'bag_player'}
"""The process whose clean end is the end of the run; '' when only time ends it."""


class RobotRun:
    """
    The processes of one run.

    :param settings: what to run
    :raises CrowdHMTError: when the input cannot be used
    """

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings
        self._driver = DRIVERS[settings.source] if settings.ends else ''
        write_parameters(settings.parameter_file, {
            **source_parameters(settings), 'recorder:out': str(settings.events),
            **settings.parameters})
        self._fleet = Fleet(ros_environment({**ros_environment(), **settings.environment}),
                            settings.out / 'logs')
        self.board = Board(settings.events, settings.frames)
        self._length_s = length_s(settings)
        self._limit_s = settings.seconds if settings.source != CAMPUS else None
        self._first_answer_s: Optional[float] = None
        self._newest = (0, 0.0)
        self._started_s = time.monotonic()

    @property
    def commands(self) -> Dict[str, List[str]]:
        """Process name -> command line, in the order of the start."""
        names = ['recorder', *(p.name for p in table.processes())]
        if self.settings.source == CAMPUS:
            names.append('world')
        if self.settings.source == BAG:
            names.append('bag_player')
        return {name: [*self.settings.prefix, *table.command(
            name, namespace=self.settings.robot, params_file=str(self.settings.parameter_file),
            remappings=self.settings.remappings, log_level=self.settings.log_level)]
            for name in names}

    def process(self, name: str) -> Child:
        """
        Return a process of this run.

        :raises ProcessError: when there is none of this name
        """
        if name not in self._fleet.children:
            raise ProcessError('no process %s of %s runs' % (name, self.settings.robot))
        return self._fleet.children[name]

    def start_again(self, name: str) -> Child:
        """
        Start a process that has ended once more; that it had ended counts no longer.

        :raises ProcessError: when it cannot be started
        """
        return self._fleet.start(name, self.commands[name])

    def start(self) -> None:
        """
        Start everything; the recorder first, so that it misses nothing.

        :raises ProcessError: when a process cannot be started
        """
        self._started_s = time.monotonic()
        for name, command in self.commands.items():
            if name == 'bag_player':  # it cannot know who else listens to the answers
                time.sleep(DISCOVERY_S)
            child = self._fleet.start(name, command)
            if name == 'recorder' and not wait_until(
                    lambda child=child: self.settings.events.exists()  # type: ignore[misc]
                    or child.poll() is not None, RECORDER_TIMEOUT_S):
                raise ProcessError('the recorder did not start: %s' % child.last_words())
            self._raise_crash()

    def _raise_crash(self) -> None:
        words = dict(self._fleet.children)
        for ended in self._fleet.newly_ended():
            if ended.code:
                raise ProcessError('process %s ended with exit code %d: %s' % (
                    ended.name, ended.code, words[ended.name].last_words() or 'see its log'))

    def step(self) -> bool:
        """
        Look once: read what was recorded, see who has ended.

        :returns: whether the run goes on
        :raises ProcessError: when a process crashed, or nothing was answered in time
        """
        self.board.update()
        self._raise_crash()
        now_s = time.monotonic()
        if self.board.answered and self._first_answer_s is None:
            self._first_answer_s = now_s
        if self._first_answer_s is None:
            self._raise_refusal()
        if self._first_answer_s is None and now_s - self._started_s > START_TIMEOUT_S:
            raise ProcessError('no frame was answered within %.0f s: see %s' % (
                START_TIMEOUT_S, self.settings.out / 'logs'))
        self._raise_standstill(now_s)
        if self._driver and self._driver not in self._fleet.children:
            return False
        return not (self._limit_s is not None and self._first_answer_s is not None
                    and self.board.elapsed_s >= self._limit_s)

    def _raise_standstill(self, now_s: float) -> None:
        """Raise when answers have stopped coming, or the source does not end."""
        if self._first_answer_s is None:
            return
        logs = self.settings.out / 'logs'
        answered, since_s = self._newest
        if self.board.answered != answered:
            self._newest = (self.board.answered, now_s)
        elif now_s - since_s > SILENCE_S and (
                self.settings.source != BAG or self.board.unanswered >= SILENT_FRAMES):
            raise ProcessError('no frame was answered for %.0f s: see %s' % (SILENCE_S, logs))
        if self._length_s is not None \
                and now_s - self._first_answer_s > self._length_s + OVERTIME_S:
            raise ProcessError('the run of %.0f s has not ended %.0f s later: see %s' % (
                self._length_s, OVERTIME_S, logs))

    def _raise_refusal(self) -> None:
        """Raise when the camera node says that it cannot start; it would wait for ever."""
        engine = self._fleet.children.get('engine')
        found = REFUSAL.search(engine.last_words(REFUSAL_LINES)) if engine else None
        if found:
            raise ProcessError('the camera node cannot start: %s' % found.group(1))

    @property
    def answering(self) -> bool:
        """Whether the first answer has come."""
        return self._first_answer_s is not None

    def phase(self) -> str:
        """Return what the robot is doing before its first answer: the last line of a log."""
        for name in ('mind', 'engine'):
            child = self._fleet.children.get(name)
            words = child.last_words(1) if child else ''
            if words:
                return words
        return 'starting'

    def stop(self) -> Tuple[Ended, ...]:
        """End the source first, the recorder last; returns how each process ended."""
        with undisturbed():
            self.stop_sources()
            drain((self,))
            return self.stop_rest()

    def stop_sources(self) -> None:
        """End what emits frames; the recorder still listens."""
        self._fleet.stop('bag_player')
        if self.settings.source != BAG:
            self._fleet.stop('engine')

    def stop_rest(self) -> Tuple[Ended, ...]:
        """End everything, the recorder last; returns how each process ended."""
        ended = self._fleet.stop_all(('engine', 'mind', 'world', 'recorder'))
        self.board.update()
        return ended


def drain(runs: Sequence[RobotRun]) -> None:
    """Read on while the last messages are on their way."""
    deadline_s = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline_s:
        for run in runs:
            run.board.update()
        time.sleep(POLL_S)
