# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Documents say what the code does."""
import re
from pathlib import Path

import pytest

from crowdhmt_ros.cli import reference
from crowdhmt_ros.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PATH = re.compile(r'`((?:crowdhmt_ros|test|benchmarks|config|launch|msg|srv|docs)/[\w./*-]+)`')


def test_the_paper_map_names_files_that_exist():
    text = (ROOT / 'docs' / 'paper_map.md').read_text(encoding='utf-8')
    named = PATH.findall(text)
    assert named, 'docs/paper_map.md names no file'
    missing = [name for name in named if not list(ROOT.glob(name.rstrip('/')))]
    assert missing == []


@pytest.mark.parametrize('section', sorted(reference.SECTIONS))
def test_the_readme_reference_is_what_the_code_says(section):
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert reference.section_in(text, section) == reference.SECTIONS[section](), \
        'run: crowdhmt reference --update README.md'


def test_the_readme_names_every_command():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    for command in COMMANDS:
        if command not in ('loss', 'reference'):
            assert 'crowdhmt %s' % command in text
