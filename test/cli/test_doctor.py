# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import argparse

import pytest

from crowdhmt_ros.cli import doctor
from crowdhmt_ros.errors import CrowdHMTError


def test_a_missing_module_is_essential_and_says_how_to_mend(monkeypatch):
    monkeypatch.setitem(doctor.ROBOT_MODULES, 'no_such_module', '1.0')
    missing = [f for f in doctor.check_python() if f.level == doctor.MISSING]
    assert [f.name for f in missing] == ['no_such_module']
    assert 'install it' in missing[0].text


def test_an_optional_module_is_only_a_note(monkeypatch):
    monkeypatch.setitem(doctor.EXTRAS, 'no_such_module', 'nothing')
    assert doctor.Finding(doctor.NOTE, 'no_such_module', 'not installed, needed for nothing') in \
        list(doctor.check_extras())


@pytest.mark.parametrize(('version', 'least', 'is_older'), [
    ('1.18.1', '1.19', True), ('1.31.1', '1.19', False), ('5.0.0', '4.5', False), ('', '1', False),
    ('2.2+cpu', '2.2', False)])
def test_versions_are_compared_as_numbers(version, least, is_older):
    assert doctor.older(version, least) is is_older


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('CROWDHMT_CACHE', str(tmp_path / 'file' / 'cache'))
    finding, = doctor.check_cache()
    assert finding.level == doctor.MISSING
    assert 'CROWDHMT_CACHE' in finding.text


def test_a_damaged_bundle_is_essential(monkeypatch, tmp_path):
    from crowdhmt_ros.bundle import reader
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'manifest.json').write_text('{}')
    monkeypatch.setattr(reader, 'SHIPPED', tmp_path)
    finding, = doctor.check_bundles()
    assert finding.level == doctor.MISSING


@pytest.mark.parametrize(('level', 'code'), [(doctor.OK, 0), (doctor.NOTE, 0),
                                             (doctor.MISSING, 1)])
def test_only_what_is_essential_fails(level, code, monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'CHECKS', [lambda: iter([doctor.Finding(level, 'x', 'y')])])
    assert doctor.run(argparse.Namespace(only=None, json=False)) == code
    assert 'x' in capsys.readouterr().out


def test_every_engine_is_there_or_says_what_it_would_gain():
    from crowdhmt_ros.engine.backends import ENGINES
    found = {f.name: f for f in doctor.check_engine()}
    for name, engine in ENGINES.items():
        finding = found['engine ' + name]
        if engine.installed:
            assert finding.level == doctor.OK
            assert 'fp32' in finding.text
        else:
            assert finding.level == doctor.NOTE
            assert engine.gains in finding.text
            assert engine.install in finding.text


def test_an_engine_that_does_not_start_is_a_note(monkeypatch):
    from crowdhmt_ros.engine import backends

    def fail(name):
        raise CrowdHMTError('no such device')
    monkeypatch.setattr(backends, 'make_backend', fail)
    finding = next(f for f in doctor.check_engine() if f.name == 'engine onnxruntime')
    assert (finding.level, finding.text) == (doctor.NOTE, 'no such device')


@pytest.mark.ros
def test_the_graph_is_looked_at_by_a_process_apart(monkeypatch):
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    monkeypatch.setenv('ROS_DOMAIN_ID', '83')
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setattr(doctor, 'LOOK_S', 0.3)
    found = list(doctor.check_graph())
    assert found[0].level == doctor.OK
    assert 'nodes seen' in found[0].text


def test_what_installed_engines_gain_is_told_as_measured():
    from crowdhmt_ros.profiling.engine_tables import EngineTables, Trial
    from crowdhmt_ros.types import EngineOptions
    trials = {'n1': Trial(EngineOptions('ncnn'), 'd1', 0.5), 'n2': Trial(
        EngineOptions('ncnn'), 'd2', 0.4)}
    found = EngineTables('a processor', 'ab', trials, {'d1': 'n1', 'd2': 'n2', 'd3': ''})
    assert doctor.gains_of(found) == 'of 3 graphs: ncnn for 2, 2.25 times as fast'
    assert 'the default is the fastest' in doctor.gains_of(EngineTables('', '', {}, {'d': ''}))


def test_engines_that_were_never_compared_are_a_note(monkeypatch, tmp_path):
    monkeypatch.setenv('CROWDHMT_CACHE', str(tmp_path))
    found = list(doctor.check_chosen())
    assert found
    assert all('not compared here yet' in f.text and f.level == doctor.NOTE for f in found)
