# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines are compared in a process that they may crash, hang or fill with their own words."""
import io
import json
from pathlib import Path

import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.choose_child import heat_from, main, run_heat
from crowdhmt_ros.engine.choice import Entrant, Heat, offers
from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

TINY = Path(__file__).resolve().parent / 'bundle' / 'data' / 'tiny'
SEGMENT = Segment('net', 'sha', '/nowhere.onnx', (TensorSpec('x', 'float32', (1, 4)),),
                  (TensorSpec('y', 'float32', (1, 3)),))
DEFAULT = EngineOptions()

CHILD = """
import json, os, sys, time
request = json.loads(sys.argv[1])
def tell(**what):
    print(json.dumps(what), flush=True)
def run(options):
    tell(starts=options)
    name = options['backend']
    print('OpenMP says hello, {"starts": 1')
    print(json.dumps([1, 2]))
    if name == 'crash':
        sys.stderr.write('vkCreateInstance failed\\n')
        sys.stderr.flush()
        os.kill(os.getpid(), 9)
    if name == 'abort':
        os.abort()
    if name == 'full':
        tell(result={'options': options, 'ratio': None, 'samples': 0, 'reason': 'no room',
                     'put_off': True})
        return
    if name == 'hang':
        time.sleep(60)
    ratio = None if name == 'refuses' else 0.5
    tell(result={'options': options, 'ratio': ratio, 'samples': 7,
                 'reason': '' if ratio else 'no rule'})
tell(starts=request['default'])
if request['default']['threads'] == 13:
    sys.exit('the graph is damaged')
for options in request['others']:
    run(options)
for name, segment in request['fused']:
    run(dict(request['default'], fusion_set=name))
"""
FAKE = ('-c', CHILD)


def heat(*names, default=DEFAULT, fused=()):
    return Heat(Entrant(SEGMENT, default), offers(default, names, lean_modes=()), fused)


def names_of(results):
    return [(r.entrant.options.backend, r.ratio) for r in results]


def test_what_the_child_tells_is_taken_and_all_else_it_prints_is_not():
    results = run_heat(heat('a', 'refuses'), command=FAKE)
    assert names_of(results) == [('a', 0.5), ('refuses', None)]
    assert results[0].samples == 7
    assert results[1].reason == 'no rule'
    assert results[0].entrant.segment == SEGMENT


def test_an_engine_that_crashes_is_out_with_what_it_said_and_the_others_go_on():
    results = run_heat(heat('a', 'crash', 'b'), command=FAKE)
    assert names_of(results) == [('a', 0.5), ('crash', None), ('b', 0.5)]
    assert 'signal 9' in results[1].reason
    assert 'vkCreateInstance failed' in results[1].reason


def test_what_is_killed_or_finds_no_memory_is_put_off_and_what_fails_by_itself_is_not():
    results = run_heat(heat('crash', 'abort', 'full', 'refuses', 'b'), command=FAKE)
    assert [(r.entrant.options.backend, r.put_off) for r in results] == [
        ('crash', True), ('abort', False), ('full', True), ('refuses', False), ('b', False)]


def test_an_engine_that_hangs_is_ended():
    results = run_heat(heat('hang', 'b'), command=FAKE, longest_entrant_s=2.0)
    assert names_of(results) == [('hang', None), ('b', 0.5)]
    assert 'did not come back' in results[0].reason


def test_fused_forms_keep_their_own_segment():
    fused = Segment('net+linear', 'other', '/nowhere2.onnx', SEGMENT.inputs, SEGMENT.outputs)
    results = run_heat(heat(fused=(('linear', fused),)), command=FAKE)
    assert results[0].entrant.segment == fused


def test_a_default_that_does_not_run_is_an_error_with_its_cause():
    with pytest.raises(CalibrationError, match='the graph is damaged'):
        run_heat(heat('a', default=EngineOptions(threads=13)), command=FAKE)


def test_who_stops_it_is_not_kept_waiting():
    class StoppedError(Exception):
        pass

    def check():
        raise StoppedError

    with pytest.raises(StoppedError):
        run_heat(heat('hang'), command=FAKE, check=check)


def test_a_real_child_compares_memory_modes_of_one_engine(tmp_path):
    segments = materialise(open_bundle(TINY), tmp_path)
    heat = Heat(Entrant(segments['wide/whole'], DEFAULT), offers(DEFAULT, ('onnxruntime',)))
    results = run_heat(heat, longest_s=0.1)
    assert [r.entrant.options.memory_mode for r in results] == ['mapped', 'streamed']
    assert all((r.ratio is not None and r.ratio > 0.0) or r.reason for r in results)


def test_a_request_that_cannot_be_served_is_one_line_and_exit_code_1(capsys):
    request = {'segment': {**vars(SEGMENT), 'early_exit': None}, 'default': vars(DEFAULT),
               'others': [], 'fused': [], 'more': [], 'longest_s': 0.1}
    text = json.dumps(request, default=vars)
    assert heat_from(json.loads(text)).default == Entrant(SEGMENT, DEFAULT)
    assert main([text], io.StringIO()) == 1
    error = capsys.readouterr().err
    assert 'materialise the bundle again' in error
    assert error.count('\n') == 1
