# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines race in turns; here on a clock that only they move."""
from dataclasses import replace

import numpy as np
import pytest

from crowdhmt_ros.engine.choice import (
    FEWEST_ROUNDS,
    HOPELESS_ROUNDS,
    MOST_ROUNDS,
    Entrant,
    Heat,
    Result,
    fastest,
    fastest_low,
    offers,
    race,
)
from crowdhmt_ros.engine.memory.room import RoomError
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

DEFAULT = EngineOptions()
SEGMENT = Segment('net', 'sha', '/nowhere.onnx', (TensorSpec('x', 'float32', (1, 4)),),
                  (TensorSpec('y', 'float32', (1, 3)),))
FUSED = replace(SEGMENT, segment_id='net+linear', sha256='fused')


class Engines:
    """A backend whose engines take the times that they are given, and may fail."""

    def __init__(self, **seconds):
        self.seconds = {'onnxruntime': 0.010, **seconds}
        self.now_s, self.resident, self.most_resident = 0.0, 0, 0
        self.refused, self.broken, self.wrong, self.compiled = {}, (), {}, []
        self.too_large = ()
        self.noise = iter(())

    def clock(self):
        return self.now_s

    def refusal(self, segment, options):
        return self.refused.get(options.backend, '')

    def compile(self, segment, options):
        self.compiled.append((segment.segment_id, options))
        if options.backend in self.broken:
            raise BackendError('%s does not take it' % options.backend)
        if options.backend in self.too_large:
            raise RoomError('there is no room for %s' % options.backend)
        return Executable(self, segment, options)


class Executable:
    memory_bytes = 0

    def __init__(self, engines, segment, options):
        self.inputs, self.outputs = segment.inputs, segment.outputs
        self._engines, self._options = engines, options
        self._fusion_gain = 0.5 if segment is FUSED else 1.0
        engines.resident += 1
        engines.most_resident = max(engines.most_resident, engines.resident)

    def __del__(self):
        self._engines.resident -= 1

    def run(self, inputs, outputs):
        engines, name = self._engines, self._options.backend
        engines.now_s += engines.seconds[name] * self._fusion_gain * next(engines.noise, 1.0)
        np.copyto(outputs[0], inputs[0][:, :3] + engines.wrong.get(name, 0.0))


def heat(*engines, fused=()):
    return Heat(Entrant(SEGMENT, DEFAULT), offers(DEFAULT, engines, lean_modes=()), fused)


def run(engines, *names, **keywords):
    return list(race(engines, heat(*names, fused=keywords.pop('fused', ())), clock=engines.clock,
                     **keywords))


def test_the_ratio_is_of_the_time_of_the_default():
    results = run(Engines(quick=0.004, slow=0.012), 'quick', 'slow')
    assert [r.entrant.options.backend for r in results] == ['quick', 'slow']
    assert [r.ratio for r in results] == [pytest.approx(0.4), pytest.approx(1.2)]
    assert fastest(results).backend == 'quick'


def test_what_slows_the_machine_down_slows_both():
    engines = Engines(quick=0.005)
    engines.noise = iter(np.repeat(np.random.default_rng(1).uniform(1.0, 9.0, 100), 10))
    ratio = run(engines, 'quick')[0].ratio
    assert ratio == pytest.approx(0.5, abs=0.1)


def test_only_two_executables_are_in_memory_at_once():
    engines = Engines(a=0.01, b=0.01, c=0.01)
    run(engines, 'a', 'b', 'c')
    assert engines.most_resident == 2


def test_an_engine_that_refuses_is_named_with_its_reason_and_not_compiled():
    engines = Engines(ncnn=0.001)
    engines.refused = {'ncnn': 'there is no rule for Gelu'}
    result = run(engines, 'ncnn')[0]
    assert (result.ratio, result.reason) == (None, 'there is no rule for Gelu')
    assert [options.backend for _, options in engines.compiled] == ['onnxruntime']


def test_an_engine_that_does_not_compile_is_named_and_the_others_go_on():
    engines = Engines(bad=0.001, good=0.005)
    engines.broken = ('bad',)
    bad, good = run(engines, 'bad', 'good')
    assert bad.reason == 'bad does not take it'
    assert fastest([bad, good]).backend == 'good'


def test_an_engine_that_finds_no_memory_is_put_off_and_one_that_fails_is_not():
    engines = Engines(bad=0.001, large=0.001, good=0.005)
    engines.broken, engines.too_large = ('bad',), ('large',)
    bad, large, good = run(engines, 'bad', 'large', 'good')
    assert [result.put_off for result in (bad, large, good)] == [False, True, False]
    assert large.reason == 'there is no room for large'


@pytest.mark.parametrize('difference', [0.5, np.nan])
def test_an_engine_with_another_answer_is_out_however_fast(difference):
    engines = Engines(wrong=0.001)
    engines.wrong = {'wrong': difference}
    result = run(engines, 'wrong')[0]
    assert result.ratio is None
    assert 'answer differs' in result.reason


def test_a_default_that_does_not_run_is_an_error():
    engines = Engines()
    engines.broken = ('onnxruntime',)
    with pytest.raises(BackendError, match='does not take it'):
        run(engines, 'ncnn')


