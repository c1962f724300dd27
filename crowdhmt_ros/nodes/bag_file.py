# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A rosbag2 recording (mcap or sqlite3) as raw messages; free of ROS.

Messages stay the bytes that were recorded, so that a bag with types that this machine does not
know, or with no type definitions at all, can be played.
"""
from __future__ import annotations

import math
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Sequence, Tuple

from crowdhmt_ros.errors import ConfigError, SourceError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
BATTERY_TYPE = 'sensor_msgs/msg/BatteryState'
_CDR_HEADER_BYTES = 4
_STAMPED_BYTES = _CDR_HEADER_BYTES + 8


@dataclass(frozen=True)
class BagMessage:
    """
    One recorded message.

    :param topic: as recorded
    :param time_ns: when it was recorded
    :param data: CDR bytes with their 4-byte head
    """

    topic: str
    time_ns: int
    data: bytes


class Bag:
    """
    An open recording; see `open_bag`.

    :param path: where it is
    :param reader: of rosbags
    """

    def __init__(self, path: Path, reader: Any) -> None:
        self.path = path
        self._reader = reader
        self.types: Mapping[str, str] = {c.topic: c.msgtype for c in reader.connections}
        self.start_ns: int = reader.start_time
        self.end_ns: int = reader.end_time

    def messages(self, topics: Sequence[str], *, duration_s: float = math.inf
                 ) -> Iterator[BagMessage]:
        """
        Yield the messages of some topics in recorded order.

        :param duration_s: only those recorded so soon after the start
        :raises SourceError: the recording is damaged from here on
        """
        wanted = [c for c in self._reader.connections if c.topic in set(topics)]
        if not wanted:
            return
        stream = self._reader.messages(connections=wanted)
        while True:
            try:
                connection, time_ns, data = next(stream)
            except StopIteration:
                return
            except Exception as error:
                raise SourceError(f'{self.path} is damaged: {error}') from error
            if time_ns - self.start_ns > duration_s * 1e9:
                return
            yield BagMessage(connection.topic, time_ns, data)

    def topics_in_words(self) -> str:
        """Return every topic with its type."""
        return ', '.join(f'{name} [{kind}]' for name, kind in sorted(self.types.items()))

    def the_topic(self, wanted: str, kinds: Sequence[str], *, parameter: str,
                  needed: bool = True) -> str:
        """
        Return the topic to play for a role.

        :param wanted: as asked for, '' for the only one of the right type
        :param kinds: types that fit
        :param parameter: name to use in the message
        :param needed: whether the role must be played
        :returns: '' where nothing fits and nothing is needed
        :raises ConfigError: no such topic, a wrong type, or more than one fits
        """
        fitting = sorted(name for name, kind in self.types.items() if kind in kinds)
        said = f'the bag {self.path} holds {self.topics_in_words() or "no topic"}'
        if wanted:
            if wanted not in self.types:
                raise ConfigError(f'{parameter} is {wanted!r}, {said}')
            if self.types[wanted] not in kinds:
                raise ConfigError(f'{parameter} is {wanted!r} of type {self.types[wanted]}, '
                                  f'it must be {" or ".join(kinds)}; {said}')
            return wanted
        if len(fitting) > 1:
            raise ConfigError(f'{parameter} is empty and the bag has {", ".join(fitting)}: '
                              'name one of them')
        if needed and not fitting:
            raise ConfigError(f'{parameter}: no topic of type {" or ".join(kinds)}; {said}')
        return fitting[0] if fitting else ''


@contextmanager
def open_bag(path: str) -> Iterator[Bag]:
    """
    Open a recording.

    :param path: rosbag2 directory, .mcap or .db3 file
    :raises ConfigError: there is none, or it is none that can be read, or rosbags is missing
    """
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise ConfigError('bags are read by the Python package rosbags, which is not installed '
                          'here: pip install rosbags') from error
    place = Path(path).expanduser()
    if not path or not place.exists():
        raise ConfigError(f'bag is {path!r}, there is no such directory or file')
    try:
        reader = Reader(place)
        reader.open()
    except Exception as error:
        raise ConfigError(f'bag {path} cannot be read ({error}): give a rosbag2 directory, a '
                          '.mcap or a .db3 file') from error
    try:
        yield Bag(place, reader)
    finally:
        reader.close()


def header_stamp_ns(data: bytes) -> int:
    """
    Return the stamp of a message that begins with a std_msgs/Header.

    :raises SourceError: it is too short to hold one
    """
    sec, nanosec = struct.unpack_from(_stamp_format(data), data, _CDR_HEADER_BYTES)
    return int(sec) * 1000000000 + int(nanosec)


def restamped(data: bytes, stamp_ns: int) -> bytes:
    """
    Return the message with another stamp in its std_msgs/Header.

    :raises SourceError: it is too short to hold one
    """
    changed = bytearray(data)
    struct.pack_into(_stamp_format(data), changed, _CDR_HEADER_BYTES,
                     *divmod(stamp_ns, 1000000000))
    return bytes(changed)


def _stamp_format(data: bytes) -> str:
    if len(data) < _STAMPED_BYTES:
        raise SourceError(f'the recording is damaged: a message of {len(data)} bytes is too short '
                          'for the stamp that its type begins with')
    return '<iI' if data[1] & 1 else '>iI'


@dataclass(frozen=True)
class Rescale:
    """
    A straight line that maps recorded charge to another range.

    :param first: recorded ratio that becomes `high`
    :param last: recorded ratio that becomes `low`
    """

    first: float
    last: float
    high: float
    low: float

    def __call__(self, ratio: float) -> float:
        """Return the mapped ratio; what lies outside the two ends is held at them."""
        part = (ratio - self.first) / (self.last - self.first)
        return self.high + min(1.0, max(0.0, part)) * (self.low - self.high)


def parse_range(text: str) -> Tuple[float, float]:
    """
    Read 'hi:lo'.

    :raises ConfigError: anything but two ratios
    """
    parts = text.split(':')
    try:
        values: List[float] = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != 2 or not all(0.0 <= value <= 1.0 for value in values):
        raise ConfigError(f"battery_rescale is {text!r}, it must be 'hi:lo' with ratios 0..1, "
                          'for example 0.9:0.15')
    return values[0], values[1]


def rescale_for(text: str, recorded: Sequence[float]) -> Rescale:
    """
    Return the line for a recording.

    :param text: 'hi:lo'
    :param recorded: charge ratios in recorded order, unknown ones left out
    :raises ConfigError: a wrong text, or a recording whose charge does not change
    """
    high, low = parse_range(text)
    if not recorded or recorded[0] == recorded[-1]:
        raise ConfigError('battery_rescale needs a recorded charge that changes from the first '
                          'to the last message')
    return Rescale(recorded[0], recorded[-1], high, low)
