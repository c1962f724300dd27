# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Every topic and service of a robot in one table: name, type, quality of service, who uses it.

The nodes take names and profiles from here and the README's reference is made from it. Names
are relative to the robot's namespace, but for `/diagnostics` and `/clock`, which ROS fixes, and
`/fleet/advert`, where robots meet.
This file imports nothing of ROS.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

RELIABLE = 'reliable'
BEST_EFFORT = 'best_effort'
VOLATILE = 'volatile'
TRANSIENT_LOCAL = 'transient_local'


@dataclass(frozen=True)
class Profile:
    """
    Quality of service of one topic.

    :param reliability: 'reliable' or 'best_effort'
    :param durability: 'volatile' or 'transient_local' (latched)
    :param depth: messages kept
    """

    reliability: str
    durability: str
    depth: int

    @property
    def label(self) -> str:
        """Short form for people: 'reliable, transient_local, depth 1'."""
        return f'{self.reliability}, {self.durability}, depth {self.depth}'


LATCHED = Profile(RELIABLE, TRANSIENT_LOCAL, 1)
SENSOR = Profile(BEST_EFFORT, VOLATILE, 5)
IMAGE = Profile(BEST_EFFORT, VOLATILE, 1)


@dataclass(frozen=True)
class Topic:
    """
    One topic.

    :param name: relative name
    :param type_name: 'package/msg/Type'
    :param profile: of our publisher, or of our subscription where others publish
    :param publishers: our nodes that publish it, empty where others do
    :param subscribers: our nodes that subscribe to it
    :param text: what it carries
    """

    name: str
    type_name: str
    profile: Profile
    publishers: Tuple[str, ...]
    subscribers: Tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Service:
    """One service: relative name, 'package/srv/Type', the node that answers, what it does."""

    name: str
    type_name: str
    server: str
    text: str


RESOURCES = Topic(
    'resources', 'crowdhmt_ros/msg/ResourceStatus', Profile(RELIABLE, VOLATILE, 5),
    ('resource_monitor',), ('adaptation_planner', 'offload_server', 'recorder'),
    'what this machine has, at 1 Hz and on a sharp change (at most 5 Hz)')
BATTERY_STATE = Topic(
    'battery_state', 'sensor_msgs/msg/BatteryState', Profile(BEST_EFFORT, VOLATILE, 1),
    ('scenario_player', 'bag_player'), ('resource_monitor',), 'state of the battery')
MEMORY_ALLOTMENT = Topic(
    'memory_allotment', 'std_msgs/msg/UInt64', LATCHED,
    ('scenario_player',), ('resource_monitor',), 'bytes given to inference by the platform')
SCENARIO_START = Topic(
    'scenario_start', 'builtin_interfaces/msg/Time', LATCHED,
    ('scenario_player',), ('camera_inference',), 'start of the scenario on the node clock')
PLAN = Topic(
    'plan', 'crowdhmt_ros/msg/Plan', LATCHED,
    ('adaptation_planner',), ('camera_inference', 'recorder'),
    'the decision in force and all that it was derived from')
FEEDBACK = Topic(
    'feedback', 'crowdhmt_ros/msg/Feedback', Profile(RELIABLE, VOLATILE, 10),
    ('camera_inference',), ('adaptation_planner', 'scenario_player', 'recorder'),
    'what was measured while one plan ran, about once a second')
RESULT = Topic(
    'result', 'crowdhmt_ros/msg/InferenceResult', Profile(RELIABLE, VOLATILE, 5),
    ('camera_inference',), ('recorder', 'bag_player'), 'the answer for one frame')
CLASSIFICATION = Topic(
    'classification', 'vision_msgs/msg/Classification', Profile(RELIABLE, VOLATILE, 5),
    ('camera_inference',), (), 'the same answer, only where vision_msgs is installed')
LABEL_INFO = Topic(
    'label_info', 'crowdhmt_ros/msg/LabelInfo', LATCHED,
    ('camera_inference',), (), 'class names behind the scores')
IMAGE_RAW = Topic(
    'image_raw', 'sensor_msgs/msg/Image', IMAGE,
    ('bag_player',), ('camera_inference',), 'frames: rgb8, bgr8, mono8, rgba8, bgra8, any step')
IMAGE_COMPRESSED = Topic(
    'image_raw/compressed', 'sensor_msgs/msg/CompressedImage', IMAGE,
    ('bag_player',), ('camera_inference',), 'frames: JPEG or PNG')
IMAGE_ANNOTATED = Topic(
    'image_annotated', 'sensor_msgs/msg/Image', Profile(RELIABLE, VOLATILE, 2),
    ('camera_inference',), (), 'frames with the answer drawn in, only while someone listens')
DIAGNOSTICS = Topic(
    '/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray', Profile(RELIABLE, VOLATILE, 10),
    ('resource_monitor', 'adaptation_planner', 'camera_inference', 'offload_server',
     'scenario_player'), (),
    'health of each node at 1 Hz')
CLOCK = Topic(
    '/clock', 'rosgraph_msgs/msg/Clock', Profile(RELIABLE, VOLATILE, 10),
    ('bag_player',), (), 'time of the recording, for nodes with use_sim_time')

FLEET_ADVERT = Topic(
    '/fleet/advert', 'crowdhmt_ros/msg/Advert', Profile(BEST_EFFORT, VOLATILE, 10),
    ('offload_server',), ('adaptation_planner', 'camera_inference', 'offload_server'),
    'what a robot offers to its peers, at 1 Hz and on change; the one name that all robots share')

OBSTACLE_NEAR = Topic(
    'obstacle_near', 'crowdhmt_ros/msg/ObstacleNear', Profile(RELIABLE, VOLATILE, 5),
    ('camera_inference',), ('recorder',),
    'a pedestrian, bicycle or car fills enough of the view; once when it comes, once when it goes')

TOPICS: Tuple[Topic, ...] = (
    RESOURCES, BATTERY_STATE, MEMORY_ALLOTMENT, SCENARIO_START, PLAN, FEEDBACK, RESULT,
    CLASSIFICATION, LABEL_INFO, IMAGE_RAW, IMAGE_COMPRESSED, IMAGE_ANNOTATED, DIAGNOSTICS, CLOCK,
    OBSTACLE_NEAR, FLEET_ADVERT)

SET_REQUIREMENTS = Service(
    'set_requirements', 'crowdhmt_ros/srv/SetRequirements', 'adaptation_planner',
    'replace budgets, accuracy floor and preference')
EXPLAIN_PLAN = Service(
    'explain_plan', 'crowdhmt_ros/srv/ExplainPlan', 'adaptation_planner',
    'every candidate with its figures, its score and what spoke against it')
REQUEST_LEASE = Service(
    'request_lease', 'crowdhmt_ros/srv/RequestLease', 'offload_server',
    'the right to run segments here for a while, for trusted peers; only with ros_door')
RUN_SEGMENT = Service(
    'run_segment', 'crowdhmt_ros/srv/RunSegment', 'offload_server',
    'run one segment for a peer, payload up to 32768 bytes; only with ros_door')
SERVICES: Tuple[Service, ...] = (SET_REQUIREMENTS, EXPLAIN_PLAN, REQUEST_LEASE, RUN_SEGMENT)


def offered_by(topic: Topic, node: str) -> Optional[Profile]:
    """Return the profile with which NODE publishes TOPIC; None where it does not."""
    if node not in topic.publishers:
        return None
    if topic.profile.reliability == BEST_EFFORT:  # any subscriber can listen to a reliable one
        return Profile(RELIABLE, topic.profile.durability, max(topic.profile.depth, 5))
    return topic.profile
