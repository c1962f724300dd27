# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The drone's engine killed and stopped in the middle of a request: real processes and sockets."""
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('nothing_left_running')]


@pytest.fixture
def faults(robot_environment, monkeypatch):
    for name, value in robot_environment.items():
        monkeypatch.setenv(name, value)
    from benchmarks import _pair_faults
    return _pair_faults


@pytest.mark.parametrize('kind', ['kill', 'stop'])
def test_no_frame_is_lost_when_the_peer_dies_or_hangs_in_the_middle_of_a_request(
        faults, tmp_path, kind):
    outcome = faults.run_faults(tmp_path, kind, 3)
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert sum(fault.hit for fault in outcome.faults) >= 3
    # How soon, is for the bench on a quiet machine: other tests may run beside this one.
    assert all(fault.return_s is not None for fault in outcome.faults), outcome.faults
