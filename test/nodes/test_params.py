# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from crowdhmt_ros.nodes.params import (
    PARAMETERS,
    SPECS,
    BagPlayerParameters,
    CameraInferenceParameters,
    changed,
    problems,
)
from crowdhmt_ros.nodes.table import NODES, PROCESSES, command, process_named, processes

EVERY = [(node, spec) for node, specs in SPECS.items() for spec in specs]
SPEC = {(node, spec.name): spec for node, spec in EVERY}


@pytest.mark.parametrize(('node', 'spec'), EVERY, ids=lambda x: getattr(x, 'name', x))
def test_every_parameter_is_described_and_its_default_is_allowed(node, spec):
    assert spec.text
    value = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    assert spec.problem(value) is None


@pytest.mark.parametrize(('node', 'spec'), EVERY, ids=lambda x: getattr(x, 'name', x))
def test_every_number_has_a_range(node, spec):
    first = spec.default[0] if isinstance(spec.default, tuple) else spec.default
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        assert spec.low is not None
        assert spec.high is not None
        assert spec.range_text


@pytest.mark.parametrize(('name', 'value', 'said'), [
    (('camera_inference', 'rate_hz'), -1.0, 'rate_hz is -1.0, it must lie in 0..1000'),
    (('camera_inference', 'rate_hz'), math.nan, 'rate_hz is nan, it must lie in 0..1000'),
    (('camera_inference', 'rate_hz'), 5, 'rate_hz is the integer 5, write it as 5.0'),
    (('camera_inference', 'source'), 'radio', "source is 'radio', it must be one of topic"),
    (('camera_inference', 'autostart'), 1, 'autostart is 1, it must be of type bool'),
    (('adaptation_planner', 'accuracy_floor'), 2.0, 'must lie in 0..1 or .nan'),
    (('adaptation_planner', 'threads'), [], 'threads is [], it must be a list of 1..64'),
    (('adaptation_planner', 'threads'), 2, 'threads is 2, it must be a list of 1..64'),
    (('adaptation_planner', 'memory_modes'), ['thin'], 'must be a list of fast | lean'),
])
def test_a_wrong_value_is_named_with_what_is_allowed(name, value, said):
    assert said in SPEC[name].problem(value)


def test_unset_numbers_are_allowed_where_they_mean_no_wish():
    assert SPEC['adaptation_planner', 'latency_budget_s'].problem(math.nan) is None


def test_all_problems_are_found_at_once_and_foreign_names_are_ignored():
    found = problems(BagPlayerParameters, {'rate': 0.0, 'loops': 0, 'use_sim_time': True})
    assert len(found) == 2


def test_changed_takes_lists_as_tuples_and_leaves_the_rest():
    before = CameraInferenceParameters()
    after = changed(before, {'rate_hz': 5.0, 'use_sim_time': True})
    assert after.rate_hz == 5.0
    assert after.bundle == before.bundle
    assert changed(BagPlayerParameters(), {'other_topics': ['/a']}).other_topics == ('/a',)


def test_each_node_of_the_table_has_parameters():
    assert {node.name for node in NODES} == set(PARAMETERS)


def test_each_process_can_be_started_apart_or_together():
    together = {name for process in processes('grouped') for name in process.nodes}
    apart = [process.nodes for process in processes('separate')]
    assert {names[0] for names in apart} == together
    assert all(len(names) == 1 for names in apart)
    assert all(process.kind != 'demo' for process in processes())
    with pytest.raises(ValueError, match='it must be one of grouped, separate'):
        processes('both')


def test_a_process_is_found_by_its_name_or_its_only_node():
    assert process_named('mind') in PROCESSES
    assert process_named('recorder').nodes == ('recorder',)
    with pytest.raises(KeyError):
        process_named('unknown')


def test_a_command_line_carries_names_files_and_values_as_ros_reads_them():
    line = command('mind', namespace='vehicle', params_file='a.yaml', log_level='warn',
                   parameters={'a': math.nan, 'b': True, 'c': "it's", 'd': [1, 2], 'e': 1e-4},
                   remappings={'image_raw': '/front'})
    assert line[1:5] == ['-m', 'crowdhmt_ros.nodes.process', 'mind', '--ros-args']
    for text in ('a:=.nan', 'b:=true', "c:='it''s'", 'd:=[1, 2]', 'e:=0.0001',
                 '__ns:=/vehicle', 'image_raw:=/front', 'a.yaml', 'warn'):
        assert text in line
