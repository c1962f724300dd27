# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest

from crowdhmt_ros import machine_lock


@pytest.fixture(autouse=True)
def _own_lock(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_lock, 'lock_path', lambda: tmp_path / 'lock')
    monkeypatch.setattr(machine_lock, 'POLL_S', 0.01)


def test_machine_is_free_before_and_after_it_is_held():
    assert not machine_lock.is_held()
    with machine_lock.hold_machine():
        assert machine_lock.is_held()
    assert not machine_lock.is_held()


def test_nobody_waits_for_a_free_machine():
    assert machine_lock.wait_while_held() == 0.0


def test_waiting_ends_when_the_machine_is_released():
    release, held = threading.Event(), threading.Event()

    def hold():
        with machine_lock.hold_machine():
            held.set()
            release.wait(10.0)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10.0)
    threading.Timer(0.05, release.set).start()
    assert machine_lock.wait_while_held() > 0.0
    assert not machine_lock.is_held()
    holder.join()


def test_lock_is_released_when_the_measurement_fails():
    with pytest.raises(RuntimeError), machine_lock.hold_machine():
        raise RuntimeError
    assert not machine_lock.is_held()
