# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of one process: none is left behind for good, none is taken from a living process."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crowdhmt_ros.engine.memory import own_folder as module
from crowdhmt_ros.engine.memory.own_folder import own_folder, sweep

ROOT = Path(__file__).resolve().parents[3]
OWNER = """
import sys
from pathlib import Path
from crowdhmt_ros.engine.memory.own_folder import own_folder
with own_folder(Path(sys.argv[1]), '.own-') as folder:
    (folder / 'weights').write_text('0')
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    """Another process with a folder, and the folder."""
    process = subprocess.Popen([sys.executable, '-c', OWNER, str(tmp_path)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env=dict(os.environ, PYTHONPATH=str(ROOT)))
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_a_folder_lasts_as_long_as_it_is_used(tmp_path):
    with own_folder(tmp_path, '.own-') as folder:
        (folder / 'weights').write_text('0')
        assert folder.parent == tmp_path
        assert sweep(tmp_path, '.own-') == 0, 'not even by another thread of its process'
        assert (folder / 'weights').exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(tmp_path, owner):
    process, folder = owner
    (tmp_path / 'kept').mkdir()
    assert sweep(tmp_path, '.own-', '.new-') == 0
    assert (folder / 'weights').exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.exists(), 'nobody could remove it'
    assert sweep(tmp_path, '.new-') == 0
    assert sweep(tmp_path, '.own-', '.new-') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['kept']


def test_one_that_is_swept_before_its_lock_is_held_is_made_again(tmp_path, monkeypatch):
    flock, swept = module.fcntl.flock, []

    def late(descriptor, how):
        if not swept and how == module.fcntl.LOCK_EX:
            swept.append(True)
            assert sweep(tmp_path, '.own-') == 1
        flock(descriptor, how)

    monkeypatch.setattr(module.fcntl, 'flock', late)
    with own_folder(tmp_path, '.own-') as folder:
        assert folder.is_dir()
        assert sweep(tmp_path, '.own-') == 0
    assert swept


def test_many_that_come_and_sweep_at_once_never_take_each_others(tmp_path):
    lost = []

    def work():
        for _ in range(40):
            sweep(tmp_path, '.own-')
            with own_folder(tmp_path, '.own-') as folder:
                (folder / 'weights').write_text('0')
                sweep(tmp_path, '.own-')
                lost.extend([] if (folder / 'weights').exists() else [folder])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_lies_there_is_nothing_to_sweep(tmp_path):
    assert sweep(tmp_path / 'nowhere', '.own-') == 0
