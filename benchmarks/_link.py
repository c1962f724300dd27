# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Two network namespaces with a bad link between them. Needs root and /dev/net/tun.

The link is a process of its own that carries every packet from one TUN device to the other, late,
at a rate, and not always. It is told another shape by a line of JSON on its input.
"""
from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from crowdhmt_ros.cli.processes import ProcessError

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
DEVICE = 'link0'
ADDRESSES = ('10.78.0.1', '10.78.0.2')
PACKET_BYTES = 2048
BURST = 64
IDLE_S = 0.5
START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Shape:
    """
    How bad a link is, the same in both directions.

    :param delay_s: of each packet, one way
    :param bytes_per_s: rate
    :param loss_ratio: share of packets that vanish, by chance
    :param queue_s: what would wait longer than this for its turn is dropped
    :param cut: nothing passes
    """

    delay_s: float = 0.0
    bytes_per_s: float = 12.5e6
    loss_ratio: float = 0.0
    queue_s: float = 0.3
    cut: bool = False


class Direction:
    """What is on its way from one end to the other."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._free_s = 0.0
        self._count = 0
        self._on_way: List[Tuple[float, int, bytes]] = []

    def enter(self, packet: bytes, now_s: float, shape: Shape) -> None:
        """Take a packet in, or drop it."""
        start_s = max(now_s, self._free_s)
        if shape.cut or self._chance.random() < shape.loss_ratio \
                or start_s - now_s > shape.queue_s:
            return
        self._free_s = start_s + len(packet) / shape.bytes_per_s
        self._count += 1
        heapq.heappush(self._on_way, (self._free_s + shape.delay_s, self._count, packet))

    def due(self, now_s: float) -> List[bytes]:
        """Return the packets that arrive now, in order."""
        found = []
        while self._on_way and self._on_way[0][0] <= now_s:
            found.append(heapq.heappop(self._on_way)[2])
        return found

    def next_s(self) -> float:
        """Return when the next packet arrives, infinity without one."""
        return self._on_way[0][0] if self._on_way else float('inf')


def open_tun(name: str) -> int:
    """Return the descriptor of a new TUN device of this namespace."""
    tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack('16sH', name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def ip(*words: str) -> None:
    """
    Run `ip WORDS`.

    :raises ProcessError: when it fails
    """
    done = subprocess.run(['ip', *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessError('ip %s: %s' % (' '.join(words), done.stderr.strip()))


def attach(namespace: str, address: str, name: str) -> int:
    """Return the descriptor of a device that was made here and put into a namespace."""
    tun = open_tun(name)
    ip('link', 'set', name, 'netns', namespace)
    ip('-n', namespace, 'link', 'set', name, 'name', DEVICE)
    ip('-n', namespace, 'addr', 'add', address + '/24', 'dev', DEVICE)
    ip('-n', namespace, 'link', 'set', DEVICE, 'up', 'mtu', '1500', 'multicast', 'on')
    ip('-n', namespace, 'link', 'set', 'lo', 'up')
    ip('-n', namespace, 'route', 'add', '224.0.0.0/4', 'dev', DEVICE)
    return tun


def take_in(end: int, direction: Direction, shape: Shape) -> None:
    """Read what waits at one end."""
    for _ in range(BURST):
        try:
            packet = os.read(end, PACKET_BYTES)
        except BlockingIOError:
            return
        direction.enter(packet, time.monotonic(), shape)


def put_out(end: int, packets: Sequence[bytes]) -> None:
    """Write packets to one end; a full or closed one drops them, as a radio would."""
    for packet in packets:
        try:
            os.write(end, packet)
        except OSError:
            continue


def carry(ends: Tuple[int, int], shape: Shape, *, seed: int = 0) -> None:
    """Carry packets between both ends until the input of this process ends."""
    ways = {ends[0]: (Direction(seed), ends[1]), ends[1]: (Direction(seed + 1), ends[0])}
    while True:
        next_s = min(way.next_s() for way, _ in ways.values())
        wait_s = min(IDLE_S, max(0.0, next_s - time.monotonic()))
        ready, _, _ = select.select([*ends, sys.stdin], [], [], wait_s)
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            shape = Shape(**json.loads(line))
        for end in ends:
            if end in ready:
                take_in(end, ways[end][0], shape)
            direction, other = ways[end]
            put_out(other, direction.due(time.monotonic()))


def why_not() -> str:
    """Return why no namespaces can be made here, '' when they can."""
    if os.geteuid() != 0:
        return 'network namespaces need root'
    if shutil.which('ip') is None:
        return 'the command ip is missing: install iproute2'
    if not Path('/dev/net/tun').exists():
        return 'there is no /dev/net/tun'
    name = 'hmt%dt' % os.getpid()
    try:
        ip('netns', 'add', name)
    except ProcessError as error:
        return 'no network namespace can be made: %s' % error
    ip('netns', 'del', name)
    return ''


class LinkedPair:
    """
    Two namespaces and the link between them; a context manager.

    :param shape: at first
    :param seed: of the losses
    """

    def __init__(self, shape: Shape, *, seed: int = 0) -> None:
        self.shape = shape
        self._seed = seed
        self.namespaces = tuple('hmt%d%s' % (os.getpid(), end) for end in 'ab')
        self._process: Any = None

    def __enter__(self) -> LinkedPair:
        try:
            for name in self.namespaces:
                ip('netns', 'add', name)
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'benchmarks._link', *self.namespaces, str(self._seed),
                 json.dumps(asdict(self.shape))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, cwd=str(Path(__file__).resolve().parents[1]))
            if self._process.stdout.readline().strip() != 'ready':
                raise ProcessError('the link did not start: %s' % self._process.stderr.read())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def prefix(self, end: int) -> Tuple[str, ...]:
        """Return what goes before a command line that is to run at one end, 0 or 1."""
        return ('ip', 'netns', 'exec', self.namespaces[end])

    def reshape(self, **changes: Any) -> None:
        """Change some fields of the shape, at once."""
        self.shape = replace(self.shape, **changes)
        self._process.stdin.write(json.dumps(asdict(self.shape)) + '\n')
        self._process.stdin.flush()

    def close(self) -> None:
        """Take everything down; safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.stdin.close()
            try:
                process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            process.stderr.close()
        for name in self.namespaces:
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True, check=False)


def environment() -> Dict[str, str]:
    """Return what a robot at one end needs of ROS: UDP alone, and the whole subnet."""
    # Fast DDS would pass by the link through shared memory, which namespaces do not part.
    return {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET',
            'ROS_LOCALHOST_ONLY': '0'}


def main() -> int:
    """Attach both ends and carry."""
    first, second, seed, shape = sys.argv[1:5]
    ends = (attach(first, ADDRESSES[0], 'hmt%da' % os.getpid()),
            attach(second, ADDRESSES[1], 'hmt%db' % os.getpid()))
    print('ready', flush=True)
    carry(ends, Shape(**json.loads(shape)), seed=int(seed))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
