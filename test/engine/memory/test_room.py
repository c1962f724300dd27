# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from crowdhmt_ros.engine.memory import room
from crowdhmt_ros.engine.memory.room import be_first_to_go, free_bytes, room_bytes

MB = 1 << 20


@pytest.fixture
def tree(tmp_path):
    """Return what writes groups: name -> (limit, used) in the files of a version."""
    def write(groups, line, names, below):
        for name, (limit, used) in groups.items():
            folder = tmp_path / below / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ('memory.' + names[0])).write_text('%s\n' % limit)
            (folder / ('memory.' + names[1])).write_text('%d\n' % used)
        (tmp_path / 'proc').write_text(line)
        return room_bytes(tmp_path / 'proc', tmp_path)
    return write


def test_version_1_says_what_is_left(tree):
    found = tree({'': (2 ** 63 - 4096, 9 * MB), 'robot': (50 * MB, 20 * MB)},
                 '5:cpu:/\n4:memory:/robot\n0::/other\n', ('limit_in_bytes', 'usage_in_bytes'),
                 'memory')
    assert found == 30 * MB


def test_version_2_says_what_is_left(tree):
    assert tree({'robot.slice/mind': (50 * MB, 20 * MB)}, '0::/robot.slice/mind\n',
                ('max', 'current'), '') == 30 * MB


def test_a_group_around_may_be_the_tightest(tree):
    assert tree({'robot.slice/mind': ('max', 20 * MB), 'robot.slice': (80 * MB, 70 * MB)},
                '0::/robot.slice/mind\n', ('max', 'current'), '') == 10 * MB


def test_a_group_that_is_full_leaves_nothing(tree):
    assert tree({'mind': (50 * MB, 51 * MB)}, '0::/mind\n', ('max', 'current'), '') == 0


def test_without_a_limit_there_is_no_number(tree, tmp_path):
    assert tree({'mind': ('max', 20 * MB)}, '0::/mind\n', ('max', 'current'), '') is None
    assert room_bytes(tmp_path / 'absent', tmp_path) is None


def test_inside_a_container_its_own_group_is_the_root(tree):
    assert tree({'': (50 * MB, 20 * MB)}, '0::/../../outside/name\n', ('max', 'current'),
                '') == 30 * MB


@pytest.mark.parametrize(('names', 'below', 'line', 'lists'), [
    (('limit_in_bytes', 'usage_in_bytes'), 'memory', '4:memory:/mind\n',
     ('total_inactive_file', 'total_active_file', 'total_mapped_file')),
    (('max', 'current'), '', '0::/mind\n', ('inactive_file', 'active_file', 'file_mapped'))])
def test_pages_of_files_that_nobody_mapped_count_as_free(tree, tmp_path, names, below, line,
                                                         lists):
    folder = tmp_path / below / 'mind'
    folder.mkdir(parents=True)
    numbers = dict(zip(lists, (12 * MB, 3 * MB, 5 * MB)))
    (folder / 'memory.stat').write_text('anon 77\n' + ''.join(
        '%s %d\n' % item for item in numbers.items()))
    assert tree({'mind': (50 * MB, 45 * MB)}, line, names, below) == 15 * MB


@pytest.mark.parametrize(('limit', 'share'), [(None, 1.0), (2 ** 60, 1.0), (MB, 0.0)])
def test_what_is_free_is_what_both_group_and_machine_leave(monkeypatch, limit, share):
    monkeypatch.setattr(room, 'room_bytes', lambda: limit)
    expected = psutil.virtual_memory().available if share else limit
    assert free_bytes() == pytest.approx(expected, rel=0.2)


def test_to_be_the_first_to_go_is_not_worth_failing_for(tmp_path):
    be_first_to_go(tmp_path / 'absent' / 'score')
    be_first_to_go(tmp_path / 'score')
    assert int((tmp_path / 'score').read_text()) == 1000


@pytest.mark.skipif(not Path('/proc/self/oom_score_adj').exists(), reason='needs /proc')
@pytest.mark.parametrize('module', ['choose_child', 'calibrate_child',
                                    'engine.memory.rewrite_child'])
def test_the_kernel_ends_what_works_behind_the_robot_before_the_robot(tmp_path, module):
    (tmp_path / 'sitecustomize.py').write_text(
        'import atexit\natexit.register(lambda: print("score", open('
        '"/proc/self/oom_score_adj").read()))\n')
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, '-m', 'crowdhmt_ros.' + module, '{}'], capture_output=True, text=True,
        check=False, env=dict(os.environ, PYTHONPATH='%s:%s' % (tmp_path, root)))
    assert done.stdout.split() == ['score', '1000'], done.stderr
