# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from crowdhmt_ros.cli import main as cli
from crowdhmt_ros.cli import reference
from crowdhmt_ros.errors import ConfigError

DOCUMENT = 'a\n' + ''.join('<!-- reference:%s -->\nold\n<!-- /reference:%s -->\n' % (n, n)
                           for n in reference.SECTIONS) + (
    '<!-- figures:robot -->\n<!-- /figures:robot -->\nend\n')
FIGURES = {'bench': 'robot', 'figures': [
    {'key': 'lost', 'value': 0, 'target': 0, 'better': 'lower', 'holds': True, 'how': 'x | y'},
    {'key': 'info', 'value': 1, 'target': None, 'better': 'lower', 'holds': None, 'how': ''}]}


def test_sections_are_written_between_their_markers(tmp_path):
    document, figures = tmp_path / 'README.md', tmp_path / 'robot.json'
    document.write_text(DOCUMENT)
    figures.write_text(json.dumps(FIGURES))
    words = ['reference', '--update', str(document), '--figures', str(figures)]
    assert cli.main(words) == 0
    once = document.read_text()
    assert '\nold\n' not in once
    assert '`battery_state`' in once
    assert '| `lost` | 0 | <= 0 | yes | x \\| y |' in once
    assert 'info' not in once.split('figures:robot')[1]
    assert once.endswith('end\n')
    assert cli.main(words) == 0
    assert document.read_text() == once


def test_figures_of_several_benches_go_each_to_its_own_place(tmp_path):
    document = tmp_path / 'README.md'
    document.write_text(DOCUMENT + '<!-- figures:pair -->\nnone\n<!-- /figures:pair -->\n')
    words = ['reference', '--update', str(document)]
    for bench in ('robot', 'pair'):
        content = dict(FIGURES, bench=bench)
        content['figures'] = [dict(FIGURES['figures'][0], key=bench + '_lost')]
        (tmp_path / bench).write_text(json.dumps(content))
        words += ['--figures', str(tmp_path / bench)]
    assert cli.main(words) == 0
    robot, pair = document.read_text().split('<!-- figures:pair -->')
    assert '`robot_lost`' in robot
    assert '`pair_lost`' in pair
    assert 'none' not in pair


def test_missing_markers_are_named():
    with pytest.raises(ConfigError, match='reference:topics'):
        reference.updated('nothing here')


def test_a_file_without_figures_is_refused(tmp_path):
    (tmp_path / 'x.json').write_text('[]')
    with pytest.raises(ConfigError, match='holds no figures'):
        reference.with_figures(DOCUMENT, tmp_path / 'x.json')


def test_every_parameter_and_topic_is_in_the_tables():
    from crowdhmt_ros.nodes.params import SPECS
    from crowdhmt_ros.nodes.topics import TOPICS
    assert all('`%s`' % t.name in reference.topics_section() for t in TOPICS)
    made = reference.parameters_section()
    assert all('`%s`' % s.name in made for specs in SPECS.values() for s in specs)