def test_a_hopeless_engine_is_not_looked_at_any_longer():
    results = run(Engines(slow=0.1), 'slow')
    assert results[0].samples == HOPELESS_ROUNDS
    assert results[0].ratio == pytest.approx(10.0)


def test_the_time_is_boxed_and_the_fewest_rounds_are_run_in_any_case():
    assert run(Engines(a=0.011), 'a', longest_s=0.0)[0].samples == FEWEST_ROUNDS
    assert run(Engines(a=0.011), 'a', longest_s=1e9)[0].samples == MOST_ROUNDS


def test_a_turn_of_a_small_segment_is_several_runs():
    engines = Engines(onnxruntime=0.0001, a=0.0001)
    began_s = engines.now_s
    result = run(engines, 'a', longest_s=0.0)[0]
    assert engines.now_s - began_s > 2 * FEWEST_ROUNDS * 0.0015
    assert result.ratio == pytest.approx(1.0)


def test_fused_forms_run_on_the_fastest_engine():
    engines = Engines(quick=0.005)
    results = run(engines, 'quick', fused=(('linear', FUSED),))
    assert results[-1].entrant == Entrant(FUSED, EngineOptions('quick', fusion_set='linear'))
    assert results[-1].ratio == pytest.approx(0.25)
    assert fastest(results) == EngineOptions('quick', fusion_set='linear')


def test_fused_forms_run_on_the_default_where_nothing_is_faster():
    results = run(Engines(), fused=(('linear', FUSED),))
    assert [r.entrant.options for r in results] == [EngineOptions(fusion_set='linear')]


def test_each_entrant_is_told_before_it_is_touched():
    engines, told = Engines(a=0.01), []

    def starts(entrant):
        told.append((entrant.options.backend, len(engines.compiled)))

    run(engines, 'a', starts=starts)
    assert told == [('onnxruntime', 0), ('a', 1)]


def results_of(**ratios):
    return [Result(Entrant(SEGMENT, EngineOptions(name)), ratio, 10)
            for name, ratio in ratios.items()]


def test_noise_does_not_change_the_engine():
    assert fastest(results_of(a=0.98, b=1.01)) is None
    assert fastest(results_of(a=0.94)).backend == 'a'
    assert fastest([]) is None


def test_of_two_that_are_even_the_first_is_taken():
    assert fastest(results_of(a=0.700, b=0.699)).backend == 'a'
    assert fastest(results_of(a=0.70, b=0.60)).backend == 'b'


def test_what_was_chosen_before_stays_until_it_is_beaten():
    kept = EngineOptions('a')
    assert fastest(results_of(a=0.97, b=0.95), kept=kept) == kept
    assert fastest(results_of(a=0.99), kept=kept) == kept
    assert fastest(results_of(a=0.90, b=0.80), kept=kept).backend == 'b'
    assert fastest(results_of(a=1.30), kept=kept) is None
    assert fastest(results_of(b=0.5), kept=kept).backend == 'b'


def test_what_saves_memory_is_not_chosen_for_speed():
    lean = Result(Entrant(SEGMENT, replace(DEFAULT, memory_mode='mapped')), 0.5, 10)
    assert fastest([lean]) is None


def test_offers_leave_threads_and_spinning_to_the_schedule():
    default = EngineOptions(threads=2, spinning=True)
    found = offers(default, ('onnxruntime', 'ncnn'), precisions=('fp32', 'int8'))
    assert default not in found
    assert {o.threads for o in found} == {2}
    assert {(o.backend, o.precision, o.spinning) for o in found} == {
        ('onnxruntime', 'int8', True), ('ncnn', 'fp32', False), ('ncnn', 'int8', False)}


def test_a_precision_is_offered_only_where_it_is_named():
    assert {o.precision for o in offers(DEFAULT, ('openvino', 'ncnn'))} == {'fp32'}


def test_memory_modes_are_offered_on_one_thread():
    assert {o.memory_mode for o in offers(DEFAULT, ('onnxruntime',))} == {'mapped', 'streamed'}
    assert offers(EngineOptions(threads=2), ('onnxruntime',)) == ()


INT8 = replace(SEGMENT, segment_id='net/int8', sha256='int8')


def test_lower_precisions_are_measured_and_chosen_apart():
    entrants = tuple(Entrant(INT8, EngineOptions(name, precision='int8'))
                     for name in ('onnxruntime', 'quick'))
    engines = Engines(quick=0.002)
    engines.wrong = {'quick': 0.1}  # of a largest value of about 1
    results = list(race(engines, Heat(Entrant(SEGMENT, DEFAULT), (), (), entrants),
                        clock=engines.clock))
    assert [r.entrant for r in results] == list(entrants)
    assert [r.ratio for r in results] == [pytest.approx(1.0), pytest.approx(0.2)]
    assert fastest(results) is None
    assert fastest_low(results) == (EngineOptions('quick', precision='int8'),)


def test_what_is_another_network_is_out_in_any_precision():
    engines = Engines(quick=0.002)
    engines.wrong = {'quick': 5.0}
    low = Entrant(INT8, EngineOptions('quick', precision='int8'))
    result, = race(engines, Heat(Entrant(SEGMENT, DEFAULT), (), (), (low,)), clock=engines.clock)
    assert 'answer differs' in result.reason
    assert fastest_low([result]) == ()
