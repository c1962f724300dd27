# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest

from crowdhmt_ros.cli.board import Board, Tail
from crowdhmt_ros.cli.live import LineView, TableView, line_of, make_view, rows_of
from crowdhmt_ros.report.recording import Link
from test.report import synthetic as s


def test_a_growing_file_is_read_line_by_line(tmp_path):
    path = tmp_path / 'f'
    tail = Tail(path)
    assert tail.lines() == []
    path.write_bytes(b'one\ntw')
    assert tail.lines() == ['one']
    with open(path, 'ab') as file:
        file.write(b'o\n')
    assert tail.lines() == ['two']


@pytest.fixture
def board(tmp_path):
    made = Board(*s.write_run(tmp_path))
    made.update()
    return made


def test_the_board_shows_the_present(board):
    view = board.view()
    assert view.plan == s.LEAN + ', 1t, fast'
    assert view.allotted_bytes == 12e6
    assert view.answered == 600
    assert (view.lost, view.superseded, view.late) == (0, 0, 0)
    assert view.light_band == 'dusk'
    assert 0.6 < view.accuracy_ratio <= 1.0
    assert view.rate_hz == pytest.approx(10.0)


def test_a_frame_that_nobody_answered_counts_as_lost_after_a_while(tmp_path):
    events, frames = s.write_run(tmp_path, seconds=10)
    kept = [line for i, line in enumerate(events.read_text().splitlines())
            if not (i == 5 and json.loads(line)['topic'] == 'result')]
    events.write_text('\n'.join(kept) + '\n')
    board = Board(events, frames)
    board.update()
    assert board.view().lost == 1


def test_an_empty_run_shows_dashes(tmp_path):
    view = Board(tmp_path / 'none').view()
    assert 'none yet' in line_of(view)
    assert all(len(row) == 4 for row in rows_of(view))


def with_peer(view):
    link = Link('drone', 0.4, 0.0012, 90e6, 0)
    return replace(view, links=(link,), offloaded_ratio=0.5, degraded_ratio=0.3, near='car')


def test_peers_and_what_is_near_have_rows_of_their_own_where_there_are_any(board):
    assert not {'peers', 'near'} & {row[0] for row in rows_of(board.view())}
    rows = {row[0]: row for row in rows_of(with_peer(board.view()))}
    assert rows['peers'][1] == 'offloaded 50 %, degraded 30.0 % | peers: drone 1.2 ms, 90 MB/s'
    assert rows['peers'][3] == 'red'
    assert rows['near'][1] == 'car'


def test_two_robots_fit_on_a_terminal(board, capsys):
    wordy = replace(with_peer(board.view()), reason='because ' * 90)
    with TableView('crowdhmt') as view:
        view.show_all({'vehicle': wordy, 'drone': wordy})
    shown = capsys.readouterr().out
    assert 'crowdhmt drone' in shown
    assert all(len(row[1]) <= 160 for row in rows_of(wordy, brief=True))
    assert len(rows_of(wordy, brief=True)) <= 11


def test_without_a_terminal_there_is_one_line_a_second_for_each_robot(board, capsys):
    with make_view('x', live=False) as view:
        for _ in range(3):
            view.show_all({'vehicle': board.view(), 'drone': board.view()})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ['vehicle', 'drone']


def test_without_a_terminal_there_is_one_line_a_second(board, capsys):
    with make_view('x', live=True) as view:
        assert isinstance(view, LineView)
        view.show(board.view())
        view.show(board.view())
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_table_draws_every_row(board, capsys):
    with TableView('vehicle') as view:
        view.show(board.view())
    shown = capsys.readouterr().out
    for name in ('battery', 'memory', 'latency p95', 'plan', 'because', 'frames', 'light'):
        assert name in shown
