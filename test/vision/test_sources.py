# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import logging
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from crowdhmt_ros.errors import SourceError
from crowdhmt_ros.vision import sources
from crowdhmt_ros.vision.sources import CameraSource, Pacer, VideoSource

FRAMES = 24
SIZE = (96, 64)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """Return a clip whose frames grow brighter one by one."""
    path = str(tmp_path_factory.mktemp('clip') / 'clip.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 20.0, SIZE)
    if not writer.isOpened():
        pytest.skip('this OpenCV cannot write video')
    for number in range(FRAMES):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 10 * number, np.uint8))
    writer.release()
    return path


def read_all(source, limit=10000):
    source.open()
    try:
        frames = []
        while len(frames) < limit:
            frame = source.read()
            if frame is None:
                break
            frames.append(frame)
        return frames
    finally:
        source.close()


def test_every_frame_comes_once_in_order_and_then_it_ends(clip, caplog):
    ticks = iter(range(1000))
    with caplog.at_level(logging.INFO):
        frames = read_all(VideoSource(clip, rate_hz=math.inf, clock=lambda: next(ticks)))
    assert [round(f.image.mean() / 10) for f in frames] == list(range(FRAMES))
    assert [f.stamp_ns for f in frames] == list(range(FRAMES))
    assert frames[0].image.shape == (64, 96, 3)
    assert frames[0].domain == 'photos'
    assert frames[0].truth is None
    assert 'ended after 24 frames' in caplog.text
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_the_rate_is_the_files_own_unless_asked_otherwise(clip):
    source = VideoSource(clip)
    source.open()
    assert source.rate_hz == pytest.approx(20.0)
    source.close()
    assert '7 Hz' in VideoSource(clip, rate_hz=7.0).description


def test_reading_keeps_the_rate(clip):
    source = VideoSource(clip, rate_hz=50.0)
    start = time.monotonic()
    assert len(read_all(source, 11)) == 11
    assert 0.19 <= time.monotonic() - start < 2.0


def test_a_late_reader_gets_no_burst():
    pacer = Pacer(20.0)
    pacer.wait()
    time.sleep(0.5)
    start = time.monotonic()
    for _ in range(4):
        pacer.wait()
    assert time.monotonic() - start >= 0.09


def test_a_loop_starts_again(clip):
    frames = read_all(VideoSource(clip, loop=True, rate_hz=math.inf), 2 * FRAMES + 3)
    values = [round(f.image.mean() / 10) for f in frames]
    assert values == (list(range(FRAMES)) * 3)[:2 * FRAMES + 3]


def test_it_can_be_opened_again(clip):
    source = VideoSource(clip, rate_hz=math.inf)
    assert len(read_all(source)) == FRAMES
    assert len(read_all(source)) == FRAMES


