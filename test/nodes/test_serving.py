# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading
import time

import numpy as np
import pytest

from crowdhmt_ros.errors import BackendError, SourceError
from crowdhmt_ros.nodes.serving import Server, SourceLog, SourceThread, Throttle
from crowdhmt_ros.types import FrameTruth, Inference
from crowdhmt_ros.vision.frame import Frame

PICTURE = np.zeros((4, 4, 3), np.uint8)


def frame(stamp_ns, truth=None):
    return Frame(PICTURE, stamp_ns, 'c', time.monotonic(), truth=truth)


class Gate:
    """An executor that answers when it is let."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = threading.Event()

    def infer(self, frame_):
        self.entered.set()
        assert self.open.wait(5.0)
        if frame_.stamp_ns < 0:
            raise BackendError('the engine has failed')
        return Inference('a', 1, (1.0,), 0, 0.0, 0.0)


@pytest.fixture
def served():
    gate, answered, superseded = Gate(), [], []
    server = Server(gate, lambda f, i, q: answered.append((f.stamp_ns, q)), superseded.append)
    server.start()
    yield server, gate, answered, superseded
    gate.open.set()
    server.stop()


def wait(predicate):
    deadline_s = time.monotonic() + 5.0
    while not predicate():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_the_latest_frame_is_answered_and_what_it_replaced_is_told(served):
    server, gate, answered, superseded = served
    server.offer(frame(1))
    gate.entered.wait(5.0)
    for stamp in (2, 3, 4):
        server.offer(frame(stamp))
    gate.open.set()
    wait(lambda: len(answered) == 2)
    assert [stamp for stamp, _ in answered] == [1, 4]
    assert superseded == [2, 3]
    assert answered[1][1] > 0.0


def test_stopping_ends_after_the_frame_in_work_and_tells_the_one_that_waits(served):
    server, gate, answered, superseded = served
    server.offer(frame(1))
    gate.entered.wait(5.0)
    server.offer(frame(2))
    threading.Timer(0.1, gate.open.set).start()
    server.stop()
    assert [stamp for stamp, _ in answered] == [1]
    assert superseded == [2]
    server.offer(frame(3))
    assert superseded == [2, 3]


def test_a_frame_that_the_engine_fails_on_is_told_and_the_next_is_answered(served, caplog):
    server, gate, answered, superseded = served
    gate.open.set()
    server.offer(frame(-1))
    wait(lambda: superseded == [-1])
    server.offer(frame(2))
    wait(lambda: answered)
    assert server.failed == 1
    assert 'the engine has failed' in server.failure
    assert caplog.text.count('the engine has failed') == 1


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_worker_that_dies_says_why_and_every_frame_is_told(caplog):
    def refuse(frame_, inference, queue_s):
        raise RuntimeError('the publisher is gone')

    gate, superseded = Gate(), []
    server = Server(gate, refuse, superseded.append)
    server.start()
    server.offer(frame(1))
    gate.entered.wait(5.0)
    server.offer(frame(2))
    gate.open.set()
    wait(lambda: sorted(superseded) == [1, 2])
    assert server.dead
    assert 'the publisher is gone' in server.failure
    assert caplog.text.count('no frame is answered any more') == 1
    server.offer(frame(3))
    server.stop()
    assert sorted(superseded) == [1, 2, 3]


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_frame_whose_extras_fail_was_answered_and_is_told_once():
    def refuse(frame_):
        raise RuntimeError('no picture')

    gate, answered, superseded = Gate(), [], []
    server = Server(gate, lambda f, i, q: answered.append(f.stamp_ns), superseded.append,
                    extras=refuse)
    gate.open.set()
    server.start()
    server.offer(frame(1))
    wait(lambda: server.dead)
    server.stop()
    assert (answered, superseded) == ([1], [])


def test_a_frame_that_takes_too_long_at_the_end_is_told_and_never_published(served, monkeypatch):
    server, gate, answered, superseded = served
    monkeypatch.setattr('crowdhmt_ros.nodes.serving.LONGEST_FRAME_S', 0.05)
    server.offer(frame(1))
    gate.entered.wait(5.0)
    server.stop()
    assert superseded == [1]
    gate.open.set()
    server._thread.join(5.0)
    assert (answered, superseded) == ([], [1])
    assert not server.dead


class Film:
    rate_hz, description = 10.0, 'a film'

    def __init__(self, stamps, error=None):
        self._stamps = iter(stamps)
        self._error = error
        self.closed = False

    def open(self):
        pass

    def read(self):
        stamp = next(self._stamps, None)
        if stamp is None and self._error:
            raise self._error
        return None if stamp is None else frame(stamp)

    def close(self):
        self.closed = True


def test_a_source_is_read_to_its_end():
    found = []
    reader = SourceThread(Film([1, 2, 3]), lambda f: found.append(f.stamp_ns))
    reader.start()
    wait(lambda: reader.ended)
    assert found == [1, 2, 3]


def test_a_source_that_breaks_is_one_line(caplog):
    reader = SourceThread(Film([1], SourceError('the cable is out')), lambda f: None)
    reader.start()
    wait(lambda: reader.ended)
    assert reader.failure == 'the cable is out'
    assert caplog.text.count('the cable is out') == 1


def test_a_stopped_source_is_closed_and_has_not_ended():
    film = Film(iter(int, 1))
    reader = SourceThread(film, lambda f: time.sleep(0.001))
    reader.start()
    reader.stop()
    assert film.closed
    assert not reader.ended


@pytest.mark.parametrize(('stamps', 'said'), [
    ([1, 2], 'has ended'), (iter(int, 1), 'was stopped')])
def test_the_last_line_of_a_source_counts_frames_read_and_times_skipped(stamps, said, caplog):
    caplog.set_level('INFO')
    film, emitted = Film(stamps), []
    film.skipped_frames = 7
    reader = SourceThread(film, lambda f: emitted.append(time.sleep(0.001)))
    reader.start()
    wait(lambda: reader.ended or len(emitted) > 5)
    reader.stop()
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith(f'the source {said}: a film; ')
    assert line.endswith(' frames read, 7 frame times skipped')
    assert reader.skipped == 7


def test_the_source_log_lists_every_frame_with_what_is_known(tmp_path):
    path = tmp_path / 'frames.csv'
    log = SourceLog(str(path))
    log.write(frame(5, FrameTruth('car', 'noon')))
    log.write(frame(6))
    log.note(8)
    log.close()
    log.write(frame(7))
    assert path.read_text() == (
        'stamp_ns,label,light_band,area_ratio\n5,car,noon,0.0000\n6,,,\n8,,,\n')


def test_a_source_log_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(SourceError, match=r'source_log .* cannot be written'):
        SourceLog(str(tmp_path / 'no' / 'frames.csv'))


def test_a_full_disk_ends_the_source_log_and_not_the_frames(tmp_path, caplog, monkeypatch):
    log = SourceLog(str(tmp_path / 'frames.csv'))
    log._file.close()
    log._file = open('/dev/full', 'w', buffering=1)  # noqa: SIM115
    log.write(frame(5))
    log.write(frame(6))
    assert caplog.text.count('ends here') == 1


def test_a_throttle_lets_one_through_per_period():
    now = [0.0]
    throttle = Throttle(5.0, monotonic=lambda: now[0])
    said = []
    for now[0] in (0.0, 1.0, 4.9, 5.0, 9.0, 10.1):
        said.append(throttle.ready())
    assert said == [True, False, False, True, False, True]
