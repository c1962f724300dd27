# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a ROS of their own, and the folder with recorded data."""
import importlib.util
import os
from pathlib import Path

import pytest

from crowdhmt_ros.cli.domains import draw_domain

ROOT = Path(__file__).resolve().parents[1]
NO_ROS = 'ROS 2 or the generated messages are not installed: run make setup'
NO_DATA = 'CROWDHMT_DATA names no folder: set it to a copy of the data sets'

# What pytest-xdist tells a worker; absent where tests run one after another.
WORKERS = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
# What takes longest goes first, so that no worker is left alone with it at the end.
LONG = ('packaging/test_colcon', 'e2e/test_demo', 'e2e/test_pair', 'e2e/test_bag',
        'packaging/test_wheel', 'ros/test_bag_player', 'ros/test_fleet', 'packaging/test_floor',
        'ros/', 'cli/test_interrupts', 'cli/test_train', 'elastic/test_sync_norms',
        'elastic/teaching/test_trainer')
ALONE = {
    'test_executor.py': ('test_nine_of_ten_resident_switches_take_at_most_200_us',
                         'test_an_answer_costs_little_over_engine_and_preprocessing'),
    'test_loop.py': ('test_a_step_over_a_thousand_candidates_takes_milliseconds',
                     'test_a_step_over_a_usual_front_takes_less_than_five_milliseconds'),
    'campus/test_scene.py': ('test_thousands_of_scenes_are_affordable',),
    'engine/test_onnxruntime.py': ('test_a_run_costs_little_over_the_bare_session',),
    # Four playbacks at once compare what was decided at a recorded moment: they fill the machine.
    'ros/test_bag_player.py': ('test_in_lockstep_every_frame_is_answered_once',
                               'test_each_plan_knows_the_battery_that_was_recorded_last',
                               'test_a_battery_that_falls_brings_a_cheaper_plan',
                               'test_neither_rate_nor_pace_nor_repetition_changes_a_plan'),
}
"""Tests that hold a time to a limit: they are marked `alone`, and nothing runs beside them."""


# Several workers share the processors: threads of torch that wait for each other would only spin.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
# Before any test starts a node or a process: nobody else on this machine or network is reached.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
if WORKERS > 1 or 'ROS_DOMAIN_ID' not in os.environ:  # workers inherit one and the same
    os.environ['ROS_DOMAIN_ID'] = str(draw_domain())


def has_ros():
    """Whether rclpy and this package's messages can be imported, without importing them."""
    return (importlib.util.find_spec('rclpy') is not None
            and (ROOT / 'crowdhmt_ros' / 'msg' / '__init__.py').is_file())


def data_folder():
    """Return the folder that CROWDHMT_DATA names, None without one."""
    folder = Path(os.environ.get('CROWDHMT_DATA', ''))
    return folder if os.environ.get('CROWDHMT_DATA') and folder.is_dir() else None


def place_of(item):
    """Return the file of a test, relative to this folder."""
    return item.path.relative_to(ROOT / 'test').as_posix()


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item, 'originalname', item.name) in ALONE.get(place_of(item), ()):
            item.add_marker('alone')
    if WORKERS > 1:
        items.sort(key=lambda item: next(
            (rank for rank, start in enumerate(LONG) if place_of(item).startswith(start)),
            len(LONG)))
    missing = {'ros': None if has_ros() else NO_ROS, 'data': None if data_folder() else NO_DATA}
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope='session')
def data_dir():
    """Folder with the recorded data; the test is skipped where there is none."""
    folder = data_folder()
    if folder is None:
        pytest.skip(NO_DATA)
    return folder


@pytest.fixture(scope='session')
def root():
    """Folder of the source tree."""
    return ROOT


@pytest.fixture(scope='session')
def ros_domain():
    """Draws a ROS domain that nobody else on this machine has drawn."""
    return lambda: str(draw_domain())
