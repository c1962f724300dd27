# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Wait for one ResourceStatus on a topic; print whose code heard what. Run by test_colcon."""
import json
import sys
import time

import rclpy

import crowdhmt_ros
from crowdhmt_ros.msg import ResourceStatus


def main(topic, wait_s):
    rclpy.init()
    node = rclpy.create_node('listener')
    heard = []
    node.create_subscription(ResourceStatus, topic, heard.append, 5)
    end_s = time.monotonic() + float(wait_s)
    while not heard and time.monotonic() < end_s:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(json.dumps({
        'code': crowdhmt_ros.__file__, 'robot_ids': [message.robot_id for message in heard],
        'sources': list(heard[0].sources) if heard else []}))
    node.destroy_node()
    rclpy.shutdown()
    return 0 if heard else 1


if __name__ == '__main__':
    raise SystemExit(main(*sys.argv[1:]))
