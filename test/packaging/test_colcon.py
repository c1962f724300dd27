# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tree builds with colcon, and what it builds talks with what pip installed."""
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from test.packaging.environments import (
    BUILD_NICE,
    KEPT,
    build_environment,
    clean_environment,
    copy_sources,
    run,
)

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]
LISTEN = Path(__file__).with_name('listen.py')
WAIT_S = '30'


def colcon_build(sources, work, *options):
    """Build the sources into WORK/install; return that."""
    tools = build_environment()
    run([tools / 'bin' / 'colcon', '--log-base', work / 'log', 'build', '--base-paths', sources,
         '--build-base', work / 'build', '--install-base', work / 'install', *options,
         '--cmake-args', '-G', 'Ninja', f'-DPython3_EXECUTABLE={tools}/bin/python',
         '-DBUILD_TESTING=OFF'],
        env=clean_environment(tools, AMENT_PREFIX_PATH=str(tools), CMAKE_PREFIX_PATH=str(tools)),
        cwd=work, nice=BUILD_NICE)
    return work / 'install'


@pytest.fixture(scope='module')
def install():
    """Return the install space of the tree; a second run of the tests builds what changed."""
    work = KEPT.parent / 'colcon-workspace'
    sources = work / 'src' / 'crowdhmt_ros'
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir(parents=True)
    return colcon_build(copy_sources(sources), work)


def in_install_space(install, command):
    """Return the start of a command that runs in the install space, on this Python's rclpy."""
    words = ' '.join(shlex.quote(str(word)) for word in command)
    line = f'source {shlex.quote(str(install))}/local_setup.bash; exec {words} "$@"'
    return ['bash', '-c', line, 'bash']


def environment():
    return clean_environment(sys.prefix, ROS_DOMAIN_ID=os.environ['ROS_DOMAIN_ID'],
                             ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')


def hear(topic, command, *, listener):
    """Start a node, listen for its topic by the other install, end the node cleanly."""
    node = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, cwd='/')
    try:
        done = subprocess.run([*listener, topic, WAIT_S], env=environment(), cwd='/', check=False,
                              capture_output=True, text=True, timeout=120)
    finally:
        node.send_signal(signal.SIGINT)
        try:
            said = node.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired:
            node.kill()
            raise
    assert done.returncode == 0, f'{done.stderr}\n{said}'
    assert node.returncode == 0, said
    return json.loads(done.stdout)


def test_the_install_space_holds_everything(install):
    prefix = install / 'crowdhmt_ros'
    share = prefix / 'share' / 'crowdhmt_ros'
    for name in ('package.xml', 'launch/vehicle.launch.py', 'config/vehicle.yaml',
                 'msg/Plan.msg', 'srv/RunSegment.srv', 'local_setup.bash'):
        assert (share / name).is_file(), name
    assert (prefix / 'share/ament_index/resource_index/packages/crowdhmt_ros').is_file()
    programs = sorted(path.name for path in (prefix / 'lib' / 'crowdhmt_ros').iterdir())
    assert {'engine', 'mind', 'camera_inference', 'crowdhmt'} <= set(programs)
    packages = [path.parent for path in prefix.glob('**/site-packages/crowdhmt_ros/__init__.py')]
    assert len(packages) == 1
    original = install.parent / 'src' / 'crowdhmt_ros' / 'crowdhmt_ros'
    for path in original.rglob('*.py'):
        name = path.relative_to(original)
        assert (packages[0] / name).read_bytes() == path.read_bytes(), name
    assert not (packages[0] / '_lib').exists()


def test_the_install_space_imports_and_finds_its_files(install):
    code = ('import crowdhmt_ros, crowdhmt_ros.msg as m, crowdhmt_ros.srv as s\n'
            'from rclpy.serialization import serialize_message as dump\n'
            'dump(m.Plan()), dump(s.RunSegment.Request())\n'
            'from crowdhmt_ros.campus.scenario import load_scenario\n'
            'load_scenario("campus_minute")\n'
            'print(crowdhmt_ros.__file__)')
    done = run(in_install_space(install, [sys.executable, '-c', code]), env=environment(),
               cwd='/')
    assert done.stdout.splitlines()[-1].startswith(str(install))


def test_a_node_built_by_colcon_is_heard_by_one_installed_by_pip(install):
    program = install / 'crowdhmt_ros' / 'lib' / 'crowdhmt_ros' / 'resource_monitor'
    heard = hear('/built/resources',
                 in_install_space(install, [program, '--ros-args', '-r', '__ns:=/built']),
                 listener=[sys.executable, str(LISTEN)])
    assert not heard['code'].startswith(str(install))
    assert heard['robot_ids'] == ['built']
    assert 'measured' in heard['sources']


def test_a_node_installed_by_pip_is_heard_by_one_built_by_colcon(install):
    heard = hear('/piped/resources',
                 [sys.executable, '-m', 'crowdhmt_ros.nodes.process', 'resource_monitor',
                  '--ros-args', '-r', '__ns:=/piped'],
                 listener=in_install_space(install, [sys.executable, LISTEN]))
    assert heard['code'].startswith(str(install))
    assert heard['robot_ids'] == ['piped']


@pytest.mark.slow
def test_symlinked_install_builds_and_imports(tmp_path):
    sources = tmp_path / 'src' / 'crowdhmt_ros'
    sources.mkdir(parents=True)
    install = colcon_build(copy_sources(sources), tmp_path, '--symlink-install')
    done = run(in_install_space(install, [
        sys.executable, '-c', 'import crowdhmt_ros.msg as m; print(m.Plan(), m.__file__)']),
        env=environment(), cwd='/')
    assert str(install) in done.stdout
