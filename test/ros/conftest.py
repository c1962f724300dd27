# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Real rclpy and Fast DDS on this machine only, in a domain of their own."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import pytest

rclpy = pytest.importorskip('rclpy')
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from crowdhmt_ros.cli.domains import let_go  # noqa: E402
from crowdhmt_ros.nodes.qos import profile_of  # noqa: E402
from crowdhmt_ros.nodes.table import command  # noqa: E402
from crowdhmt_ros.nodes.topics import TRANSIENT_LOCAL  # noqa: E402

NAMESPACE = '/robot'


def pytest_collection_modifyitems(items):
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope='session')
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(autouse=True)
def closed_domain(monkeypatch, cache_dir, ros_domain):
    domain = ros_domain()
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('ROS_DOMAIN_ID', domain)
    monkeypatch.setenv('CROWDHMT_CACHE', cache_dir)
    yield
    let_go(int(domain))


class Stage:
    """The nodes under test and one node that talks to them, in one executor."""

    def __init__(self):
        rclpy.init()
        self.executor = SingleThreadedExecutor()
        self.nodes = []
        self.peer = Node('peer', namespace=NAMESPACE)
        self.executor.add_node(self.peer)

    def add(self, kind, start=True, **parameters):
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = kind(namespace=NAMESPACE, parameter_overrides=overrides)
        self.nodes.append(node)
        self.executor.add_node(node)
        if start:
            node.start()
        return node

    def collect(self, topic, kind, depth=100, qos=None):
        found = []
        self.peer.create_subscription(
            kind, topic.name, found.append, qos or profile_of(topic.profile, depth=depth))
        return found

    def publisher(self, topic, kind):
        latched = topic.profile.durability == TRANSIENT_LOCAL
        qos = profile_of(topic.profile) if latched else 10
        return self.peer.create_publisher(kind, topic.name, qos)

    def until(self, predicate, timeout_s=10.0):
        deadline_s = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < deadline_s, 'did not happen in time'
            self.executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds):
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, kind, name, request, timeout_s=10.0):
        client = self.peer.create_client(kind, name)
        self.until(client.service_is_ready, timeout_s)
        future = client.call_async(request)
        self.until(future.done, timeout_s)
        return future.result()

    def close(self):
        try:
            for node in self.nodes:
                node.close()
            for node in [*self.nodes, self.peer]:
                node.destroy_node()
        finally:  # or every test after this one would find ROS started already
            self.executor.shutdown()
            rclpy.try_shutdown()


@pytest.fixture
def stage():
    found = Stage()
    yield found
    found.close()


class Processes:
    """The robot's processes as they run on a robot."""

    def __init__(self, folder, environment=None):
        self.folder = folder
        self.environment = environment
        self.running = {}

    def start(self, name, parameters=None, **options):
        with open(self.folder / f'{name}.log', 'w') as log:
            self.running[name] = subprocess.Popen(
                command(name, namespace=NAMESPACE, parameters=parameters, **options),
                env=self.environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        return self.running[name]

    def log(self, name):
        return (self.folder / f'{name}.log').read_text()

    def wait_for(self, name, text, timeout_s=30.0):
        deadline_s = time.monotonic() + timeout_s
        while text not in self.log(name):
            assert time.monotonic() < deadline_s, self.log(name)
            assert self.running[name].poll() is None, self.log(name)
            time.sleep(0.05)

    def stop(self, name, number=signal.SIGINT, timeout_s=10.0):
        """Returns exit code and seconds that the end took."""
        began_s = time.monotonic()
        self.running[name].send_signal(number)
        code = self.running[name].wait(timeout_s)
        del self.running[name]  # one that does not end stays for `close`
        return code, time.monotonic() - began_s

    def end(self, name, timeout_s=60.0, alive=()):
        """Returns the exit code of a process that ends by itself while others go on."""
        deadline_s = time.monotonic() + timeout_s
        while self.running[name].poll() is None:
            assert time.monotonic() < deadline_s, self.log(name)
            for other in alive:
                assert self.running[other].poll() is None, self.log(other)
            time.sleep(0.05)
        return self.running.pop(name).returncode

    def close(self):
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # each leads a group of its own
            process.wait()


@pytest.fixture
def processes(tmp_path):
    found = Processes(tmp_path)
    yield found
    found.close()
