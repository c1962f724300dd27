# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Every parameter of every node: name, default, range, meaning.

Each node has one frozen dataclass; its fields are its parameters. `declare.py` declares them
to ROS and returns the dataclass; the README's reference is made from `SPECS`. NaN is "unset"
for a number, '' for a text. This file imports nothing of ROS.
"""
from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar

UNSET = math.nan
T = TypeVar('T')


@dataclass(frozen=True)
class ParameterSpec:
    """
    One parameter.

    :param name: as in YAML
    :param default: value without a file; its type is the parameter's type
    :param text: what it does, with unit
    :param low: lowest value allowed
    :param high: highest value allowed
    :param choices: the only texts allowed, empty for any
    :param changeable: whether it may be set while the node runs
    """

    name: str
    default: Any
    text: str
    low: Optional[float] = None
    high: Optional[float] = None
    choices: Tuple[str, ...] = ()
    changeable: bool = False

    @property
    def can_be_unset(self) -> bool:
        """Whether NaN is allowed."""
        return isinstance(self.default, float) and math.isnan(self.default)

    @property
    def range_text(self) -> str:
        """Allowed values for people, '' where any will do."""
        if self.choices:
            return ' | '.join(self.choices)
        if self.low is None or self.high is None:
            return ''
        return f'{self.low:g}..{self.high:g}' + (' or .nan' if self.can_be_unset else '')

    def problem(self, value: Any) -> Optional[str]:
        """
        Say what is wrong with a value, None when nothing is.

        :returns: one line: name, value, what is allowed
        """
        kind = type(self.default)
        if isinstance(value, tuple):
            value = list(value)
        if kind is tuple:
            items = value if isinstance(value, list) else None
            wrong = items is None or not items or any(self._item_wrong(i) for i in items)
            return f'{self.name} is {value!r}, it must be a list of {self.range_text or "texts"}' \
                if wrong else None
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return f'{self.name} is the integer {value}, write it as {value}.0'
        if type(value) is not kind:
            return f'{self.name} is {value!r}, it must be of type {kind.__name__}'
        if self.choices and value not in self.choices:
            return f'{self.name} is {value!r}, it must be one of {", ".join(self.choices)}'
        if self._item_wrong(value):
            return f'{self.name} is {value!r}, it must lie in {self.range_text}'
        return None

    def _item_wrong(self, value: Any) -> bool:
        if isinstance(value, str):
            return bool(self.choices) and value not in self.choices
        if self.low is None or self.high is None or isinstance(value, bool):
            return False
        if self.can_be_unset and math.isnan(value):
            return False
        return not self.low <= value <= self.high


def parameter(default: Any, text: str, *, low: Optional[float] = None,
              high: Optional[float] = None, choices: Tuple[str, ...] = (),
              changeable: bool = False) -> Any:
    """Describe one field of a parameter dataclass."""
    return dataclasses.field(default=default, metadata={
        'text': text, 'low': low, 'high': high, 'choices': choices, 'changeable': changeable})


def specs_of(parameters: Type[Any]) -> Tuple[ParameterSpec, ...]:
    """Return the table of a parameter dataclass, in order of its fields."""
    return tuple(ParameterSpec(field.name, field.default, **field.metadata)
                 for field in dataclasses.fields(parameters))


def problems(parameters: Type[Any], values: Mapping[str, Any]) -> Tuple[str, ...]:
    """Return everything wrong with the given values; unknown names are ignored."""
    found = (spec.problem(values[spec.name]) for spec in specs_of(parameters)
             if spec.name in values)
    return tuple(text for text in found if text)


def changed(current: T, values: Mapping[str, Any]) -> T:
    """Return a copy of a parameter dataclass with some values replaced."""
    known = {field.name for field in dataclasses.fields(current)}  # type: ignore[arg-type]
    fitting = {name: tuple(value) if isinstance(value, list) else value
               for name, value in values.items() if name in known}
    return dataclasses.replace(current, **fitting)  # type: ignore[type-var]


@dataclass(frozen=True)
class ResourceMonitorParameters:
    """Parameters of resource_monitor."""

    robot_id: str = parameter('', "name of this robot; '' takes the namespace")
    rate_hz: float = parameter(1.0, 'how often resources are published', low=0.1, high=5.0)
    battery_timeout_s: float = parameter(
        30.0, 'a battery message older than this counts as unknown, node clock',
        low=0.5, high=3600.0, changeable=True)
    jetson: str = parameter('auto', 'read the power and load sensors of a Jetson',
                            choices=('auto', 'off'))
    cpu_load_topic: str = parameter(
        '', "std_msgs/Float32 topic with the processor load 0..1 to use instead of this "
        "machine's own, for replays; '' measures")


@dataclass(frozen=True)
class AdaptationPlannerParameters:
    """Parameters of adaptation_planner."""

    bundle: str = parameter('campus7', 'name of a bundle of this package, or a directory')
    robot_id: str = parameter('', "name of this robot; '' takes the namespace")
    latency_budget_s: float = parameter(
        UNSET, 'frame in memory to answer, s', low=1e-4, high=60.0, changeable=True)
    memory_budget_bytes: float = parameter(
        UNSET, 'for the model and its engine, bytes', low=1.0, high=1e15, changeable=True)
    accuracy_floor: float = parameter(
        UNSET, 'lowest acceptable ratio of right answers', low=0.0, high=1.0, changeable=True)
    accuracy_weight: float = parameter(
        UNSET, 'fixed weight of accuracy against energy; unset lets the battery decide',
        low=0.0, high=1.0, changeable=True)
    device: str = parameter(
        'default', 'energy profile: a name in config/devices or a YAML file')
    threads: Tuple[int, ...] = parameter(
        (1, 2), 'numbers of engine threads to consider', low=1, high=64)
    memory_modes: Tuple[str, ...] = parameter(
        ('fast', 'lean'), 'engine memory modes to consider',
        choices=('fast', 'lean', 'mapped', 'planned', 'streamed'))
    backend: str = parameter(
        'auto', "engine: 'auto' takes for each model the fastest that is installed, as measured "
        "on this machine; the name of one keeps to it")
    backend_repeat: int = parameter(
        1, 'run each inference this many times: a slow device', low=1, high=1000)
    freeze_costs: bool = parameter(
        False, "do not correct the tables by feedback and do not look at this machine's own "
        'load and memory: for replays that must repeat exactly')
    tables: str = parameter(
        'measured', "'measured': on this machine at the first start, cached; 'counted': from "
        "operation counts alone; else a file of tables")
    pinned_candidate: str = parameter(
        '', "candidate_id or variant_id to keep whatever happens, for comparisons; '' adapts")
    cache_dir: str = parameter('', "where tables and graphs are kept; '' takes $CROWDHMT_CACHE "
                               'or ~/.cache/crowdhmt')
    calibrate_s: float = parameter(
        60.0, 'longest time that the measurement at first start may take, s', low=1.0, high=600.0)
    engines_s: float = parameter(
        90.0, 'longest time that engines are compared at one start, s; what is left is compared '
        'at the next', low=0.0, high=3600.0)
    offload: bool = parameter(
        True, 'consider peers where nothing that stays here keeps every budget')
    fleet_advert_topic: str = parameter(
        '/fleet/advert', 'where robots tell of each other, one name for the whole fleet')


@dataclass(frozen=True)
class CameraInferenceParameters:
    """Parameters of camera_inference."""

    autostart: bool = parameter(True, 'configure and activate itself; false leaves it to a '
                                'lifecycle manager')
    bundle: str = parameter('campus7', 'name of a bundle of this package, or a directory',
                            changeable=True)
    robot_id: str = parameter('', "name of this robot; '' takes the namespace")
    source: str = parameter('topic', 'where frames come from',
                            choices=('topic', 'campus', 'video', 'camera'))
    video_path: str = parameter('', 'file to play with source video')
    video_loop: bool = parameter(False, 'start the video again at its end')
    pace: str = parameter('original', "of a video: 'original' keeps its rate; 'lockstep' reads "
                          'the next frame when the last one was answered',
                          choices=('original', 'lockstep'))
    camera_index: int = parameter(0, 'device number with source camera', low=0, high=63)
    scenario: str = parameter('', "scenario of the built-in campus: a name or a YAML file; '' "
                              'takes the one of the view')
    view: str = parameter('vehicle', 'whose eyes in the built-in campus',
                          choices=('vehicle', 'drone'))
    seed: int = parameter(-1, "of the built-in campus; -1 takes the scenario's",
                          low=-1, high=2**31 - 1)
    seconds: float = parameter(
        UNSET, "length to compress the scenario to, s; unset takes the file's",
        low=1.0, high=86400.0)
    start_timeout_s: float = parameter(
        10.0, 'with source campus: wait this long for scenario_start, then start alone',
        low=0.0, high=600.0)
    rate_hz: float = parameter(
        0.0, "frames a second of an own source; 0 takes the source's own", low=0.0, high=1000.0)
    stop_at_end: bool = parameter(False, 'end the process when an own source ends')
    backend: str = parameter(
        'auto', "engine: 'auto' takes for each model the fastest that is installed, as measured "
        "on this machine; the name of one keeps to it")
    backend_repeat: int = parameter(
        1, 'run each inference this many times: a slow device', low=1, high=1000)
    cache_dir: str = parameter('', "where graphs are kept; '' takes $CROWDHMT_CACHE or "
                               '~/.cache/crowdhmt')
    resident_budget: bool = parameter(
        True, "keep compiled candidates within the plan's memory budget", changeable=True)
    fallback: str = parameter(
        '', "variant to answer with until the first plan; '' takes the leanest")
    wait_for_listeners_s: float = parameter(
        0.0, 'with an own source: wait this long for a subscriber of result and of feedback '
        'before the first frame, so that a recorder misses none', low=0.0, high=600.0)
    source_log: str = parameter(
        '', 'CSV file that gets stamp_ns,label,light_band of each frame of an own source')
    no_frame_warn_s: float = parameter(
        5.0, 'warn when no frame came for so long, s', low=0.1, high=3600.0, changeable=True)
    condition: str = parameter(
        '', "condition of the images, for example photos; '' lets brightness decide for the "
        "campus and 'photos' for all else")
    reduced_decode: bool = parameter(
        True, 'decode large JPEG frames at reduced size where the model needs no more')
    channel: str = parameter(
        'auto', "way to peers: 'auto' takes ZeroMQ where the peer offers it, 'off' asks none",
        choices=('auto', 'zeromq', 'ros', 'off'))
    keys_dir: str = parameter('', "folder of own and trusted keys; '' takes $CROWDHMT_KEYS or "
                              '~/.config/crowdhmt/keys')
    fleet_advert_topic: str = parameter(
        '/fleet/advert', 'where robots tell of each other, one name for the whole fleet')
    obstacle_labels: Tuple[str, ...] = parameter(
        ('pedestrian', 'bicycle', 'car'), 'classes that are told on obstacle_near')
    obstacle_score: float = parameter(
        0.6, 'an obstacle is near from this summed probability of its classes on',
        low=0.0, high=1.0)
    obstacle_free_score: float = parameter(
        0.5, 'the view is free again below this one, at most obstacle_score', low=0.0, high=1.0)
    obstacle_free_frames: int = parameter(
        2, 'consecutive frames that it takes to be free, or to be another class',
        low=1, high=1000)


@dataclass(frozen=True)
class ScenarioPlayerParameters:
    """Parameters of scenario_player."""

    scenario: str = parameter('', "a name or a YAML file; '' takes the one of the view")
    view: str = parameter('vehicle', 'which robot of the built-in campus',
                          choices=('vehicle', 'drone'))
    seconds: float = parameter(
        UNSET, "length to compress the scenario to, s; unset takes the file's",
        low=1.0, high=86400.0)
    rate_hz: float = parameter(2.0, 'how often battery_state is published', low=0.1, high=20.0)
    call_timeout_s: float = parameter(
        2.0, 'wait for one answer of set_requirements, s', low=0.1, high=60.0)
    start_delay_s: float = parameter(
        0.0, 'time between the announcement of the start and the start, s', low=0.0, high=60.0)
    wait_for_plan: bool = parameter(
        True, 'start only when a first plan is in force (tables may be measured first)')
    exit_at_end: bool = parameter(False, 'end the process when the scenario ends')
    wait_for_robots: Tuple[str, ...] = parameter(
        ('',), 'further robots, by namespace, whose first plan must be in force before the start')
    start_of: str = parameter(
        '', "robot, by namespace, whose scenario_start this one follows; '' announces its own")


@dataclass(frozen=True)
class BagPlayerParameters:
    """Parameters of bag_player."""

    bag: str = parameter('', 'rosbag2 directory, .mcap or .db3 file')
    image_topic: str = parameter('', "topic in the bag to play as image_raw or "
                                 "image_raw/compressed; '' takes the only image topic")
    battery_topic: str = parameter('', "topic in the bag to play as battery_state; '' takes the "
                                   'only battery topic, if there is one')
    other_topics: Tuple[str, ...] = parameter(
        ('',), 'further topics of the bag to play under their own names, made relative')
    rate: float = parameter(1.0, 'speed of the recording', low=0.01, high=100.0)
    duration_s: float = parameter(
        UNSET, 'play only so much of its beginning, recorded time in s; unset plays all',
        low=0.1, high=1e6)
    loops: int = parameter(1, 'how often to play it', low=1, high=1000000)
    pace: str = parameter('original', "'original' keeps the recorded times; 'lockstep' sends the "
                          'next frame when the last one was answered',
                          choices=('original', 'lockstep'))
    answer_timeout_s: float = parameter(
        5.0, 'with lockstep: longest wait for one answer, s', low=0.1, high=600.0)
    clock: bool = parameter(False, 'publish /clock')
    battery_rescale: str = parameter(
        '', "'hi:lo' maps the first recorded charge to hi and the last to lo, for example "
        "0.9:0.15; '' plays it as recorded")
    restamp: bool = parameter(
        False, 'stamp frames with the node clock instead of the recorded time')
    wait_for_plan: bool = parameter(
        True, 'where a planner runs, wait for its first plan before the first message')
    source_log: str = parameter(
        '', 'CSV file that gets the stamp of each frame just before it is sent, as the camera '
        'writes it for sources of its own')
    wait_s: float = parameter(
        120.0, 'longest wait for subscribers and plan before the first message, s',
        low=0.0, high=600.0)
    exit_at_end: bool = parameter(True, 'end the process when the bag ends')


@dataclass(frozen=True)
class RecorderParameters:
    """Parameters of recorder."""

    out: str = parameter('', 'file of JSON lines to write; an existing one is replaced')


@dataclass(frozen=True)
class OffloadServerParameters:
    """Parameters of offload_server."""

    autostart: bool = parameter(True, 'configure and activate itself; false leaves it to a '
                                'lifecycle manager')
    bundle: str = parameter('campus7', 'name of a bundle of this package, or a directory: the '
                            'one of camera_inference')
    robot_id: str = parameter('', "name of this robot; '' takes the namespace")
    backend: str = parameter(
        'auto', "engine: 'auto' takes for each model the fastest that is installed, as measured "
        "on this machine; the name of one keeps to it")
    backend_repeat: int = parameter(
        1, 'run each inference this many times: a slow device', low=1, high=1000)
    cache_dir: str = parameter('', "where graphs are kept; '' takes $CROWDHMT_CACHE or "
                               '~/.cache/crowdhmt')
    keys_dir: str = parameter('', "folder of own and trusted keys; '' takes $CROWDHMT_KEYS or "
                              '~/.config/crowdhmt/keys; without a key no peer is served')
    data_door: bool = parameter(True, 'serve peers over ZeroMQ')
    address: str = parameter('', "tcp://HOST:PORT that peers connect to, port 0 for any free one; "
                             "'' is loopback: peers on this machine only")
    advertise_host: str = parameter('', "host name that peers are told; '' tells that of address")
    ros_door: bool = parameter(
        False, 'serve peers over the services request_lease and run_segment too')
    max_leases: int = parameter(4, 'leases at once, of all peers', low=0, high=64)
    lease_s: float = parameter(30.0, 'longest lease before it must be renewed, s',
                               low=1.0, high=3600.0)
    memory_bytes: float = parameter(
        2.56e8, 'what the segments of all leases may take, bytes', low=0.0, high=1e12)
    engine_threads: int = parameter(1, "engine threads for peers' segments", low=1, high=64)
    least_battery_ratio: float = parameter(
        0.15, 'no lease is granted or renewed below this charge', low=0.0, high=1.0,
        changeable=True)
    fleet_advert_topic: str = parameter(
        '/fleet/advert', 'where robots tell of each other, one name for the whole fleet')


PARAMETERS: Dict[str, Type[Any]] = {
    'resource_monitor': ResourceMonitorParameters,
    'adaptation_planner': AdaptationPlannerParameters,
    'camera_inference': CameraInferenceParameters,
    'offload_server': OffloadServerParameters,
    'scenario_player': ScenarioPlayerParameters,
    'bag_player': BagPlayerParameters,
    'recorder': RecorderParameters,
}
"""Node name -> its parameter dataclass."""

SPECS: Dict[str, Tuple[ParameterSpec, ...]] = {
    name: specs_of(parameters) for name, parameters in PARAMETERS.items()}
"""Node name -> table of its parameters."""
