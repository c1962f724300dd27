# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The system service: known settings, a restart, limits; by systemd itself where it is."""
import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from crowdhmt_ros.cli import up

UNIT = Path(__file__).resolve().parents[2] / 'config' / 'systemd' / 'crowdhmt@.service'


def settings():
    """Return section -> name -> values in order, as systemd reads the file."""
    found, section = {}, None
    for line in UNIT.read_text(encoding='ascii').splitlines():
        if line.startswith('['):
            section = found.setdefault(line.strip('[]'), {})
        elif line and not line.startswith('#'):
            name, equals, value = line.partition('=')
            assert equals, line
            assert re.fullmatch('[A-Za-z]+', name), line
            section.setdefault(name, []).append(value)
    return found


def test_a_crash_is_restarted_but_not_a_wrong_parameter():
    service = settings()['Service']
    assert service['Restart'] == ['on-failure']
    assert int(service['RestartPreventExitStatus'][0]) == up.BAD_INPUT
    assert float(service['RestartSec'][0]) > 0
    unit = settings()['Unit']
    assert int(unit['StartLimitBurst'][0]) * float(service['RestartSec'][0]) < float(
        unit['StartLimitIntervalSec'][0])


@pytest.mark.parametrize('name', ['MemoryHigh', 'MemoryMax', 'TasksMax', 'LimitNOFILE',
                                  'LimitCORE'])
def test_resources_are_limited(name):
    assert re.fullmatch(r'\d+[MG]?', settings()['Service'][name][0])


def test_it_starts_a_role_that_exists_and_stops_as_ctrl_c_does():
    service = settings()['Service']
    shell, option, script, instance = shlex.split(service['ExecStart'][0])
    assert (shell, option, instance) == ('/bin/bash', '-c', '%i')
    words = shlex.split(script.partition('exec ')[2])
    parser = argparse.ArgumentParser()
    up.add_parser(parser.add_subparsers())
    assert words[0] == 'crowdhmt'
    for role in up.ROLES:
        given = [role if word == '$0' else word for word in words[1:]
                 if word != '$CROWDHMT_OPTIONS']
        assert parser.parse_args(given).role == role
    assert service['KillSignal'] == ['SIGINT']


def test_the_shell_line_runs_the_command_with_its_options(tmp_path):
    stand_in = tmp_path / 'crowdhmt'
    stand_in.write_text('#!/bin/sh\necho "$SOURCED" "$@"\n')
    stand_in.chmod(0o755)
    (tmp_path / 'setup.bash').write_text('export SOURCED=yes\n')
    shell, option, script, _ = shlex.split(settings()['Service']['ExecStart'][0])
    done = subprocess.run(
        [shell, option, script, 'drone'], capture_output=True, text=True, check=True,
        env={'PATH': f'{tmp_path}:/usr/bin:/bin', 'ROS_SETUP': str(tmp_path / 'setup.bash'),
             'CROWDHMT_OPTIONS': '--channel ros'})
    assert done.stdout.split() == ['yes', 'up', 'drone', '--channel', 'ros']


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd-analyze is not here')
def test_systemd_finds_nothing_wrong(tmp_path):
    copy = tmp_path / 'crowdhmt@vehicle.service'
    shutil.copy(UNIT, copy)
    done = subprocess.run(['systemd-analyze', 'verify', str(copy)], capture_output=True,
                          text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if 'crowdhmt@' in line]
    assert not lines
