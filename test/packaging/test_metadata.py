# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What pip, colcon and the process table say about the package agrees."""
import importlib.util
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ET
from unittest import mock

import pytest

import crowdhmt_ros
from crowdhmt_ros.nodes.table import NODES, PROCESSES

from .environments import ROOT

OFFLINE = ('torch', 'onnx', 'pymoo', 'scipy', 'matplotlib')


@pytest.fixture(scope='module')
def pip_metadata():
    """Return the arguments that setup.py gives to setuptools."""
    with mock.patch('setuptools.setup') as setup:
        runpy.run_path(str(ROOT / 'setup.py'))
    return setup.call_args.kwargs


@pytest.fixture(scope='module')
def colcon_executables():
    text = (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')
    block = text[text.index('set(executables'):]
    return dict(re.findall(r'^  ([a-z_]+)=([a-z_.]+:[a-z_]+)\)?$', block, re.MULTILINE))


def test_one_version(pip_metadata):
    package = ET.parse(ROOT / 'package.xml').getroot()
    assert package.findtext('version') == pip_metadata['version'] == crowdhmt_ros.__version__
    assert package.findtext('name') == 'crowdhmt_ros'
    assert package.findtext('export/build_type') == 'ament_cmake'


def test_every_process_and_node_of_the_table_is_a_command_both_ways(
        pip_metadata, colcon_executables):
    table = {entry.name: f'nodes.{entry.name}:main' for entry in NODES}
    table.update({process.name: f'nodes.process:main_{process.name}' for process in PROCESSES})
    table['crowdhmt'] = 'cli.main:main'
    assert colcon_executables == table
    scripts = dict(line.split('=') for line in pip_metadata['entry_points']['console_scripts'])
    assert scripts == {
        'crowdhmt' if name == 'crowdhmt' else 'crowdhmt-' + name.replace('_', '-'):
        f'crowdhmt_ros.{entry}' for name, entry in table.items()}


def test_every_command_exists(colcon_executables):
    for entry in colcon_executables.values():
        module, _, function = entry.partition(':')
        path = ROOT / 'crowdhmt_ros' / (module.replace('.', '/') + '.py')
        assert f'def {function}(' in path.read_text(encoding='utf-8'), entry


def test_a_robot_needs_no_library_of_the_workstation(pip_metadata):
    names = [re.split(r'[\[<>=~!]', line)[0] for line in pip_metadata['install_requires']]
    assert not set(names) & set(OFFLINE)
    assert {'ros-rclpy', 'numpy', 'onnxruntime', 'opencv-python-headless'} <= set(names)
    assert {'train', 'search', 'report', 'openvino', 'ncnn', 'dev'} == set(
        pip_metadata['extras_require'])


def test_what_the_benches_draw_with_is_installed_with_the_extra_that_the_error_names(
        pip_metadata):
    names = [re.split(r'[\[<>=~!]', line)[0] for line in pip_metadata['extras_require']['dev']]
    assert 'matplotlib' in names
    text = (ROOT / 'benchmarks' / '_training_page.py').read_text(encoding='utf-8')
    assert 'install the extra dev' in text


def test_generated_modules_are_not_packed_from_the_source_tree(pip_metadata):
    packages = set(pip_metadata['packages'])
    assert {'crowdhmt_ros', 'crowdhmt_ros.nodes', 'crowdhmt_ros.cli'} <= packages
    assert not {name for name in packages if name.split('.')[-1] in ('msg', 'srv', '_lib')}
    assert not {name for name in packages if name.split('.')[0] != 'crowdhmt_ros'}


def test_what_builds_generate_is_ignored_and_the_interfaces_are_not():
    def ignored(name):
        return subprocess.run(['git', 'check-ignore', '-q', name], cwd=ROOT,
                              check=False).returncode == 0

    assert not ignored('msg/Plan.msg')
    assert not ignored('srv/RunSegment.srv')
    assert not ignored('crowdhmt_ros/bundles/campus7/weights.bin')
    for name in ('crowdhmt_ros/msg/_plan.py', 'crowdhmt_ros/srv/__init__.py',
                 'crowdhmt_ros/_lib/lib.so', 'crowdhmt_ros/a.so', '.venv/bin/python', 'build/x',
                 'install/x', 'log/x'):
        assert ignored(name), name


def test_a_setup_cfg_would_break_humble():
    assert not (ROOT / 'setup.cfg').exists()


def run_setup(patch):
    code = '\n'.join((
        'import platform, runpy, sys', patch, 'sys.argv = ["setup.py", "--version"]',
        'runpy.run_path("setup.py", run_name="__main__")'))
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          check=False)


def test_an_arm_board_is_told_in_one_line_to_build_with_colcon():
    done = run_setup('platform.machine = lambda: "aarch64"')
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert 'aarch64' in done.stderr
    assert 'colcon build --packages-select crowdhmt_ros' in done.stderr


def test_the_wheels_that_an_arm_board_lacks_do_not_hide_that_line():
    build = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    ros = re.findall(r'^  "(ros-[^"]+)",$', build, re.MULTILINE)
    assert len(ros) > 5
    assert all(line.endswith("platform_machine == 'x86_64'") for line in ros)


def test_a_missing_compiler_is_named_with_the_apt_line(monkeypatch):
    with mock.patch('setuptools.setup'):
        module = runpy.run_path(str(ROOT / 'setup.py'))
    for name in ('CC', 'CXX'):
        monkeypatch.delenv(name, raising=False)
    with mock.patch('shutil.which', return_value=None), pytest.raises(
            SystemExit, match=r'needs gcc, g\+\+: sudo apt-get install gcc g\+\+'):
        module['refuse_missing_compiler']()


@pytest.mark.ros
def test_the_message_libraries_are_there_without_any_environment_variable():
    origin = importlib.util.find_spec('crowdhmt_ros').origin
    done = subprocess.run(
        [sys.executable, '-c',
         ('import crowdhmt_ros.msg as m\n'
          'from rclpy.serialization import serialize_message\n'
          'print(len(serialize_message(m.Plan(robot_id="vehicle"))))')],
        env={'PATH': '/usr/bin:/bin', 'HOME': '/'}, cwd='/', capture_output=True, text=True,
        check=False)
    assert done.returncode == 0, f'{origin}: {done.stderr}'
    assert int(done.stdout) > 100
