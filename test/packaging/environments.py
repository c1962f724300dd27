# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual environments that are kept under build/ and made anew when their content changes."""
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / 'build' / 'environments'
GENERATED = ('msg', 'srv', '_lib')
BUILD_NICE = 10


def clean_environment(prefix, **more):
    """Return an environment with nothing of ROS and nothing of the caller's Python in it."""
    kept = {name: value for name, value in os.environ.items()
            if name in ('HOME', 'LANG', 'TERM', 'TMPDIR', 'CROWDHMT_DATA', 'SSL_CERT_FILE')
            or name.startswith(('PIP_', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE'))
            or name.lower().endswith('_proxy')}
    return {**kept, 'PATH': f'{prefix}/bin:/usr/local/bin:/usr/bin:/bin', **more}


def run(command, *, env, cwd=None, timeout_s=600, check=True, nice=0):
    """
    Run a command; a failure shows the end of what it printed.

    :param nice: how far builds step back behind tests that run beside them and watch the clock
    """
    words = [*(['nice', '-n', nice] if nice else ()), *command]
    done = subprocess.run([str(word) for word in words], env=env, cwd=cwd, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout_s)
    if check and done.returncode:
        raise AssertionError('%s ended with %d:\n%s' % (
            ' '.join(map(str, command)), done.returncode, done.stdout[-4000:]))
    return done


def environment_with(name, requirements, *, constraints=None):
    """
    Return the folder of a virtual environment that holds the requirements.

    :param name: of the environment, a folder under build/environments
    :param requirements: as for pip
    :param constraints: constraints file for pip
    """
    folder = KEPT / name
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / f'{name}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test may want the same one
        return make_environment(folder, requirements, constraints)


def make_environment(folder, requirements, constraints):
    content = [sys.version, *requirements, constraints.read_text() if constraints else '']
    stamp = folder / (hashlib.sha256('\n'.join(content).encode()).hexdigest()[:16] + '.stamp')
    if not stamp.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        base = clean_environment(sys.base_prefix)
        run([Path(sys.base_prefix, 'bin', 'python3'), '-m', 'venv', folder], env=base)
        more = ['-c', constraints] if constraints else []
        pip(folder, 'install', '--no-compile', *more, *requirements)
        stamp.touch()
    return folder


def pip(folder, command, *words, cwd=None):
    """Run the pip of the environment in the folder."""
    run([folder / 'bin' / 'python', '-m', 'pip', command, '--disable-pip-version-check', '-q',
         *words],
        env=clean_environment(folder), cwd=cwd, nice=BUILD_NICE)


def build_requirements():
    """Return what pyproject.toml asks for to build."""
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    block = text[text.index('requires = ['):text.index('build-backend')]
    return re.findall(r'^  "([^"]+)",$', block, re.MULTILINE)


def build_environment():
    """Return the environment that can build the package, by pip and by colcon."""
    return environment_with('colcon', [*build_requirements(), 'colcon-common-extensions'])


def copy_sources(target):
    """Copy what a clean clone would hold, without what builds generate."""
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'], cwd=ROOT,
        stdout=subprocess.PIPE, check=False)
    if listed.returncode:
        raise AssertionError('the packaging tests need a git checkout')
    for name in filter(None, listed.stdout.decode().split('\0')):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target
