# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A wheel of the tree, installed where nothing else of it is, serves a robot."""
import re
import sys
import zipfile

import pytest

from test.packaging.environments import (
    ROOT,
    build_environment,
    copy_sources,
    environment_with,
    pip,
    run,
)

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]
SIZE_LIMIT_BYTES = 16_000_000


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Return the wheel, built with what pyproject.toml asks for."""
    work = tmp_path_factory.mktemp('wheel')
    sources = copy_sources(work / 'crowdhmt_ros')
    tools = build_environment()
    pip(tools, 'wheel', '--no-deps', '--no-build-isolation', '-w', work / 'dist', sources,
        cwd=work)
    (built,) = (work / 'dist').glob('*.whl')
    return built


@pytest.fixture(scope='module')
def robot(wheel):
    """Return an environment with the wheel and what it requires, apart from the source tree."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith('.dist-info/METADATA')]
        metadata = archive.read(name).decode()
    required = [line.split(': ', 1)[1] for line in metadata.splitlines()
                if line.startswith('Requires-Dist: ') and 'extra ==' not in line]
    folder = environment_with('robot', required, constraints=ROOT / 'constraints.txt')
    pip(folder, 'install', '--no-deps', '--force-reinstall', wheel)
    return folder


def python(folder, code):
    return run([folder / 'bin' / 'python', '-c', code], env={'PATH': '/usr/bin:/bin', 'HOME': '/'},
               cwd='/').stdout


def test_the_wheel_is_for_this_platform_and_small(wheel):
    assert re.fullmatch(r'crowdhmt_ros-[\d.]+-cp\d+-cp\d+-linux_x86_64\.whl', wheel.name)
    assert wheel.stat().st_size < SIZE_LIMIT_BYTES


def test_the_wheel_holds_code_interfaces_bundles_and_share(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = f'{wheel.name.split("-cp")[0]}.data/data/share'
    sources = wheel.parents[1] / 'crowdhmt_ros'
    for path in (sources / 'crowdhmt_ros').rglob('*'):
        name = path.relative_to(sources).as_posix()
        if path.is_file() and '__pycache__' not in name:
            assert name in names, name
    assert {'crowdhmt_ros/msg/_plan.py', 'crowdhmt_ros/srv/_run_segment.py'} <= names
    assert {f'{data}/crowdhmt_ros/{name}' for name in (
        'package.xml', 'launch/vehicle.launch.py', 'config/vehicle.yaml',
        'config/scenarios/campus_minute.yaml', 'msg/Plan.msg')} <= names
    assert f'{data}/ament_index/resource_index/packages/crowdhmt_ros' in names
    assert not {name for name in names if name.startswith(('test/', 'build/', 'benchmarks/'))}


def test_commands_run_with_no_environment_and_without_training_libraries(robot):
    env = {'PATH': '/usr/bin:/bin', 'HOME': '/'}
    done = run([robot / 'bin' / 'crowdhmt', '--help'], env=env, cwd='/')
    assert 'demo' in done.stdout
    python(robot, 'import importlib.util as u, sys\n'
           'sys.exit(any(u.find_spec(n) for n in ("torch", "onnx", "pymoo", "scipy")))')


def test_messages_scenarios_and_the_bundle_are_found(robot):
    said = python(robot, """
import crowdhmt_ros, crowdhmt_ros.msg as m
from rclpy.serialization import serialize_message
serialize_message(m.Plan())
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.profiling.devices import load_device
load_scenario('campus_minute'), load_device('generic_x86')
print(len(open_bundle('campus7').classes))
print(crowdhmt_ros.__file__)
""").splitlines()
    assert said[-2] == '7'
    assert said[-1].startswith(str(robot))
    assert sys.prefix not in said[-1]
