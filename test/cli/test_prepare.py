# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is done on a robot's machine before it starts."""
from __future__ import annotations

from pathlib import Path

import pytest

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli import prepare as module
from crowdhmt_ros.cli.prepare import prepare
from crowdhmt_ros.engine.backends import FIRST, release
from crowdhmt_ros.engine.backends.mapped import LEAST_RELEASE, is_supported
from crowdhmt_ros.engine.memory.optimised import kept_graph
from crowdhmt_ros.engine.rewriting import graphs_of
from crowdhmt_ros.first_start import COUNTED_TABLES, Wishes

TINY = Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny'
WISHES = Wishes((1,), ('fast',), tables=COUNTED_TABLES)


def prepared(cache_dir):
    """Return for each graph that plans may name whether it is kept behind `prepare`."""
    ready = prepare(open_bundle(TINY), live=False, wishes=WISHES, cache_dir=cache_dir)
    graphs = graphs_of(ready.front, ready.remote, ready.segments)
    assert graphs
    return [kept_graph(segment, options, release(FIRST)) is not None
            for segment, options in graphs]


@pytest.mark.skipif(not is_supported(release(FIRST)),
                    reason='needs ONNX Runtime %d.%d' % LEAST_RELEASE)
def test_graphs_are_rewritten_so_that_the_first_switch_is_quick(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, 'is_held', lambda: False)
    assert all(prepared(tmp_path))
    assert '100 %  rewrote' in capsys.readouterr().out
    assert all(prepared(tmp_path))
    assert 'rewr' not in capsys.readouterr().out, 'once'


def test_while_something_else_is_measured_here_that_is_left_to_the_robots(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'is_held', lambda: True)
    assert not any(prepared(tmp_path))
