# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json
import re
from html.parser import HTMLParser

import pytest

from crowdhmt_ros.report import write
from crowdhmt_ros.report.page import render_page
from crowdhmt_ros.report.recording import Recording, read_recording
from crowdhmt_ros.report.summary import summarise
from crowdhmt_ros.report.svg import axis_for, nice_step
from crowdhmt_ros.report.write import ReportError, write_report

from . import synthetic as s

VOID = {'meta', 'br', 'line', 'rect', 'path'}


class Balance(HTMLParser):
    """Checks that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def report(tmp_path):
    return summarise(read_recording(*s.write_run(tmp_path)), about={'title': 'A <day>'})


def test_the_page_is_well_formed_and_needs_nothing_from_outside(report):
    page = render_page(report)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r'(src|href)=|url\(|@import|https?://', page)


def test_text_from_a_run_is_escaped(report):
    assert 'A <day>' not in render_page(report)


def test_the_page_draws_every_series(report):
    page = render_page(report)
    for title in ('Battery', 'Memory', 'Plan in force', 'Latency', 'Right answers',
                  'Inference power (estimated)', 'Plans and their reasons'):
        assert title in page
    assert page.count('<rect class="bar"') == 3


def test_a_run_that_recorded_nothing_still_gives_a_page():
    assert render_page(summarise(Recording())).startswith('<!doctype html>')


def test_report_json_is_strict_json(report, tmp_path):
    broken = dict(report, rate_hz=float('nan'))
    write_report(broken, tmp_path)
    loaded = json.loads((tmp_path / 'report.json').read_text(), parse_constant=pytest.fail)
    assert loaded['rate_hz'] is None
    assert loaded['plans_distinct'] == 3


def test_a_full_disk_is_one_clear_line_and_leaves_no_half_file(report, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(write.os, 'replace', full)
    with pytest.raises(ReportError, match=r'No space left on device.*--out') as caught:
        write_report(report, tmp_path)
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize(('span', 'step'), [(100, 25), (60, 20), (7, 2), (0.9, 0.25)])
def test_grid_steps_are_round_numbers(span, step):
    assert nice_step(span) == pytest.approx(step)


def test_an_axis_holds_all_its_values():
    axis = axis_for([0.003, 0.0213], scale=1e-3, unit=' ms')
    assert axis.low == 0.0
    assert axis.high >= 0.0213
    assert axis.ticks[-1][1].endswith(' ms')
