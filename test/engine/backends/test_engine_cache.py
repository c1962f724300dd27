# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import itertools
import time

from crowdhmt_ros.engine.backends.engine_cache import building, cache_key, keep, load


def test_every_part_of_the_key_counts_and_equal_parts_are_equal():
    parts = [('a' * 64, 'b' * 64), ('10.3.0', '8.6.1'), ((8, 7), (8, 70)), ('fp32', 'fp16')]
    keys = [cache_key(*chosen) for chosen in itertools.product(*parts)]
    assert len(set(keys)) == 16
    assert cache_key('a', '1', (8, 7), 'fp32') == cache_key('a', '1', (8, 7), 'fp32')


def test_what_is_kept_is_loaded_and_nothing_half_is_left(tmp_path):
    path = tmp_path / 'engines' / 'one.engine'
    assert load(path) is None
    keep(path, b'first')
    keep(path, b'second')
    assert load(path) == b'second'
    assert [p.name for p in path.parent.iterdir()] == ['one.engine']


def test_an_engine_that_cannot_be_kept_is_a_warning(tmp_path, caplog):
    (tmp_path / 'engines').write_text('')
    keep(tmp_path / 'engines' / 'one.engine', b'content')
    assert 'built again at each start' in caplog.text


def test_an_engine_that_cannot_be_read_is_a_warning(tmp_path, caplog):
    (tmp_path / 'one.engine').mkdir()
    assert load(tmp_path / 'one.engine') is None
    assert 'cannot be read' in caplog.text


def test_a_long_build_speaks_until_it_is_done():
    said = []
    with building('it', say=said.append, every_s=0.01):
        deadline_s = time.monotonic() + 10.0
        while len(said) < 3 and time.monotonic() < deadline_s:
            time.sleep(0.01)
    count = len(said)
    time.sleep(0.05)
    assert len(said) == count
    assert said[0].startswith('building it')
    assert all(text.startswith('still building it') for text in said[1:-1])
    assert said[-1].startswith('it is built')
