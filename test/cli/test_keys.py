# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from crowdhmt_ros.cli import doctor
from crowdhmt_ros.cli import main as cli

pytest.importorskip('zmq')


@pytest.fixture
def keys(tmp_path, capsys):
    def call(*words, robot='vehicle'):
        code = cli.main(['keys', *words, '--dir', str(tmp_path / robot)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return call


def public_key(text):
    return next(line.split()[-1] for line in text.splitlines() if line.startswith('public key'))


def test_two_robots_come_to_trust_each_other(keys):
    shown = {robot: public_key(keys('make', robot=robot)[1]) for robot in ('vehicle', 'drone')}
    assert keys('trust', 'drone', shown['drone'])[0] == 0
    assert keys('trust', 'vehicle', shown['vehicle'], robot='drone')[0] == 0
    code, out, _ = keys('list', '--json')
    assert code == 0
    rows = json.loads(out)
    assert [(r['robot_id'], r['public_key']) for r in rows] == [('drone', shown['drone'])]
    assert rows[0]['fingerprint'] in keys('list')[1]
    assert rows[0]['fingerprint'] in keys('show', robot='drone')[1]


def test_show_prints_no_secret(keys, tmp_path):
    keys('make')
    secret = (tmp_path / 'vehicle' / 'own.key').read_text().splitlines()[1]
    out = keys('show')[1]
    assert secret not in out
    assert public_key(out) == public_key(keys('show')[1])


def test_without_a_key_every_action_names_the_command(keys):
    for words in (('show',), ('list',), ('trust', 'drone', 'ab' * 32)):
        code, out, err = keys(*words)
        assert (code, out) == (2, '')
        assert 'crowdhmt keys make' in err
        assert err.count('\n') == 1


def test_a_second_key_is_drawn_on_demand_only(keys):
    first = public_key(keys('make')[1])
    code, _, err = keys('make')
    assert code == 2
    assert '--replace' in err
    assert public_key(keys('make', '--replace')[1]) != first


def test_a_changed_key_of_a_peer_is_trusted_on_demand_only(keys):
    keys('make')
    keys('trust', 'drone', public_key(keys('make', robot='drone')[1]))
    renewed = public_key(keys('make', '--replace', robot='drone')[1])
    code, _, err = keys('trust', 'drone', renewed)
    assert code == 2
    assert '--replace' in err
    assert keys('trust', 'drone', renewed, '--replace')[0] == 0


def test_wrong_words_are_refused_in_one_line(keys):
    keys('make')
    for words in (('trust', 'drone', 'abc'), ('trust', '../x', 'ab' * 32)):
        code, _, err = keys(*words)
        assert code == 2
        assert err.count('\n') == 1


def test_an_empty_list_says_what_to_do(keys):
    keys('make')
    assert 'crowdhmt keys trust' in keys('list')[1]


def test_the_folder_comes_from_the_environment(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('CROWDHMT_KEYS', str(tmp_path / 'named'))
    assert cli.main(['keys', 'make']) == 0
    assert str(tmp_path / 'named') in capsys.readouterr().out
    assert (tmp_path / 'named' / 'own.key').is_file()


def test_the_doctor_tells_what_the_keys_are(monkeypatch, tmp_path, keys):
    def found():
        finding, = doctor.findings(['keys'])
        return finding.level, finding.text
    monkeypatch.setenv('CROWDHMT_KEYS', str(tmp_path / 'vehicle'))
    assert found()[0] == doctor.NOTE
    keys('make')
    assert found()[0] == doctor.OK
    assert 'nobody yet' in found()[1]
    keys('trust', 'drone', public_key(keys('make', robot='drone')[1]))
    assert 'trusted: drone' in found()[1]
    (tmp_path / 'vehicle').chmod(0o755)
    assert found()[0] == doctor.MISSING
    assert 'chmod 700' in found()[1]
