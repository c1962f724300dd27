# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os

import psutil
import pytest


@pytest.fixture(scope='session')
def robot_environment(tmp_path_factory, ros_domain):
    """Return an environment of its own for robots: cache, domain, closed discovery."""
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    pytest.importorskip('crowdhmt_ros.msg', reason='the messages are not built: pip install -e .')
    environment = dict(os.environ, ROS_DOMAIN_ID=ros_domain(),
                       ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    environment.setdefault('CROWDHMT_CACHE', str(tmp_path_factory.mktemp('cache')))
    return environment


@pytest.fixture
def nothing_left_running(tmp_path):
    """Fail when a process of this test's run still lives after it."""
    yield
    left = []
    for process in psutil.process_iter(['cmdline']):
        if str(tmp_path) in ' '.join(process.info['cmdline'] or ()):
            left.append(process.info['cmdline'])
    assert left == []
