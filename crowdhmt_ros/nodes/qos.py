# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the profiles of `topics` to rclpy, and words for what rclpy tells about others."""
from __future__ import annotations

from typing import Any, Callable, List, Tuple

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from crowdhmt_ros.nodes.topics import RELIABLE, TRANSIENT_LOCAL, Profile

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks


def profile_of(profile: Profile, *, depth: int = 0) -> QoSProfile:
    """Return the rclpy profile; `depth` above 0 replaces the table's."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth or profile.depth,
        reliability=(ReliabilityPolicy.RELIABLE if profile.reliability == RELIABLE
                     else ReliabilityPolicy.BEST_EFFORT),
        durability=(DurabilityPolicy.TRANSIENT_LOCAL if profile.durability == TRANSIENT_LOCAL
                    else DurabilityPolicy.VOLATILE))


def words(qos: QoSProfile) -> str:
    """Return a profile in words: 'best_effort, volatile'."""
    return f'{_name(qos.reliability)}, {_name(qos.durability)}'


def publishers_in_words(node: Node, topic: str) -> Tuple[str, ...]:
    """Say who publishes the resolved TOPIC and how, one text a publisher."""
    found: List[str] = []
    for info in node.get_publishers_info_by_topic(topic):
        full = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
        found.append(f'{full} [{info.topic_type}; {words(info.qos_profile)}]')
    return tuple(found)


def incompatible_publisher(report: Callable[[str], None], topic: str,
                           qos: QoSProfile) -> SubscriptionEventCallbacks:
    """Return callbacks that report a publisher whose offer does not match our wish."""

    def callback(event: Any) -> None:
        report(f'{topic}: a publisher offers an incompatible {_policy(event)}; '
               f'this node asks for {words(qos)}')

    return SubscriptionEventCallbacks(incompatible_qos=callback)


def incompatible_subscriber(report: Callable[[str], None], topic: str,
                            qos: QoSProfile) -> PublisherEventCallbacks:
    """Return callbacks that report a subscriber that wants more than we offer."""

    def callback(event: Any) -> None:
        report(f'{topic}: a subscriber asks for an incompatible {_policy(event)}; '
               f'this node offers {words(qos)}')

    return PublisherEventCallbacks(incompatible_qos=callback)


def _policy(event: Any) -> str:
    kind = event.last_policy_kind
    return str(getattr(kind, 'name', kind)).lower()


def _name(policy: Any) -> str:
    return str(getattr(policy, 'name', policy)).lower()


def wait_for_acknowledged(publisher: Any, timeout_s: float = 0.3) -> None:
    """Give reliable subscribers time to fetch what was published last."""
    if hasattr(publisher, 'wait_for_all_acked'):
        publisher.wait_for_all_acked(Duration(nanoseconds=int(timeout_s * 1e9)))
