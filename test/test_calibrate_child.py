# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of one graph, measured in a process of its own."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from crowdhmt_ros import calibrate_child
from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.calibrate_child import main, memory_of, resident_bytes, segment_from
from crowdhmt_ros.errors import CalibrationError, PutOffError

TINY = Path(__file__).resolve().parent / 'bundle' / 'data' / 'tiny'
PAGE_MAP = """55d0-55e0 r-xp 00000000 08:01 1 /usr/bin/python3
Size:                100 kB
Rss:                  80 kB
Anonymous:             0 kB
7f00-7f10 rw-p 00000000 00:00 0
Rss:                  40 kB
Anonymous:            40 kB
7f20-7f30 r--p 00000000 08:01 2 /cache/ab/initialisers.bin
Rss:                  64 kB
Anonymous:             0 kB
VmFlags: rd mr
"""


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    bundle = open_bundle(TINY)
    return bundle, materialise(bundle, tmp_path_factory.mktemp('cache'))


def test_private_pages_and_touched_weights_count_and_program_code_does_not(tmp_path):
    page_map = tmp_path / 'smaps'
    page_map.write_text(PAGE_MAP)
    assert resident_bytes('/cache/ab', page_map=page_map) == (40 * 1024, 64 * 1024)
    assert resident_bytes('/elsewhere', page_map=page_map) == (40 * 1024, 0)
    with pytest.raises(CalibrationError, match='cannot be read'):
        resident_bytes('/cache', page_map=tmp_path / 'none')


def test_a_folder_with_spaces_counts_and_one_that_only_begins_alike_does_not(tmp_path):
    page_map = tmp_path / 'smaps'
    page_map.write_text(PAGE_MAP.replace('/cache/ab/', '/my  cache/a b/'))
    assert resident_bytes('/my  cache/a b', page_map=page_map)[1] == 64 * 1024
    assert resident_bytes('/my  cache/a b/', page_map=page_map)[1] == 64 * 1024
    assert resident_bytes('/my  cache/a', page_map=page_map)[1] == 0
    assert resident_bytes('/my', page_map=page_map)[1] == 0


def test_a_segment_survives_the_way_to_the_child(tiny):
    for segment in tiny[1].values():
        assert segment_from(json.loads(json.dumps(dataclasses.asdict(segment)))) == segment


def test_a_fresh_process_measures_a_candidate(tiny):
    bundle, segments = tiny
    candidate = bundle.candidates((1,), ('lean',))[0]
    taken = memory_of(candidate, segments[candidate.placement.segments[0].segment_id])
    assert 10_000 < taken < 100_000_000


def test_a_child_that_fails_says_why_in_one_line(tiny):
    bundle, segments = tiny
    candidate = bundle.candidates((1,), ('lean',))[0]
    broken = dataclasses.replace(next(iter(segments.values())), path='/nowhere/graph.onnx')
    with pytest.raises(CalibrationError, match='exit code 1') as caught:
        memory_of(candidate, broken)
    assert '\n' not in str(caught.value)
    with pytest.raises(CalibrationError, match='did not end'):
        memory_of(candidate, broken, longest_s=0.001)


def test_a_child_that_is_killed_may_be_tried_again(tiny, monkeypatch):
    bundle, segments = tiny
    candidate = bundle.candidates((1,), ('lean',))[0]
    monkeypatch.setattr(calibrate_child.sys, 'executable', '/bin/sh')
    run = calibrate_child.subprocess.run

    def kill(command, **options):
        return run([command[0], '-c', 'kill -9 $$'], **options)

    monkeypatch.setattr(calibrate_child.subprocess, 'run', kill)
    with pytest.raises(PutOffError, match='was killed, for want of memory'):
        memory_of(candidate, next(iter(segments.values())))


def test_the_entry_writes_one_json_object(tiny):
    bundle, segments = tiny
    candidate = bundle.candidates((1,), ('lean',))[0]
    segment = segments[candidate.placement.segments[0].segment_id]
    written = []
    request = {'backend': 'onnxruntime', 'segment': dataclasses.asdict(segment),
               'options': dataclasses.asdict(candidate.engine)}
    assert main([json.dumps(request)], written.append) == 0
    found = json.loads(''.join(written))
    assert found['memory_bytes'] == found['private_bytes'] + found['mapped_bytes']
