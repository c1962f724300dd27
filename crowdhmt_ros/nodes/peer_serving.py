# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From an opened bundle to a segment server with its doors; free of ROS."""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, Optional, Tuple

from crowdhmt_ros.errors import OffloadError
from crowdhmt_ros.nodes.engine_share import Engine
from crowdhmt_ros.nodes.params import OffloadServerParameters
from crowdhmt_ros.offload.channel import PROTOCOL_VERSION, ROS, ZEROMQ
from crowdhmt_ros.offload.leases import LeaseLimits
from crowdhmt_ros.offload.served import (
    TENSOR_CODECS,
    WHOLE_CODECS,
    Served,
    ServerSettings,
)
from crowdhmt_ros.offload.server import SegmentServer
from crowdhmt_ros.offload.trust import OWN, KeyStore, default_keys_dir
from crowdhmt_ros.types import Advert, EngineOptions, ResourceSnapshot
from crowdhmt_ros.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor

CODECS_OF_ROLE = {'whole': WHOLE_CODECS, 'tail': TENSOR_CODECS}
"""What peers may ask for: heads stay with who has the frame."""


@dataclass(frozen=True, eq=False)
class PeerServing:
    """
    A server and what leads to it.

    :param server: not started yet
    :param options: how it runs segments
    :param keys: None without keys: no door is open then
    :param door: the ZeroMQ door, bound and not started yet
    :param notes: what is not as it might be, one line each
    """

    server: SegmentServer
    options: EngineOptions
    keys: Optional[KeyStore]
    door: Optional[ZeroMQDoor]
    notes: Tuple[str, ...]

    def start(self) -> None:
        """Let peers in."""
        self.server.start()
        if self.door is not None:
            self.door.start()

    def close(self) -> None:
        """Answer what waits and close; safe to call twice."""
        self.server.stop()
        if self.door is not None:
            self.door.close()


def open_serving(engine: Engine, parameters: OffloadServerParameters, robot_id: str, *,
                 boot_id: Callable[[], str]) -> PeerServing:
    """
    Make the server of a robot and open its door for data.

    :param robot_id: own name
    :param boot_id: own one, '' while unknown
    :raises OffloadError: the address is in use, or not one of this machine
    :raises TrustError: the keys cannot be used
    """
    options = EngineOptions(backend=engine.backend.name, threads=parameters.engine_threads)
    server = SegmentServer(
        served_by(engine), engine.pool, engine.turns,
        prepare=Preprocessor(engine.bundle.input).into,
        settings=ServerSettings(robot_id, engine.bundle.sha256, options, LeaseLimits(
            leases=parameters.max_leases, memory_bytes=parameters.memory_bytes,
            longest_s=parameters.lease_s)))
    notes: List[str] = []
    keys = _keys(parameters, notes)
    door = None
    if keys is not None and parameters.data_door:
        door = _open_door(server, keys, parameters, boot_id, notes)
    return PeerServing(server, options, keys, door, tuple(notes))


def served_by(engine: Engine) -> Dict[str, Served]:
    """Return what peers may ask for: whole models and tails, as this robot has them."""
    entries = engine.bundle.manifest.segments
    return {name: Served(engine.segments[name], CODECS_OF_ROLE[entry.role])
            for name, entry in entries.items()
            if entry.role in CODECS_OF_ROLE and name in engine.segments}


def _keys(parameters: OffloadServerParameters, notes: List[str]) -> Optional[KeyStore]:
    folder = Path(parameters.keys_dir).expanduser() if parameters.keys_dir \
        else default_keys_dir()
    if not (folder / OWN).exists():
        notes.append(f'no peer is served: {folder} holds no key of this robot; make one with '
                     'crowdhmt keys make')
        return None
    return KeyStore(folder)


def _open_door(server: SegmentServer, keys: KeyStore, parameters: OffloadServerParameters,
               boot_id: Callable[[], str], notes: List[str]) -> Optional[ZeroMQDoor]:
    try:
        from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor
    except ImportError:
        notes.append('no door for data: pyzmq is missing, pip install pyzmq')
        return None
    return ZeroMQDoor(server, keys, boot_id=boot_id, address=parameters.address,
                      advertise_host=parameters.advertise_host)


@dataclass(frozen=True)
class Offer:
    """
    What stands in an advert and does not change from second to second.

    :param boot_id: as `resources` tells it
    :param ros_distro: of this process
    :param bundle_sha256: what is served
    :param capacity_macs_per_s: of whole models
    """

    robot_id: str
    boot_id: str
    ros_distro: str
    bundle_sha256: str
    capacity_macs_per_s: Optional[float]


def advert_of(offer: Offer, serving: PeerServing, snapshot: Optional[ResourceSnapshot], *,
              ros_door: bool) -> Advert:
    """Return what this robot offers now."""
    advert = Advert(
        robot_id=offer.robot_id, boot_id=offer.boot_id, protocol_version=PROTOCOL_VERSION,
        ros_distro=offer.ros_distro, bundle_sha256=offer.bundle_sha256,
        capacity_macs_per_s=offer.capacity_macs_per_s)
    headroom = serving.server.headroom_bytes
    if snapshot is not None:
        advert = replace(advert, battery_ratio=snapshot.battery_ratio.value)
        available = snapshot.memory_available_bytes.value
        headroom = headroom if available is None else min(headroom, available)
    if serving.keys is None:
        return replace(advert, memory_headroom_bytes=headroom)
    channels = ((ZEROMQ,) if serving.door is not None else ()) + ((ROS,) if ros_door else ())
    return replace(
        advert, memory_headroom_bytes=headroom, channels=channels,
        free_leases=serving.server.free_leases if channels else 0,
        address=serving.door.address if serving.door is not None else '',
        key_fingerprint=serving.keys.fingerprint)


def reluctance(snapshot: Optional[ResourceSnapshot], least_battery_ratio: float) -> str:
    """Return why no lease is granted now, '' when leases are."""
    ratio = snapshot.battery_ratio.value if snapshot is not None else None
    if ratio is None or ratio >= least_battery_ratio:
        return ''
    return (f'battery at {100 * ratio:.0f} %: peers are helped from '
            f'{100 * least_battery_ratio:.0f} %')


def differs(before: Optional[Advert], now: Advert) -> bool:
    """Whether an advert says something that peers should hear before the second is over."""
    def shape(advert: Advert) -> Mapping[str, object]:
        return {**vars(advert), 'battery_ratio': None, 'memory_headroom_bytes': None}

    return before is None or shape(before) != shape(now)


def require_keys(serving: PeerServing) -> KeyStore:
    """
    Return the keys that the ROS door needs.

    :raises OffloadError: there are none
    """
    if serving.keys is None:
        raise OffloadError(f'ros_door is true, but {serving.notes[0]}')
    return serving.keys
