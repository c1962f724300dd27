# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest

from crowdhmt_ros.report.page import short_plan, short_text
from crowdhmt_ros.report.pair import pair_figures, phase_rows
from crowdhmt_ros.report.pair_page import plan_rows, render_pair_page
from crowdhmt_ros.report.recording import read_recording
from crowdhmt_ros.report.summary import origin_s, summarise
from crowdhmt_ros.report.write import write_pair_report

from . import synthetic as s
from .test_page import Balance

AT_DRONE = 'w100d2/w100d2-whole@drone:jpeg/onnxruntime/1t/lean'
CUT = 'w100d2/w100d2-after1-head@local:none>w100d2-after1-tail@drone:int8/onnxruntime/2t/fast'


def phase_at(start_s):
    return lambda stamp_s: 'early' if stamp_s - start_s < 30 else 'late'


@pytest.fixture
def helped(tmp_path):
    """Return a run whose second half a drone answers, one frame in ten by the fallback."""
    events, frames = s.write_run(tmp_path)
    recording = read_recording(events, frames)
    start_s = origin_s(recording)
    answers = []
    for i, answer in enumerate(recording.answers):
        if answer.stamp_ns / s.NS - start_s >= 30:
            answer = replace(answer, placement='drone', offload_s=0.004, degraded=i % 10 == 0)
        answers.append(answer)
    return replace(recording, answers=tuple(answers))


@pytest.fixture
def report(helped):
    own = summarise(helped)
    own['phases'] = phase_rows(helped, phase_at(origin_s(helped)))
    own['first_frame_s'] = origin_s(helped)
    other = dict(own, first_frame_s=origin_s(helped) + 0.1)
    robots = {'vehicle': own, 'drone': other}
    return {'about': {'title': 'Robots: vehicle, drone', 'subtitle': 'made up'},
            'robots': robots, 'pair': pair_figures(robots)}


def test_what_a_peer_answered_is_told_by_phase_without_the_fallbacks(report):
    phases = report['robots']['vehicle']['phases']
    assert phases['early']['frames_offloaded_ratio'] == 0.0
    assert phases['late']['frames_offloaded_ratio'] == pytest.approx(0.9)
    assert phases['late']['degraded_ratio'] == pytest.approx(0.1)
    assert phases['late']['mostly'].endswith('@drone')
    assert report['pair']['frames_offloaded_ratio'] == {
        'early': 0.0, 'late': pytest.approx(0.9)}


def test_plans_are_told_apart_by_variant_and_place(report):
    pair = report['pair']
    assert pair['placements_in_order'] == [
        s.RICH + '@local', s.MIDDLE + '@local', s.MIDDLE + '@drone', s.LEAN + '@drone']
    assert pair['plans_distinct'] == 4
    assert pair['start_apart_s'] == pytest.approx(0.1)
    assert pair['peers'] == ['drone']


def test_a_floor_above_everything_is_broken_by_every_frame(helped):
    strict = replace(helped, decisions=tuple(
        replace(d, accuracy_floor=0.99) for d in helped.decisions))
    rows = phase_rows(strict, phase_at(origin_s(helped)))
    assert {row['broken_floor_or_memory_ratio'] for row in rows.values()} == {1.0}


def test_the_accuracy_of_an_answer_counts_what_the_crossing_costs(helped):
    coded = replace(helped, decisions=tuple(replace(d, codec='jpeg') for d in helped.decisions))
    table = {name: {'scenes/' + band: 0.9 for band in ('noon', 'afternoon', 'dusk')}
             for name in (s.RICH, s.MIDDLE, s.LEAN)}
    table.update({name + ':jpeg': {k: 0.5 for k in row} for name, row in list(table.items())})
    rows = phase_rows(coded, phase_at(origin_s(helped)), accuracy=table)
    assert rows['early']['broken_floor_or_memory_ratio'] == 0.0
    assert rows['late']['broken_floor_or_memory_ratio'] >= 0.9
    plain = phase_rows(helped, phase_at(origin_s(helped)), accuracy=table)
    assert plain['late']['broken_floor_or_memory_ratio'] <= 0.1


def test_the_page_shows_all_robots_on_one_timeline_and_is_well_formed(report, tmp_path):
    write_pair_report(report, tmp_path)
    page = (tmp_path / 'report.html').read_text()
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    for words in ('Plan in force, vehicle', 'Plan in force, drone', 'answered by a peer',
                  'Vehicle, phase by phase', 'frames lost, drone'):
        assert words in page
    assert page.count('>Battery</text>') == 1
    assert set(json.loads((tmp_path / 'report.json').read_text())['robots']) == {
        'vehicle', 'drone'}


def test_a_robot_without_plans_or_peers_still_makes_a_page(report):
    empty = {**report['robots']['drone'], 'frames': None, 'phases': {}, 'plans': []}
    empty['timeline'] = {**empty['timeline'], 'chosen': (), 'battery_ratio': ()}
    page = render_pair_page({**report, 'robots': {**report['robots'], 'drone': empty}})
    assert 'Plan in force, drone' not in page


def test_a_place_at_a_peer_has_a_short_name():
    assert short_plan(AT_DRONE) == 'w100d2, at drone (jpeg)'
    assert short_plan(CUT) == 'w100d2, after1 > drone (int8)'
    assert short_plan('w100d2/local/onnxruntime/1t/fast') == 'w100d2, 1t, fast'
    assert short_text('left %s: memory' % AT_DRONE) == (
        'left w100d2, at drone (jpeg)/1t/lean: memory')


def test_rows_of_plans_are_the_richest_first_and_a_peer_above_home():
    chosen = [{'name': n} for n in ('w50/local/onnxruntime/1t/fast', AT_DRONE,
                                    'w100d2/local/onnxruntime/1t/lean')]
    order = ['w100d2/local/onnxruntime/1t/lean', 'w50/local/onnxruntime/1t/fast']
    assert plan_rows(chosen, order) == [
        'w100d2, at drone (jpeg)', 'w100d2, 1t, lean', 'w50, 1t, fast']
