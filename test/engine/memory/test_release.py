# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from crowdhmt_ros.engine.memory.release import (
    Release,
    Stream,
    mapped_ranges,
    mappings,
    release_code,
)

PAGES = 64
SIZE = PAGES * mmap.PAGESIZE
pytestmark = pytest.mark.skipif(not Path('/proc/self/smaps').exists(), reason='needs /proc')


def resident_bytes(path):
    """Return how much of a file this process has in memory by its mappings."""
    text = Path('/proc/self/smaps').read_text()
    found = re.findall(re.escape(str(path)) + r'\n(?:\w+:.*\n)*?Rss:\s+(\d+) kB', text)
    return 1024 * sum(map(int, found))


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / 'weights.bin'
    path.write_bytes(np.arange(SIZE // 4, dtype=np.int32).tobytes())
    with open(path, 'rb') as stream:
        content = mmap.mmap(stream.fileno(), SIZE, flags=mmap.MAP_PRIVATE,
                            prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return path, content


def test_pages_are_given_back_and_come_again_unchanged(mapped):
    path, content = mapped
    before = content[:]
    assert resident_bytes(path) == SIZE
    release = Release(mapped_ranges(str(path), [(0, SIZE)]))
    release()
    assert resident_bytes(path) == 0
    assert content[:] == before
    release()
    assert resident_bytes(path) == 0


def test_only_what_is_asked_for_is_given_back(mapped):
    path, content = mapped
    content[:]
    Release(mapped_ranges(str(path), [(SIZE // 2, SIZE)]))()
    assert resident_bytes(path) == SIZE // 2


def test_what_somebody_wrote_to_is_kept(mapped):
    path, content = mapped
    content[0:4] = b'mine'
    assert mapped_ranges(str(path), [(0, SIZE)]) == ()
    assert content[0:4] == b'mine'


def test_a_file_that_is_not_mapped_has_no_ranges(tmp_path):
    assert mapped_ranges(str(tmp_path / 'other'), [(0, SIZE)]) == ()


def test_code_that_is_given_back_comes_again():
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state
    onnxruntime.SessionOptions()
    before = resident_bytes(state.__file__)
    release_code(state.__file__)
    assert resident_bytes(state.__file__) < before / 2
    assert onnxruntime.SessionOptions().intra_op_num_threads == 0


def test_what_streams_is_dropped_from_the_cache_and_fetched_again(mapped):
    path, content = mapped
    os.sync()
    before = content[:]
    stream = Stream(str(path), [(0, SIZE)], known=mappings(str(path)), charged=True)
    stream.drop()
    assert resident_bytes(path) == 0
    stream.fetch()
    assert content[:] == before
