# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs that plans may name are rewritten where nobody waits, and then ready in no time."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine import rewriting
from crowdhmt_ros.engine.backends import FIRST, make_backend, release
from crowdhmt_ros.engine.backends.mapped import LEAST_RELEASE, is_supported
from crowdhmt_ros.engine.memory import optimised
from crowdhmt_ros.engine.memory.optimised import kept_graph
from crowdhmt_ros.engine.rewriting import graphs_of, keep_graphs
from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.first_start import COUNTED_TABLES, Wishes, first_start
from crowdhmt_ros.nodes.mind_start import MindStart
from crowdhmt_ros.nodes.params import AdaptationPlannerParameters
from crowdhmt_ros.types import EngineOptions

pytestmark = pytest.mark.skipif(not is_supported(release(FIRST)),
                                reason='needs ONNX Runtime %d.%d' % LEAST_RELEASE)
TINY = Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny'


@pytest.fixture
def ready(tmp_path):
    return first_start(open_bundle(TINY), make_backend(FIRST), tmp_path, progress=None,
                       wishes=Wishes((1, 2), ('fast',), tables=COUNTED_TABLES))


@pytest.fixture
def graphs(ready):
    return graphs_of(ready.front, ready.remote, ready.segments)


def nothing():
    """Go on."""


def kept(graphs):
    return [kept_graph(segment, options, release(FIRST)) is not None
            for segment, options in graphs]


def test_each_graph_is_named_once_heads_last_and_never_what_a_peer_runs(ready):
    wide = [e for e in ready.front if e.candidate.variant_id == 'wide']
    assert len(wide) > 1, 'one for each number of threads'
    helped = [SimpleNamespace(head_segment_id=name, engine=EngineOptions())
              for name in ('', 'narrow/whole', 'wide/whole')]
    names = [segment.segment_id for segment, _ in graphs_of(wide, helped, ready.segments)]
    assert names == ['wide/whole', 'narrow/whole']


def test_other_engines_and_the_lean_mode_take_nothing_that_is_kept(ready):
    def run_by(**options):
        return graphs_of([replace(e, candidate=replace(e.candidate, engine=replace(
            e.candidate.engine, **options))) for e in ready.front], (), ready.segments)

    assert run_by(backend='ncnn') == run_by(memory_mode='lean') == ()
    assert run_by(memory_mode='mapped')


def test_all_are_kept_however_small_and_then_take_no_time(graphs, monkeypatch):
    assert kept(graphs) == [False, False]
    told = []
    assert keep_graphs(graphs, progress=lambda part, text: told.append((part, text))) == 2
    assert told == [(0.0, 'rewriting ' + graphs[0][0].segment_id),
                    (0.5, 'rewriting ' + graphs[1][0].segment_id), (1.0, 'rewrote 2 graphs')]
    assert all(kept(graphs))
    monkeypatch.setattr(rewriting, 'hold_machine', None)  # who would hold it fails
    assert keep_graphs(graphs, check=nothing, progress=None) == 0
    assert keep_graphs(graphs, progress=lambda part, text: told.append(text)) == 0
    assert len(told) == 3, 'nothing is told where nothing is to be done'


def test_without_memory_a_graph_waits_for_the_next_start(graphs, caplog, monkeypatch):
    needed = optimised.rewriting_bytes(graphs[0][0])
    monkeypatch.setattr(optimised, 'free_bytes', lambda: needed - 1)
    assert keep_graphs(graphs[:1], check=nothing) == 0
    assert 'of memory and' in caplog.text
    assert kept(graphs[:1]) == [False]
    monkeypatch.setattr(optimised, 'free_bytes', lambda: needed)
    assert keep_graphs(graphs[:1], check=nothing) == 1


def test_who_is_asked_to_stop_begins_no_other_graph(graphs):
    def check():
        if any(kept(graphs)):
            raise CalibrationError('stopped')

    assert len(graphs) > 1
    with pytest.raises(CalibrationError, match='stopped'):
        keep_graphs(graphs, check=check)
    assert sum(kept(graphs)) == 1


@pytest.mark.parametrize('changes', [{'backend': FIRST}, {'pinned_candidate': 'narrow'}], ids=str)
def test_a_base_install_has_them_kept_behind_its_first_plans(tmp_path, changes):
    minds = []
    start = MindStart(AdaptationPlannerParameters(
        bundle=str(TINY), cache_dir=str(tmp_path), threads=(1,), memory_modes=('fast',),
        calibrate_s=1.0, **changes), minds.append)
    start.start()
    start._thread.join(90.0)
    assert start.failure is None
    segments = materialise(open_bundle(TINY), tmp_path)
    graphs = graphs_of(minds[0].front, minds[0].remote, segments)
    assert graphs
    assert all(kept(graphs))
