# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A bag made of campus frames, for machines without recorded ones."""
import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.campus.world import World

START_NS = 1800000000 * 10**9
OWN_TYPE = 'my_robot_msgs/msg/Wheels'


def write_campus_bag(path, *, seconds=8.0, image_hz=10.0, battery_hz=5.0, mcap=True,
                     damaged_after=None):
    """
    Frames, a battery that falls from 0.80 to 0.76 and stays there, a load, an unknown type.

    :param damaged_after: so many frames are whole, the others a few bytes
    """
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(get_types_from_msg('float64 left\nfloat64 right\n', OWN_TYPE))
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    rows = sorted([*_images(types, seconds, image_hz), *_batteries(types, seconds, battery_hz),
                   *_others(types, seconds)], key=lambda row: row[1])
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections, frames = {}, 0
        for topic, stamp_ns, kind, message in rows:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=types)
            data = types.serialize_cdr(message, kind)
            frames += topic == '/front/image'
            if damaged_after is not None and frames > damaged_after and topic == '/front/image':
                data = data[:5]
            writer.write(connections[topic], stamp_ns, data)
    return path


def _header(types, stamp_ns):
    time = types.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
    return types.types['std_msgs/msg/Header'](stamp=time, frame_id='front')


def _images(types, seconds, rate_hz):
    kind = 'sensor_msgs/msg/Image'
    world = World(load_scenario('campus_minute'), 'vehicle', 5)
    for number in range(int(seconds * rate_hz)):
        image, _ = world.frame_at(number / rate_hz)
        image = cv2.resize(image, (160, 120))
        stamp_ns = START_NS + int(number / rate_hz * 1e9)
        yield '/front/image', stamp_ns, kind, types.types[kind](
            header=_header(types, stamp_ns), height=120, width=160, encoding='bgr8',
            is_bigendian=0, step=480, data=image.reshape(-1))


def _batteries(types, seconds, rate_hz):
    kind = 'sensor_msgs/msg/BatteryState'
    count = int(seconds * rate_hz)
    low = int(0.75 * count)
    for number in range(count):
        # Apart from the frames: of two messages of one instant, none is the last.
        stamp_ns = START_NS + int((number / rate_hz + 0.03) * 1e9)
        yield '/power', stamp_ns, kind, types.types[kind](
            header=_header(types, stamp_ns), voltage=12.0, temperature=np.nan, current=-1.0,
            charge=np.nan, capacity=np.nan, design_capacity=np.nan,
            percentage=0.8 - 0.04 * min(1.0, number / low), power_supply_status=2,
            power_supply_health=1, power_supply_technology=3, present=True,
            cell_voltage=np.zeros(0, np.float32), cell_temperature=np.zeros(0, np.float32),
            location='', serial_number='')


def _others(types, seconds):
    for number in range(int(seconds)):
        stamp_ns = START_NS + number * 10**9 + 1000
        yield '/load', stamp_ns, 'std_msgs/msg/Float32', types.types['std_msgs/msg/Float32'](0.25)
        yield '/wheels', stamp_ns, OWN_TYPE, types.types[OWN_TYPE](left=1.0, right=2.0)
