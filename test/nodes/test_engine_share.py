# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from crowdhmt_ros.errors import BackendError, BundleError, OffloadError, TrustError
from crowdhmt_ros.nodes.engine_room import open_engine_room
from crowdhmt_ros.nodes.engine_share import EngineShare
from crowdhmt_ros.nodes.params import CameraInferenceParameters, OffloadServerParameters
from crowdhmt_ros.nodes.peer_serving import (
    Offer,
    advert_of,
    differs,
    open_serving,
    reluctance,
    require_keys,
    served_by,
)
from crowdhmt_ros.offload.trust import throw_away
from crowdhmt_ros.profiling.tables import Row, Tables, row_key, save_tables
from crowdhmt_ros.types import (
    MEASURED,
    EngineOptions,
    Estimate,
    Reading,
    ResourceSnapshot,
)

TINY = Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny'
OPTIONS = EngineOptions()


@pytest.fixture
def share():
    return EngineShare()


@pytest.fixture
def opened(share, tmp_path):
    found = []

    def open_it(**changes):
        found.append(share.open(**{'bundle': str(TINY), 'cache_dir': str(tmp_path), **changes}))
        return found[-1]

    yield open_it
    for engine in found:
        share.close(engine)


def test_the_same_names_give_the_same_engine_and_others_another(opened):
    first = opened()
    assert opened() is first
    assert opened(backend_repeat=2) is not first


def test_the_last_one_to_close_takes_the_engine_down(share, tmp_path):
    first = share.open(str(TINY), cache_dir=str(tmp_path))
    second = share.open(str(TINY), cache_dir=str(tmp_path))
    share.close(first)
    second.pool.hold('wide/whole', OPTIONS)
    share.close(second)
    with pytest.raises(BackendError, match='the pool is closed'):
        second.pool.hold('narrow/whole', OPTIONS)
    assert share.open(str(TINY), cache_dir=str(tmp_path)) is not first


def test_a_room_that_cannot_be_furnished_leaves_nothing_open(share, tmp_path):
    wrong = CameraInferenceParameters(bundle=str(TINY), cache_dir=str(tmp_path), fallback='huge')
    with pytest.raises(BundleError):
        open_engine_room(wrong, share=share)
    assert share._engines == {}


def test_what_guests_hold_outlives_the_camera_and_what_it_compiled_does_not(opened, share,
                                                                           tmp_path):
    engine = opened()
    room = open_engine_room(CameraInferenceParameters(bundle=str(TINY), cache_dir=str(tmp_path)),
                            share=share)
    assert room.pool is engine.pool
    engine.pool.hold('wide/whole', OPTIONS)
    assert engine.pool.memory_bytes > 0
    room.close()
    assert engine.pool.memory_bytes == 0
    assert engine.pool.held_bytes > 0


def test_capacity_is_tried_before_there_are_tables_and_read_from_them_afterwards(opened):
    engine = opened()
    assert engine.capacity_macs_per_s(OPTIONS) is None
    assert engine.try_capacity_macs_per_s(OPTIONS) > 1e5
    assert engine.pool.held_bytes == 0
    some, rows = Estimate(0.002, 0.002, MEASURED), {}
    for variant_id in engine.bundle.manifest.front:
        segment = engine.segments[engine.bundle.segment_for(variant_id)]
        rows[row_key(segment.sha256, OPTIONS)] = Row(some, some, 9)
    save_tables(Tables('here', engine.bundle.sha256, some, rows), engine.measured._path)
    engine.measured._next_look_s = 0.0
    macs = [engine.bundle.macs(v) for v in engine.bundle.manifest.front]
    assert engine.capacity_macs_per_s(OPTIONS) == pytest.approx(sum(macs) / len(macs) / 0.002)


# What is served, and what is said of it


@pytest.fixture
def keys_dir(tmp_path):
    return str(throw_away(tmp_path / 'keys', ('vehicle', 'drone'))['drone'])


@pytest.fixture
def serve(opened):
    found = []

    def start(**parameters):
        found.append(open_serving(opened(), OffloadServerParameters(**parameters), 'drone',
                                  boot_id=lambda: 'd1'))
        return found[-1]

    yield start
    for serving in found:
        serving.close()


def offer():
    return Offer('drone', 'd1', 'lyrical', 'b' * 64, 2e9)


def snapshot(battery, available=1e6):
    return ResourceSnapshot(1.0, battery_ratio=Reading(battery, MEASURED, 0.0),
                            memory_available_bytes=Reading(available, MEASURED, 0.0))


def test_whole_models_take_pictures_and_heads_are_not_served(opened):
    served = served_by(opened())
    assert sorted(served) == ['narrow/whole', 'wide/whole']
    assert 'jpeg' in served['wide/whole'].codecs


def test_an_advert_says_what_is_true_now(serve, keys_dir):
    serving = serve(keys_dir=keys_dir)
    serving.start()
    advert = advert_of(offer(), serving, snapshot(0.7), ros_door=True)
    assert advert.channels == ('zeromq', 'ros')
    assert advert.address == serving.door.address
    assert (advert.free_leases, advert.battery_ratio) == (4, 0.7)
    assert advert.memory_headroom_bytes == 1e6
    serving.server.closed_reason = 'another robot'
    closed = advert_of(offer(), serving, None, ros_door=False)
    assert closed.free_leases == 0
    assert closed.battery_ratio is None
    assert differs(advert, closed)
    assert differs(None, closed)
    assert not differs(closed, advert_of(offer(), serving, snapshot(0.5), ros_door=False))


def test_without_keys_nothing_is_offered_and_the_ros_door_stays_shut(serve, tmp_path):
    serving = serve(keys_dir=str(tmp_path / 'none'))
    serving.start()
    advert = advert_of(offer(), serving, snapshot(0.7), ros_door=False)
    assert (advert.channels, advert.address, advert.free_leases) == ((), '', 0)
    assert 'crowdhmt keys make' in serving.notes[0]
    with pytest.raises(OffloadError, match='ros_door is true, but no peer is served'):
        require_keys(serving)


def test_keys_that_others_can_read_are_an_error_not_a_closed_door(serve, keys_dir):
    (Path(keys_dir) / 'own.key').chmod(0o644)
    with pytest.raises(TrustError, match='chmod 600'):
        serve(keys_dir=keys_dir)


@pytest.mark.parametrize(('battery', 'said'), [
    (0.2, ''), (None, ''), (0.19, 'battery at 19 %: peers are helped from 20 %')])
def test_a_low_battery_is_kept_for_the_robot_itself(battery, said):
    assert reluctance(snapshot(battery), 0.2) == said
    assert reluctance(None, 0.2) == ''
