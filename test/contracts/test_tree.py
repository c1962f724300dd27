# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every file of the tree must hold to."""
import ast
import re
import subprocess
from pathlib import Path

import pytest

from test.conftest import ALONE

ROOT = Path(__file__).resolve().parents[2]
SIZE_LIMIT, FUNCTION_LIMIT = 400, 60
TEXT = {'.py', '.md', '.rst', '.txt', '.toml', '.yaml', '.yml', '.xml', '.cfg', '.in', '.cmake',
        '.msg', '.srv', '.sh', '.json', ''}
# Written in two halves, so that this file passes its own test.
MACHINE_PATHS = re.compile('|'.join(('/' + 'work/', '/' + 'tmp/w', '/' + 'opt/v/', '/home/[a-z]',
                                     '/' + 'root/')))
REGISTRY_HOSTS = re.compile('|'.join((
    r'pypi[.]org', r'pythonhosted[.]org', r'download[.]pytorch[.]org',
    r'index-url\s*[= ]\s*http')))


def tracked():
    """Return the files that git knows or would add; everything in a tree without git."""
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'], cwd=str(ROOT),
        capture_output=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.decode().split('\0')
                if name and (ROOT / name).is_file()]
    skipped = {'.git', '.venv', 'build', 'install', 'log', 'msg', 'srv', '_lib', '__pycache__'}
    return [p for p in ROOT.rglob('*') if p.is_file() and not skipped & set(
        p.relative_to(ROOT).parts[:2])]


FILES = tracked()
SOURCES = [p for p in FILES if p.suffix == '.py']


def named(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize('path', SOURCES, ids=named)
def test_source_carries_the_licence(path):
    head = path.read_text(encoding='utf-8')[:400]
    assert 'SPDX-License-Identifier: Apache-2.0' in head
    assert 'Copyright' in head


@pytest.mark.parametrize('path', SOURCES, ids=named)
def test_files_and_functions_keep_their_size(path):
    text = path.read_text(encoding='utf-8')
    assert text.count('\n') <= SIZE_LIMIT, 'more than %d lines' % SIZE_LIMIT
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LIMIT, '%s has %d lines' % (node.name, length)


@pytest.mark.parametrize('path', SOURCES, ids=named)
def test_sources_are_ascii(path):
    assert path.read_bytes().isascii()


@pytest.mark.parametrize('path', [p for p in FILES if p.suffix in TEXT], ids=named)
def test_no_file_names_a_machine_or_an_index_host(path):
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError:
        pytest.skip('not text')
    assert not MACHINE_PATHS.search(text)
    assert not REGISTRY_HOSTS.search(text)


def test_launch_and_robot_configuration_are_there():
    assert list((ROOT / 'launch').glob('*.launch.py'))
    assert list((ROOT / 'config').glob('*.yaml'))


@pytest.mark.parametrize('name', sorted(ALONE))
def test_tests_that_run_alone_exist(name):
    functions = {node.name for node in ast.parse(
        (ROOT / 'test' / name).read_text(encoding='utf-8')).body
        if isinstance(node, ast.FunctionDef)}
    assert set(ALONE[name]) <= functions
