# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What nodes are in the ROS graph, and which publishers and subscribers cannot talk.

`python -m crowdhmt_ros.nodes.graph SECONDS` prints it as JSON for `crowdhmt doctor`.
"""
from __future__ import annotations

import json
import sys
import time
from typing import Any, Dict, List

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.utilities import get_rmw_implementation_identifier

OWN_NAME = 'crowdhmt_doctor'


def full_name(endpoint: TopicEndpointInfo) -> str:
    """Return namespace and name of the node behind an endpoint."""
    return '%s/%s' % (endpoint.node_namespace.rstrip('/'), endpoint.node_name)


def mismatches(node: Node) -> List[Dict[str, str]]:
    """Return every pair of publisher and subscriber whose quality of service does not fit."""
    found = []
    for topic, _ in node.get_topic_names_and_types():
        publishers = node.get_publishers_info_by_topic(topic)
        for subscriber in node.get_subscriptions_info_by_topic(topic):
            for publisher in publishers:
                verdict, reason = qos_check_compatible(
                    publisher.qos_profile, subscriber.qos_profile)
                if verdict == QoSCompatibility.ERROR:
                    found.append({'topic': topic, 'publisher': full_name(publisher),
                                  'subscriber': full_name(subscriber),
                                  'reason': ' '.join(str(reason).split())})
    return found


def look(seconds: float) -> Dict[str, Any]:
    """
    Return what is seen of the graph.

    :param seconds: how long to wait for discovery
    """
    rclpy.init()
    node = Node(OWN_NAME, start_parameter_services=False)
    try:
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            rclpy.spin_once(node, timeout_sec=0.1)
        names = ['%s/%s' % (space.rstrip('/'), name)
                 for name, space in node.get_node_names_and_namespaces() if name != OWN_NAME]
        return {'rmw': get_rmw_implementation_identifier(), 'nodes': sorted(names),
                'doubles': sorted({n for n in names if names.count(n) > 1}),
                'mismatches': mismatches(node)}
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def main() -> int:
    """Print the graph."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print(json.dumps(look(seconds)))  # noqa: T201 - read by the doctor
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
