# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time

import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.elastic.teaching.trainer import Position, Progress  # noqa: E402
from crowdhmt_ros.tasks.ledger import Ledger, Watch  # noqa: E402


def _step(ledger, phase, epoch, step, *, steps=4, loss=1.0, conflict=None):
    ledger.note(phase, Progress('phase%d' % phase, epoch, 2, step, steps, 0.0,
                                {'backbone': loss}, conflict, 0.1, None))


def _filled(path):
    ledger = Ledger(path, 2)
    for epoch in range(2):
        for step in range(4):
            _step(ledger, 0, epoch, step, loss=1.0 + epoch)
    for step in range(4):
        _step(ledger, 1, 0, step)
    return ledger


def test_phases_are_summed_up(tmp_path):
    first, second = _filled(tmp_path / 'ledger').phases({0: 2, 1: 2})
    assert first.losses == {'backbone': (1.0, 2.0)}
    assert first.complete
    assert not second.complete  # one epoch of two


def test_going_back_forgets_what_is_done_again(tmp_path):
    path = tmp_path / 'ledger'
    _filled(path)
    ledger = Ledger(path, 2)
    ledger.go_back(Position(0, 1, 2))
    for step in (2, 3):
        _step(ledger, 0, 1, step, loss=2.0)
    phase, = ledger.phases({0: 2})
    assert phase.complete
    assert phase.losses == {'backbone': (1.0, 2.0)}


def test_steps_that_are_done_again_do_not_count_twice(tmp_path):
    path = tmp_path / 'ledger'
    _filled(path)
    entries = json.loads(path.read_text())
    entries[1]['wall_s'] = 8.0
    path.write_text(json.dumps(entries))
    ledger = Ledger(path, 2)
    ledger.go_back(Position(0, 1, 1))
    assert ledger.phases({0: 2})[0].wall_s == pytest.approx(2.0 + entries[0]['wall_s'])


def test_the_conflict_of_an_epoch_is_the_mean_of_its_steps(tmp_path):
    path = tmp_path / 'ledger'
    ledger = Ledger(path, 2)
    for step, conflict in enumerate((0.0, 0.2, 0.4, 0.6)):
        _step(ledger, 0, 0, step, conflict=conflict)
    _step(ledger, 0, 1, 0, steps=1)  # nothing shared
    assert ledger.phases({0: 2})[0].conflict_ratio == (pytest.approx(0.3), None)
    again = Ledger(path, 2)
    again.go_back(Position(0, 0, 2))
    assert again.phases({0: 2})[0].conflict_ratio == (pytest.approx(0.3),)


def test_a_ledger_of_an_earlier_version_is_gone_on_with(tmp_path):
    path = tmp_path / 'ledger'
    _filled(path)
    entries = json.loads(path.read_text())
    for entry in entries:
        del entry['conflict'], entry['conflict_steps']
    path.write_text(json.dumps(entries))
    ledger = Ledger(path, 2)
    ledger.go_back(Position(0, 1, 2))
    for step in (2, 3):
        _step(ledger, 0, 1, step, conflict=0.5)
    phase, = ledger.phases({0: 2})
    assert phase.complete
    assert phase.conflict_ratio == (None, 0.5)


@pytest.mark.parametrize('content', ['', '[{"phase": 0}]', '{', None])
def test_a_ledger_that_is_lost_makes_the_log_incomplete_and_stops_nothing(tmp_path, content):
    path = tmp_path / 'ledger'
    if content is not None:
        path.write_text(content)
    ledger = Ledger(path, 2)
    ledger.go_back(Position(0, 1, 0))
    for step in range(4):
        _step(ledger, 0, 1, step)
    assert not ledger.phases({0: 2})[0].complete


def test_pauses_do_not_count():
    watch = Watch()
    time.sleep(0.05)
    watch.paused(10.0)
    assert watch.lap()[0] == 0.0
    time.sleep(0.02)
    assert watch.lap()[0] >= 0.02
