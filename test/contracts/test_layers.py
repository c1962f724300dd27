# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: docs/architecture.md, Ranks."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'crowdhmt_ros'
NAME = 'crowdhmt_ros'
GENERATED = {'msg', 'srv', '_lib'}
RANKS = (
    {'types', 'errors', 'machine_lock', 'share'},
    {'graph'},
    {'resources', 'profiling', 'elastic', 'datasets', 'tta', 'offload', 'engine', 'vision'},
    {'planner', 'bundle'},
    {'hedge'},
    {'executor'},
    {'loop'},
    {'campus', 'dashboard', 'report'},
    {'calibrate_child'},
    {'first_start', 'choose_child'},
    {'choose_engines'},
    {'nodes'},
    {'tasks'},
    {'cli'},
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
ROS_PACKAGES = {'rclpy', 'rcl_interfaces', 'sensor_msgs', 'std_msgs', 'diagnostic_msgs',
                'lifecycle_msgs', 'rosgraph_msgs', 'builtin_interfaces', 'vision_msgs',
                'ament_index_python', 'launch', 'launch_ros'}
WITHOUT_ROS_IN_NODES = ('__init__', 'table', 'topics', 'params')


def sources():
    return [path for path in sorted(PACKAGE.rglob('*.py'))
            if path.relative_to(PACKAGE).parts[0] not in GENERATED]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports_of(path):
    """Return the dotted names that a file imports, relative imports resolved."""
    found = []
    folder = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(folder[:len(folder) - node.level + 1]) if node.level else []
            module = '.'.join([*base, *([node.module] if node.module else [])])
            found += ['%s.%s' % (module, alias.name) for alias in node.names]
    return found


def rooms_imported(path):
    return {name.split('.')[1] for name in imports_of(path)
            if name.startswith(NAME + '.') and name.split('.')[1][:1] != '_'}


def identify(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize('path', sources(), ids=identify)
def test_a_module_imports_lower_ranks_only_and_never_a_sibling(path):
    room = room_of(path)
    if room == '__init__':
        assert not rooms_imported(path)
        return
    assert room in RANK, '%s has no rank: name it in RANKS and docs/architecture.md' % room
    for other in rooms_imported(path) - {room} - GENERATED:
        assert other in RANK, '%s imports %s, which has no rank' % (path, other)
        if room in ('types', 'errors', 'machine_lock', 'share'):
            assert other == 'errors', '%s imports %s' % (path, other)
        else:
            assert RANK[other] < RANK[room], '%s (rank %d) imports %s (rank %d)' % (
                identify(path), RANK[room], other, RANK[other])


@pytest.mark.parametrize('path', [p for p in sources() if room_of(p) != 'nodes'], ids=identify)
def test_ros_is_imported_in_nodes_only(path):
    for name in imports_of(path):
        top = name.split('.')[0]
        assert top not in ROS_PACKAGES, '%s imports %s' % (identify(path), name)
        assert not name.startswith(('%s.msg' % NAME, '%s.srv' % NAME)), name


@pytest.mark.parametrize('name', WITHOUT_ROS_IN_NODES)
def test_what_launch_files_read_imports_neither_ros_nor_heavy_rooms(name):
    for imported in imports_of(PACKAGE / 'nodes' / (name + '.py')):
        assert imported.split('.')[0] not in ROS_PACKAGES, imported
        assert not imported.startswith(NAME) or imported.startswith(
            tuple(NAME + room for room in ('.nodes.', '.types', '.errors'))), imported


def re_raises(handler):
    """Tell whether a handler always passes the error on, as it is or as one of ours."""
    return isinstance(handler.body[-1], ast.Raise)


@pytest.mark.parametrize(
    'path', [p for p in sources() if room_of(p) not in ('cli', 'elastic')], ids=identify)
def test_no_broad_except_outside_the_command_line(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ExceptHandler) and not re_raises(node):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} \
                if node.type else {'bare'}
            assert not names & {'bare', 'Exception', 'BaseException'}, '%s:%d' % (
                identify(path), node.lineno)
