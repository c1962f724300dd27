# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('diagnostic_msgs')
from crowdhmt_ros.nodes.camera_health import FrameCounts, FrameHealth, on_engine  # noqa: E402
from crowdhmt_ros.nodes.diagnostics import ERROR, OK, WARN  # noqa: E402
from crowdhmt_ros.types import Candidate, EngineOptions, Placement, Variant  # noqa: E402

pytestmark = pytest.mark.ros
WORDS = {'failure': 'the engine failed', 'bad_image': 'step is 5'}


@pytest.mark.parametrize(('counts', 'level', 'said'), [
    (FrameCounts(received=3), OK, 'ok'), (FrameCounts(failed=1), ERROR, 'the engine failed'),
    (FrameCounts(bad_images=1), WARN, 'step is 5'),
    (FrameCounts(unknown_ages=1), WARN, 'age unknown')])
def test_what_is_new_is_said_and_what_is_past_is_not(counts, level, said):
    frames = FrameHealth()
    first = frames.judge(counts, lasting='', **WORDS)
    assert first.level == level
    assert said in first.message
    assert frames.judge(counts, lasting='', **WORDS).level == OK


def test_how_the_engine_runs_is_said_in_words():
    def words(**options):
        engine = EngineOptions(**options)
        return on_engine(Candidate('v', Variant(((),), 0), Placement(()), engine))

    assert words() == 'onnxruntime, 1 threads, fp32, fast'
    assert words(backend='ncnn', threads=2, spinning=True, fusion_set='linear') == (
        'ncnn, 2 threads, fp32, fast, spinning, linear')


def test_a_dead_worker_stays_an_error():
    frames = FrameHealth()
    for _ in range(2):
        health = frames.judge(FrameCounts(failed=1, skipped=3), lasting='', dead=True, **WORDS)
        assert (health.level, health.message) == (ERROR, 'the engine failed')
        assert health.values['skipped'] == 3


def test_a_lasting_problem_stays():
    frames = FrameHealth()
    for _ in range(2):
        health = frames.judge(FrameCounts(received=2), lasting='no frame for 7 s', **WORDS)
        assert (health.level, health.message) == (WARN, 'no frame for 7 s')
        assert health.values['received'] == 2
