# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import struct
import sys

import pytest

from crowdhmt_ros.errors import ConfigError, SourceError
from crowdhmt_ros.nodes.bag_file import (
    IMAGE_TYPES,
    header_stamp_ns,
    open_bag,
    parse_range,
    rescale_for,
    restamped,
)


def cdr(stamp_ns, little=True):
    head = b'\x00\x01\x00\x00' if little else b'\x00\x00\x00\x00'
    return head + struct.pack('<iI' if little else '>iI', *divmod(stamp_ns, 10**9)) + b'rest'


@pytest.mark.parametrize('little', [True, False])
def test_a_stamp_is_read_and_replaced_in_the_raw_bytes(little):
    data = cdr(1700000000123456789, little)
    assert header_stamp_ns(data) == 1700000000123456789
    changed = restamped(data, 5000000007)
    assert header_stamp_ns(changed) == 5000000007
    assert changed[12:] == data[12:]


def test_a_charge_is_mapped_from_first_and_last_to_the_range_and_held_there():
    line = rescale_for('0.9:0.15', [0.8, 0.79, 0.7])
    assert line(0.8) == pytest.approx(0.9)
    assert line(0.7) == pytest.approx(0.15)
    assert line(0.75) == pytest.approx(0.525)
    assert line(0.9) == pytest.approx(0.9)
    assert line(0.1) == pytest.approx(0.15)


@pytest.mark.parametrize('text', ['', '0.9', '0.9:x', '90:15', '0.9:0.5:0.1'])
def test_a_wrong_range_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r'0\.9:0\.15'):
        parse_range(text)


def test_a_charge_that_does_not_change_cannot_be_mapped():
    for recorded in ([], [0.5], [0.5, 0.6, 0.5]):
        with pytest.raises(ConfigError, match='a recorded charge that changes'):
            rescale_for('0.9:0.1', recorded)


@pytest.mark.parametrize('make', [lambda folder: folder / 'no', lambda folder: folder])
def test_what_is_no_bag_is_one_line(tmp_path, make):
    with pytest.raises(ConfigError) as caught, open_bag(str(make(tmp_path))):
        pass
    assert '\n' not in str(caught.value)


@pytest.mark.data
def test_a_recording_without_images_is_one_line_with_its_topics(data_dir):
    path = data_dir / 'bags' / 'recorded' / 'abitobot_imu_joint_states.mcap'
    with open_bag(str(path)) as bag, pytest.raises(ConfigError) as caught:
        bag.the_topic('', IMAGE_TYPES, parameter='image_topic')
    assert '/imu/data [sensor_msgs/msg/Imu]' in str(caught.value)


@pytest.mark.data
def test_the_beginning_alone_can_be_read(data_dir):
    with open_bag(str(data_dir / 'bags' / 'street_battery_mcap')) as bag:
        part = list(bag.messages(['/battery_state'], duration_s=2.0))
    assert 9 <= len(part) <= 11


@pytest.mark.parametrize('size', [0, 1, 4, 11])
def test_a_message_too_short_for_a_stamp_is_a_damaged_recording(size):
    for read in (header_stamp_ns, lambda data: restamped(data, 5)):
        with pytest.raises(SourceError, match=f'message of {size} bytes is too short'):
            read(cdr(7)[:size])


def test_without_rosbags_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'rosbags.rosbag2', None)
    with pytest.raises(ConfigError, match='pip install rosbags'), open_bag(str(tmp_path)):
        pass
