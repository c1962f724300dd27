# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Documents say what the code does."""
import re
from pathlib import Path

import pytest

from crowdhmt_ros.cli import reference
from crowdhmt_ros.cli.bench import bench_names
from crowdhmt_ros.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])
LINK = re.compile(r'\]\((?!https?:|#|mailto:)([^)#\s]+)')
PATH = re.compile(r'`((?:crowdhmt_ros|test|benchmarks|config|launch|msg|srv|docs)/[\w./*@-]+)`')


def test_the_paper_map_names_files():
    assert PATH.findall((ROOT / 'docs' / 'paper_map.md').read_text(encoding='utf-8'))


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document):
    named = PATH.findall(document.read_text(encoding='utf-8'))
    assert [name for name in named if not list(ROOT.glob(name.rstrip('/')))] == []


@pytest.mark.parametrize('section', sorted(reference.SECTIONS))
def test_the_readme_reference_is_what_the_code_says(section):
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert reference.section_in(text, section) == reference.SECTIONS[section](), \
        'run: crowdhmt reference --update README.md'


def test_the_readme_has_a_place_for_the_figures_of_every_bench():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    for bench in bench_names():
        assert '<!-- figures:%s -->\n' % bench in text


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_tree_lead_somewhere(document):
    targets = LINK.findall(document.read_text(encoding='utf-8'))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_readme_names_every_command():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    for command in COMMANDS:
        if command not in ('loss', 'reference'):
            assert 'crowdhmt %s' % command in text
