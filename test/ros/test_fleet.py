# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Three robots on their real processes: one late, one renamed, two that bear one name."""
import json
import os
import subprocess
import sys

import pytest

from benchmarks._pair_fleet import CLASHING, figures_of

FAST_START = {'adaptation_planner:calibrate_s': 10.0}


def play(folder):
    script = ('import json, sys; from pathlib import Path\n'
              'from benchmarks._pair_fleet import play\n'
              'print(json.dumps(play(Path(sys.argv[1]), json.loads(sys.argv[2]))))')
    done = subprocess.run(
        [sys.executable, '-c', script, str(folder), json.dumps(FAST_START)], text=True,
        env=dict(os.environ), capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.alone
def test_a_late_and_a_renamed_robot_are_found_and_a_double_name_ends_all_help(tmp_path):
    found = play(tmp_path)
    assert set(found['found_s']) == {'wing_2 by vehicle', 'drone by vehicle, late',
                                     'drone by wing_2, late'}
    assert max(found['found_s'].values()) <= 2.0
    assert found['clash']['helped_before'] > 0
    assert found['clash']['errors'] == 2 * len(CLASHING)
    assert found['clash']['offloaded'] == 0
    assert found['clash']['answers'] > 0


def test_figures_fall_short_when_help_goes_on_or_nobody_was_helped_before():
    found = {'found_s': {'b by a': 0.4}, 'after_door_s': 1.0, 'clash': {
        'errors': 4, 'took_s': 3.0, 'helped_before': 9, 'answers': 100, 'offloaded': 0}}

    def short(**changes):
        figures = figures_of({**found, 'clash': {**found['clash'], **changes}})
        return [figure.key for figure in figures if figure.holds is False]

    assert short() == []
    assert short(offloaded=1) == ['fleet_clash_offloaded']
    assert short(helped_before=0) == ['fleet_clash_offloaded']
    assert short(errors=3) == ['fleet_clash_errors']
