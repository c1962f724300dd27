# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading
import time

import numpy as np

from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.slot import LatestSlot


def frame(number):
    return Frame(np.zeros((2, 2), np.uint8), number, 'camera', 0.0)


def test_the_latest_wins_and_what_it_replaces_comes_back():
    slot, first, second = LatestSlot(), frame(1), frame(2)
    assert slot.put(first) is None
    assert slot.put(second) is first
    assert slot.get(0.0) is second
    assert slot.get(0.0) is None


def test_get_waits_for_a_frame_of_another_thread():
    slot, wanted = LatestSlot(), frame(1)
    threading.Timer(0.05, slot.put, (wanted,)).start()
    assert slot.get(5.0) is wanted


def test_get_gives_up_after_its_time():
    start = time.monotonic()
    assert LatestSlot().get(0.05) is None
    assert 0.04 <= time.monotonic() - start < 2.0


def test_close_wakes_who_waits_and_takes_no_more():
    slot, found = LatestSlot(), []
    waiting = threading.Thread(target=lambda: found.append(slot.get()))
    waiting.start()
    time.sleep(0.02)
    assert slot.close() is None
    waiting.join(5)
    assert found == [None]
    late = frame(3)
    assert slot.put(late) is late
    assert slot.get(0.0) is None
    assert slot.closed


def test_close_wakes_all_who_wait_and_all_who_come_later():
    slot, found = LatestSlot(), []
    waiting = [threading.Thread(target=lambda: found.append(slot.get(5.0))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    time.sleep(0.02)
    slot.close()
    slot.close()
    start = time.monotonic()
    assert slot.get() is None
    for thread in waiting:
        thread.join(5)
    assert found == [None] * 3
    assert time.monotonic() - start < 2.0


def test_close_hands_back_the_frame_that_nobody_took():
    slot, left = LatestSlot(), frame(1)
    slot.put(left)
    assert slot.close() is left
    assert slot.close() is None


def test_no_frame_is_lost_or_doubled_between_threads():
    slot, taken, superseded = LatestSlot(), [], []

    def work():
        while True:
            found = slot.get(1.0)
            if found is None:
                return
            taken.append(found.stamp_ns)

    worker = threading.Thread(target=work)
    worker.start()
    for number in range(2000):
        replaced = slot.put(frame(number))
        if replaced is not None:
            superseded.append(replaced.stamp_ns)
    while slot._frame is not None:
        time.sleep(0.001)
    slot.close()
    worker.join(5)
    assert sorted(taken + superseded) == list(range(2000))
    assert taken == sorted(taken)