def test_a_clip_cut_short_ends_with_a_warning(clip, tmp_path, caplog):
    whole = Path(clip).read_bytes()
    path = tmp_path / 'half.avi'
    path.write_bytes(whole[:len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        frames = read_all(VideoSource(str(path), rate_hz=math.inf))
    assert 0 < len(frames) < FRAMES
    assert 'half.avi is cut short or damaged' in caplog.text


@pytest.mark.parametrize('content', [b'', b'no video at all' * 100, bytes(5000)])
def test_what_is_no_video_is_one_clear_line(tmp_path, content):
    path = tmp_path / 'x.mp4'
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r'x\.mp4') as caught:
        VideoSource(str(path)).open()
    assert '\n' not in str(caught.value)


def test_the_decoder_adds_no_lines_of_its_own(tmp_path):
    path = tmp_path / 'x.mp4'
    path.write_bytes(b'no video at all' * 100)
    code = ('import sys; from crowdhmt_ros.vision.sources import VideoSource\n'
            'try: VideoSource(sys.argv[1]).open()\n'
            'except Exception as error: print(type(error).__name__)')
    run = subprocess.run([sys.executable, '-c', code, str(path)], text=True, timeout=60,
                         capture_output=True, cwd=Path(__file__).parents[2], check=True)
    assert (run.stdout, run.stderr) == ('SourceError\n', '')


def test_a_video_without_frames_is_one_clear_line(clip, tmp_path):
    whole = Path(clip).read_bytes()
    path = tmp_path / 'head.avi'
    path.write_bytes(whole[:whole.index(b'movi') + 4])
    with pytest.raises(SourceError, match=r'head\.avi'):
        VideoSource(str(path)).open()


def test_a_missing_file_or_a_folder_is_told(tmp_path):
    for path in (tmp_path / 'none.mp4', tmp_path):
        with pytest.raises(SourceError, match='there is no video file'):
            VideoSource(str(path)).open()


@pytest.mark.parametrize('rate', [0.0, -1.0, math.nan, 1e9])
def test_a_rate_that_cannot_be_is_refused(clip, rate):
    with pytest.raises(SourceError, match='rate'):
        VideoSource(clip, rate_hz=rate)


def test_a_file_that_vanishes_ends_its_loop(clip, tmp_path, caplog):
    path = tmp_path / 'gone.avi'
    path.write_bytes(Path(clip).read_bytes())
    source = VideoSource(str(path), loop=True, rate_hz=math.inf)
    source.open()
    path.unlink()
    with caplog.at_level(logging.WARNING):
        count = 0
        while source.read() is not None:
            count += 1
    assert count == FRAMES
    assert 'the loop ends' in caplog.text
    source.close()


def test_close_from_another_thread_ends_a_waiting_read(clip):
    source = VideoSource(clip, rate_hz=0.1)
    source.open()
    assert source.read() is not None
    threading.Timer(0.05, source.close).start()
    start = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - start < 3.0
    assert source.read() is None
    source.close()


def test_closing_while_reading_at_full_speed_is_safe(clip):
    for _ in range(5):
        source = VideoSource(clip, loop=True, rate_hz=math.inf)
        source.open()
        threading.Timer(0.02, source.close).start()
        while source.read() is not None:
            pass
        source.close()


def test_a_camera_that_is_not_there_names_those_that_are(monkeypatch):
    monkeypatch.setattr(sources, 'camera_devices', lambda: ('/dev/video7',))
    source = CameraSource(63)
    with pytest.raises(SourceError, match='/dev/video7'):
        source.open()
    assert source.read() is None
    source.close()


class FakeCapture:
    """A camera that gives three images and is then unplugged."""

    def __init__(self, target):
        self.left = 3

    def isOpened(self):  # noqa: N802
        return True

    def get(self, key):
        return 25.0

    def set(self, key, value):
        return True

    def read(self):
        self.left -= 1
        return (True, np.zeros((4, 4, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        pass


def test_an_unplugged_camera_is_an_error_and_not_an_end(monkeypatch):
    monkeypatch.setattr(sources.cv2, 'VideoCapture', FakeCapture)
    monkeypatch.setattr(sources, '_RETRY_S', 0.0)
    source = CameraSource(0, clock=lambda: 5)
    source.open()
    assert source.rate_hz == 25.0
    assert [source.read().stamp_ns for _ in range(3)] == [5, 5, 5]
    with pytest.raises(SourceError, match='unplugged'):
        source.read()
    source.close()


def real_clips():
    data = os.environ.get('CROWDHMT_DATA')
    return sorted(Path(data).glob('video/*.mp4')) if data else []


@pytest.mark.data
@pytest.mark.parametrize('name', [p.name for p in real_clips()] or ['none'])
def test_real_clips_are_read_to_the_end_and_cut_ones_are_refused(name, tmp_path, caplog):
    clips = {p.name: p for p in real_clips()}
    if name not in clips:
        pytest.skip('CROWDHMT_DATA does not name a folder with video/*.mp4')
    with caplog.at_level(logging.WARNING):
        whole = len(read_all(VideoSource(str(clips[name]), rate_hz=math.inf)))
    assert whole >= 8
    assert not caplog.records
    content = clips[name].read_bytes()
    cut = tmp_path / name
    cut.write_bytes(content[:len(content) // 2])
    source = VideoSource(str(cut), rate_hz=math.inf)
    # Both clips keep their index at the end, so half of one cannot be opened at all.
    with pytest.raises(SourceError, match='index was cut off'):
        source.open()
