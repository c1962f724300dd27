# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot imports: no training library, and Python 3.8."""
import json
import subprocess
import sys

import pytest

from .test_layers import PACKAGE, ROOT, imports_of, room_of, sources

HEAVY = ('torch', 'torchvision', 'pymoo', 'onnx', 'scipy', 'matplotlib', 'pandas')
# The offline half: it trains, searches, or writes bundles. The command line runs anywhere.
OFFLINE_ROOMS = {'graph', 'elastic', 'tta', 'tasks', 'cli', 'dashboard'}
OFFLINE_FILES = {'bundle/writer.py', 'bundle/writer_graphs.py', 'bundle/writer_fusion.py',
                 'bundle/writer_precision.py', 'bundle/reopen.py', 'bundle/adopt.py',
                 'planner/pareto.py', 'campus/dataset.py'}

BLOCKED_IMPORT = """
import importlib, json, sys
blocked = set(json.loads(sys.argv[1]))
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in blocked:
            raise ImportError('%s is not for robots' % name)
sys.meta_path.insert(0, Blocker())
failed = {}
for name in json.loads(sys.argv[2]):
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""


def robot_sources():
    return [p for p in sources() if room_of(p) not in OFFLINE_ROOMS
            and p.relative_to(PACKAGE).as_posix() not in OFFLINE_FILES]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def import_blocked(names, blocked):
    done = subprocess.run(
        [sys.executable, '-c', BLOCKED_IMPORT, json.dumps(blocked), json.dumps(names)],
        capture_output=True, text=True, timeout=120, check=False, cwd=str(ROOT))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_core_imports_without_training_libraries_and_without_ros():
    names = [module_name(p) for p in robot_sources() if room_of(p) != 'nodes']
    assert len(names) > 10
    assert import_blocked(names, [*HEAVY, 'rclpy', 'rosbags']) == {}


def test_nodes_import_without_training_libraries():
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    names = [module_name(p) for p in robot_sources() if room_of(p) == 'nodes']
    assert import_blocked(names, list(HEAVY)) == {}


def test_the_command_line_shows_help_without_training_libraries():
    names = ['crowdhmt_ros.cli.' + n for n in ('main', 'demo', 'up', 'doctor', 'replay', 'loss',
                                               'bench', 'reference', 'keys')]
    assert import_blocked(names, [*HEAVY, 'rclpy', 'rosbags']) == {}


def test_robot_side_is_python_3_8():
    pytest.importorskip('vermin', reason='vermin is not installed (extra dev)')
    done = subprocess.run(
        [sys.executable, '-c', 'from vermin import main; main()', '-t=3.8-', '--no-tips',
         '--violations', *map(str, robot_sources())],
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_no_robot_side_file_names_a_training_library():
    for path in robot_sources():
        tops = {name.split('.')[0] for name in imports_of(path)}
        assert not tops & set(HEAVY), path
