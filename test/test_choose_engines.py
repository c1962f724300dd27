# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is known of engines, what is measured of them, and what plans may choose from then."""
from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from crowdhmt_ros import choose_engines as module
from crowdhmt_ros import first_start as starting
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.choose_engines import choose_engines, to_choose_from
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.choice import Entrant, Heat, Result, offers
from crowdhmt_ros.errors import CalibrationError, PutOffError
from crowdhmt_ros.first_start import Wishes, engines_path, first_start
from crowdhmt_ros.profiling.engine_tables import load_engine_tables
from crowdhmt_ros.profiling.tables import row_key
from crowdhmt_ros.types import EngineOptions

TINY = Path(__file__).resolve().parent / 'bundle' / 'data' / 'tiny'
WISHES = Wishes(threads=(1, 2), memory_modes=('fast',), longest_s=1.0,
                engines=('onnxruntime', 'ncnn', 'openvino'))


@pytest.fixture(scope='module')
def bundle():
    return open_bundle(TINY)


@pytest.fixture
def cache_dir(tmp_path, kept_cache):
    for path in kept_cache.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.fixture(scope='module')
def kept_cache(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp('cache')
    first_start(bundle, make_backend('onnxruntime'), folder, wishes=WISHES)
    return folder


@pytest.fixture
def ready(bundle, cache_dir):
    return first_start(bundle, make_backend('auto'), cache_dir, wishes=WISHES)


class Heats:
    """In place of the child: every engine takes the share of time that it is given."""

    def __init__(self, **ratios):
        self.ratios, self.run = {'onnxruntime': 1.0, **ratios}, []

    def __call__(self, heat, *, check):
        check()
        self.run.append(heat)
        results = []
        for options in heat.others:
            ratio = self.ratios[options.backend]
            results.append(Result(Entrant(heat.default.segment, options), ratio, 9,
                                  '' if ratio else 'no rule for Gelu'))
        return results


def memory(candidate, segment, *, longest_s):
    return 1 if candidate.engine.memory_mode == 'fast' else 10 ** 12


def choose(bundle, ready, cache_dir, heats, **options):
    return choose_engines(bundle, ready, cache_dir, **{
        'wishes': WISHES, 'run': heats, 'measure_memory': memory, **options})


def backends(ready):
    return {e.candidate.engine.backend for e in ready.front}


def test_a_faster_engine_is_among_the_candidates_with_its_share_of_the_time(bundle, ready,
                                                                           cache_dir):
    better = choose(bundle, ready, cache_dir, Heats(ncnn=0.5, openvino=0.9))
    assert backends(ready) == {'onnxruntime'}
    assert 'ncnn' in backends(better)
    assert 'openvino' not in backends(better)
    for entry in better.front:
        candidate = entry.candidate
        if candidate.engine.backend == 'ncnn':
            segment = ready.segments[candidate.placement.segments[0].segment_id]
            default = replace(candidate.engine, backend='onnxruntime')
            row = ready.tables.rows[row_key(segment.sha256, default)]
            assert entry.latency_s.mean == pytest.approx(0.5 * row.infer_s.mean)
            assert entry.memory_bytes.mean == 1.0


def test_it_is_measured_once_and_read_at_the_next_start(bundle, ready, cache_dir):
    heats = Heats(ncnn=0.5, openvino=None)
    better = choose(bundle, ready, cache_dir, heats)
    count = len(heats.run)
    assert count == 4, 'two variants under one thread and two'
    again = first_start(bundle, make_backend('auto'), cache_dir, wishes=WISHES)
    assert again.front == better.front
    assert choose(bundle, again, cache_dir, heats).front == better.front
    assert len(heats.run) == count


def test_an_engine_that_is_out_is_kept_with_its_reason(bundle, ready, cache_dir):
    better = choose(bundle, ready, cache_dir, Heats(ncnn=None, openvino=1.2))
    assert backends(better) == {'onnxruntime'}
    reasons = {t.options.backend: t.reason for t in better.engines.trials.values() if t.reason}
    assert reasons == {'ncnn': 'no rule for Gelu'}


def test_what_there_is_no_time_for_is_measured_at_the_next_start(bundle, ready, cache_dir):
    clock = itertools.count(0.0, 10.0).__next__
    heats = Heats(ncnn=0.5, openvino=1.0)
    choose(bundle, ready, cache_dir, heats, longest_s=15.0, clock=clock)
    assert len(heats.run) == 1
    choose(bundle, ready, cache_dir, heats)
    assert len(heats.run) == 4
    assert len({id(h.default.segment) for h in heats.run}) == 2


def test_what_there_is_no_memory_for_is_not_begun_and_measured_at_the_next_start(
        bundle, ready, cache_dir, caplog):
    heats = Heats(ncnn=0.5, openvino=1.0)
    assert choose(bundle, ready, cache_dir, heats, free=lambda: 30 << 20).front == ready.front
    assert heats.run == []
    said = [message for message in caplog.messages if 'at the next start' in message]
    assert len(said) == 1
    assert 'MB of memory and 30 are left, and so for 3 more; tried again' in said[0]
    choose(bundle, ready, cache_dir, heats)
    assert len(heats.run) == 4


def test_an_engine_that_was_killed_is_tried_again_at_the_next_start(bundle, ready, cache_dir):
    def killed(heat, *, check):
        return [Result(Entrant(heat.default.segment, o), None, 0, 'signal 9', o.backend == 'ncnn')
                for o in heat.others]

    choose(bundle, ready, cache_dir, killed)
    heats = Heats(ncnn=0.5, openvino=1.0)
    assert 'ncnn' in backends(choose(bundle, ready, cache_dir, heats))
    assert {o.backend for heat in heats.run for o in heat.others} == {'ncnn'}


def test_lean_modes_wait_for_memory_unless_their_graph_is_kept(ready, monkeypatch):
    segment = replace(ready.segments['wide/whole'], weight_bytes=100 << 20)
    default = Entrant(segment, EngineOptions())
    heat = Heat(default, offers(default.options, ('openvino',)))
    lean = replace(heat, others=heat.others[1:])
    assert [o.memory_mode for o in heat.others] == ['fast', 'mapped', 'streamed']
    plenty, some, little = 700 << 20, 300 << 20, 200 << 20
    assert module._fitting(heat, 1.0, plenty) == (heat, '')
    fitting, why = module._fitting(heat, 1.0, some)
    assert [o.memory_mode for o in fitting.others] == ['fast']
    assert 'memory modes of wide/whole takes about 580 MB of memory and 300 are left' in why
    assert module._fitting(lean, 1.0, some) == (None, why)
    assert module._fitting(heat, 1.0, little)[0] is None
    assert module._fitting(heat, 200 << 20, some)[0] is None, 'what is measured counts'
    monkeypatch.setattr(module, 'kept_graph', lambda *asked: 'a graph')
    assert module._fitting(heat, 1.0, some) == (heat, '')


def test_one_thread_comes_before_more_and_whole_models_before_heads():
    shipped = open_bundle('campus7')
    order = [(c.engine.threads, n) for c in (
        *shipped.candidates((1,), ('fast',)), *shipped.candidates((2,), ('fast',)))
        for n in (s.segment_id for s in c.placement.segments)]
    ready = starting.Ready({n: FakeSegment(n) for n in shipped.manifest.segments}, AllRows(), (),
                           '')
    items = list(module._items(shipped, ready, WISHES, module.EngineTables('d', 's')))
    found = [(h.default.options.threads, h.default.segment.segment_id) for _, h in items]
    assert found[:len(order)] == order
    assert all(name.endswith('head') for _, name in found[len(order):])


class InWholeNumbers:
    """The tiny bundle with a further graph in int8 of one variant, and its accuracy."""

    def __init__(self, bundle, stated=('int8',)):
        self._bundle, self._stated = bundle, stated

    def candidates(self, threads, memory_modes, *, all_precisions):
        for candidate in self._bundle.candidates(threads, memory_modes):
            yield candidate
            if candidate.variant_id == 'wide':
                placed = replace(candidate.placement.segments[0], segment_id='narrow/whole')
                yield replace(candidate, placement=replace(candidate.placement,
                                                           segments=(placed,)),
                              engine=replace(candidate.engine, precision='int8'))

    def accuracy(self, variant_id, precision, engine):
        return {'photos': 0.8} if precision in self._stated and engine != 'ncnn' else {}


@pytest.mark.parametrize(('stated', 'expected'), [
    ((), set()), (('int8',), {('onnxruntime', 'int8'), ('openvino', 'int8')}),
    (('bf16',), {('onnxruntime', 'bf16'), ('openvino', 'bf16')})])
def test_a_lower_precision_is_tried_only_where_its_accuracy_is_stated(bundle, ready, stated,
                                                                      expected):
    forms = module._low_forms(InWholeNumbers(bundle, stated), ready.segments,
                              replace(WISHES, threads=(1,)))
    wide = ready.segments['wide/whole']
    found = forms[row_key(wide.sha256, EngineOptions())]
    assert {(e.options.backend, e.options.precision) for e in found} == expected
    names = {'int8': 'narrow/whole', 'bf16': 'wide/whole'}
    assert all(e.segment.segment_id == names[e.options.precision] for e in found)


class FakeSegment:
    def __init__(self, name):
        self.segment_id = self.sha256 = name
        self.weight_bytes = 0


class AllRows:
    class rows:  # noqa: N801
        @staticmethod
        def __contains__(key):
            return True
    rows = rows()


def test_who_stops_it_is_heard(bundle, ready, cache_dir):
    def progress(part, text):
        raise CalibrationError('stopped')

    heats = Heats(ncnn=0.5, openvino=1.0)
    with pytest.raises(CalibrationError, match='stopped'):
        choose(bundle, ready, cache_dir, heats, progress=progress)
    assert heats.run == []


def test_a_segment_that_cannot_be_compared_is_tried_again_later(bundle, ready, cache_dir):
    def fail(heat, *, check):
        raise CalibrationError('no memory')

    assert choose(bundle, ready, cache_dir, fail).front == ready.front
    heats = Heats(ncnn=0.5, openvino=1.0)
    assert 'ncnn' in backends(choose(bundle, ready, cache_dir, heats))


def test_an_engine_whose_memory_is_not_known_is_not_offered(bundle, ready, cache_dir):
    def unknown(candidate, segment, *, longest_s):
        raise CalibrationError('it did not end')

    better = choose(bundle, ready, cache_dir, Heats(ncnn=0.5, openvino=1.0),
                    measure_memory=unknown)
    assert better.front == ready.front
    assert any('it did not end' in t.reason for t in better.engines.trials.values())


def test_what_was_killed_while_its_memory_was_measured_is_measured_at_the_next_call(
        bundle, ready, cache_dir, caplog):
    asked = []

    def killed(candidate, segment, *, longest_s):
        asked.append((candidate.engine, segment.segment_id))
        raise PutOffError('it was killed')

    heats = Heats(ncnn=0.5, openvino=1.0)
    first = choose(bundle, ready, cache_dir, heats, measure_memory=killed)
    assert first.front == ready.front
    assert 'it was killed; tried again later' in caplog.text
    count, failed = len(heats.run), tuple(asked)
    assert len(first.engines.put_off()) == len(failed) > 0
    asked.clear()
    second = choose(bundle, first, cache_dir, heats, measure_memory=killed)
    assert tuple(sorted(asked)) == tuple(sorted(failed)), 'the same, and each once'
    assert second.engines.put_off() == first.engines.put_off()
    third = choose(bundle, second, cache_dir, heats, longest_s=0.0)
    assert 'ncnn' in backends(third)
    assert not third.engines.put_off()
    assert not any(t.reason for t in third.engines.trials.values())
    assert len(heats.run) == count, 'engines are not compared again for it'
    again = first_start(bundle, make_backend('auto'), cache_dir, wishes=WISHES)
    assert again.front == third.front


def test_without_room_for_it_memory_is_not_measured_again_yet(bundle, ready, cache_dir):
    def killed(candidate, segment, *, longest_s):
        raise PutOffError('it was killed')

    heats = Heats(ncnn=0.5, openvino=1.0)
    first = choose(bundle, ready, cache_dir, heats, measure_memory=killed)
    second = choose(bundle, first, cache_dir, heats, free=lambda: 30 << 20,
                    measure_memory=lambda *asked, **options: pytest.fail('it would be killed'))
    assert second.engines.put_off() == first.engines.put_off()


def test_another_release_is_measured_anew_and_what_was_chosen_before_stays_when_even(
        bundle, ready, cache_dir, monkeypatch):
    choose(bundle, ready, cache_dir, Heats(ncnn=0.5, openvino=0.6))
    old = engines_path(bundle, cache_dir, WISHES)
    monkeypatch.setattr(starting, 'release', lambda name: '99.0')
    path = engines_path(bundle, cache_dir, WISHES)
    assert path != old
    even = Heats(ncnn=0.50, openvino=0.49)
    better = choose(bundle, ready, cache_dir, even)
    assert len(even.run) == 4
    assert {better.engines.trials[key].options.backend
            for key in better.engines.chosen.values()} == {'ncnn'}


def test_damaged_trials_are_measured_again(bundle, ready, cache_dir):
    choose(bundle, ready, cache_dir, Heats(ncnn=0.5, openvino=1.0))
    path = engines_path(bundle, cache_dir, WISHES)
    path.write_text(path.read_text()[:-40])
    assert first_start(bundle, make_backend('auto'), cache_dir, wishes=WISHES).front \
        == ready.front
    heats = Heats(ncnn=0.5, openvino=1.0)
    assert 'ncnn' in backends(choose(bundle, ready, cache_dir, heats))
    assert len(heats.run) == 4
    load_engine_tables(path)


@pytest.mark.parametrize('wishes', [
    replace(WISHES, engines=()), replace(WISHES, engines=('onnxruntime',)),
    replace(WISHES, tables='counted'), replace(WISHES, memory_modes=('lean',))], ids=str)
def test_where_there_is_nothing_to_choose_nothing_is_measured(bundle, ready, cache_dir, wishes):
    heats = Heats()
    assert choose(bundle, ready, cache_dir, heats, wishes=wishes) is ready
    assert heats.run == []


def test_engines_to_choose_from_are_installed_ones():
    assert 'onnxruntime' in to_choose_from()
    assert 'torch' not in to_choose_from()


def test_a_named_engine_is_offered_alone_and_only_in_ways_that_it_takes(bundle, tmp_path):
    pytest.importorskip('openvino', reason='OpenVINO is not installed (extra openvino)')
    wishes = Wishes(threads=(1,), memory_modes=('fast', 'lean'), longest_s=1.0)
    found = first_start(bundle, make_backend('openvino'), tmp_path, wishes=wishes)
    assert backends(found) == {'openvino'}
    assert {e.candidate.engine.memory_mode for e in found.front} == {'fast'}
    assert {e.candidate.variant_id for e in found.front} == set(bundle.manifest.front)
