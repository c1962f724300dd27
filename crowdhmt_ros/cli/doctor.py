# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt doctor`: what this machine has and lacks; exit 1 without an essential part."""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from crowdhmt_ros.errors import CrowdHMTError

if TYPE_CHECKING:
    from crowdhmt_ros.profiling.engine_tables import EngineTables

OK, NOTE, MISSING = 'ok', 'note', 'MISSING'
ROBOT_MODULES = {'numpy': '1.20', 'cv2': '4.5', 'onnxruntime': '1.16', 'psutil': '5.8',
                 'yaml': '5.3'}
EXTRAS = {'zmq': 'work for and by peers', 'cryptography': 'the ROS door to peers',
          'zstandard': 'smaller payloads to peers (zlib without it)',
          'rich': 'the live table of the demo', 'rosbags': 'bags',
          'torch': 'training (extra train)', 'onnx': 'training (extra train)',
          'vision_msgs': 'the topic classification'}
LOOK_S = 1.5
GRAPH_TIMEOUT_S = 60.0
LEAST_FREE_BYTES = 200e6


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and for what is missing how to mend it."""

    level: str
    name: str
    text: str


def version_of(module: Any) -> str:
    """Return a module's version, '' where it states none."""
    return str(getattr(module, '__version__', ''))


def older(version: str, least: str) -> bool:
    """Tell whether a version is below another; unknown is not."""
    def parts(text: str) -> List[int]:
        return [int(p) for p in text.split('+')[0].split('.')[:2] if p.isdigit()]
    return bool(parts(version)) and parts(version) < parts(least)


def check_python() -> Iterator[Finding]:
    """Yield the interpreter and the modules that every robot needs."""
    fits = sys.version_info >= (3, 8)
    yield Finding(OK if fits else MISSING, 'python', '%s on %s %s' % (
        platform.python_version(), platform.machine(), '' if fits else ': 3.8 is the oldest'))
    for name, least in ROBOT_MODULES.items():
        try:
            version = version_of(importlib.import_module(name))
        except ImportError as error:
            yield Finding(MISSING, name, 'cannot be imported (%s): install it' % error)
            continue
        yield Finding(NOTE if older(version, least) else OK, name, '%s%s' % (
            version, ', below the tested %s' % least if older(version, least) else ''))


def check_extras() -> Iterator[Finding]:
    """Yield what is not needed on every robot."""
    for name, purpose in EXTRAS.items():
        there = importlib.util.find_spec(name) is not None
        yield Finding(OK if there else NOTE, name,
                      purpose if there else 'not installed, needed for %s' % purpose)


def check_ros() -> Iterator[Finding]:
    """Yield ROS itself, its settings, and what is wrong in the running graph."""
    for name in ('rclpy', 'sensor_msgs'):
        if importlib.util.find_spec(name) is None:
            yield Finding(MISSING, name, 'not installed: pip install the package, or source a ROS '
                          '2 distribution')
            return
    settings = ['%s=%s' % (name, os.environ[name]) for name in (
        'ROS_DISTRO', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY',
        'ROS_STATIC_PEERS', 'RMW_IMPLEMENTATION', 'ROS_DISCOVERY_SERVER') if os.environ.get(name)]
    yield Finding(OK, 'ros settings', ', '.join(settings) or 'none set: domain 0, whole subnet')
    yield from check_graph()


def check_graph() -> Iterator[Finding]:
    """Yield the running graph, seen by a process apart."""
    try:
        done = subprocess.run(
            [sys.executable, '-m', 'crowdhmt_ros.nodes.graph', str(LOOK_S)], capture_output=True,
            text=True, timeout=GRAPH_TIMEOUT_S, check=False)
        graph = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        graph = None
    if graph is None:
        yield Finding(MISSING, 'ros graph', 'a node cannot be started: run python -m '
                      'crowdhmt_ros.nodes.graph to see why')
        return
    yield Finding(OK, 'ros graph', '%s, %d nodes seen%s' % (
        graph['rmw'], len(graph['nodes']), ': ' + ', '.join(graph['nodes'])
        if graph['nodes'] else ''))
    for name in graph['doubles']:
        yield Finding(NOTE, 'ros graph', 'two nodes are named %s: give each robot a namespace'
                      % name)
    for bad in graph['mismatches']:
        yield Finding(NOTE, 'quality of service', '%s: %s and %s cannot talk: %s' % (
            bad['topic'], bad['publisher'], bad['subscriber'], bad['reason']))


def check_engine() -> Iterator[Finding]:
    """Yield the providers of ONNX Runtime, and every other engine or what it would gain."""
    try:
        import onnxruntime
    except ImportError:
        return
    from crowdhmt_ros.engine import backends
    providers = onnxruntime.get_available_providers()
    yield Finding(OK if 'CPUExecutionProvider' in providers else MISSING, 'engine providers',
                  ', '.join(providers))
    for name in backends.ENGINES:
        absent = backends.absence(name)
        if absent:
            yield Finding(NOTE, 'engine ' + name, absent)
            continue
        try:
            engine = backends.make_backend(name)
        except CrowdHMTError as error:
            yield Finding(NOTE, 'engine ' + name, str(error))
            continue
        yield Finding(OK, 'engine ' + name, '%s %s on %s, computes in %s' % (
            backends.ENGINES[name].title, engine.version, ', '.join(engine.providers()),
            ', '.join(engine.precisions())))


def check_chosen() -> Iterator[Finding]:
    """Yield what the engines that are installed here gain, as measured for each bundle."""
    from crowdhmt_ros.bundle.materialise import default_cache_dir
    from crowdhmt_ros.bundle.reader import open_bundle, shipped_names
    from crowdhmt_ros.profiling.engine_tables import kept_engine_tables, load_engine_tables
    for name in shipped_names():
        try:
            paths = kept_engine_tables(Path(default_cache_dir()), open_bundle(name).sha256)
            if not paths:
                yield Finding(NOTE, 'engines of ' + name, 'not compared here yet: robots do that '
                              'when a second engine is installed')
                continue
            engines = load_engine_tables(paths[0])
        except CrowdHMTError as error:
            yield Finding(NOTE, 'engines of ' + name, str(error))
            continue
        yield Finding(OK, 'engines of ' + name, '%s, on %s' % (gains_of(engines), engines.device))


def gains_of(engines: EngineTables) -> str:
    """Return who is chosen how often, and how much faster than the default it is."""
    speeds: Dict[str, List[float]] = {}
    for key in engines.chosen.values():
        trial = engines.trials.get(key)
        if trial is not None and trial.ratio is not None:
            speeds.setdefault(trial.options.backend, []).append(1.0 / trial.ratio)
    words = ['%s for %d, %.2f times as fast' % (name, len(each), statistics.median(each))
             for name, each in sorted(speeds.items())]
    return 'of %d graphs: %s' % (len(engines.chosen), '; '.join(words) or 'the default is the '
                                 'fastest for all')


def check_bundles() -> Iterator[Finding]:
    """Yield every shipped bundle, each byte compared."""
    from crowdhmt_ros.bundle.reader import open_bundle, shipped_names
    names = shipped_names()
    if not names:
        yield Finding(MISSING, 'bundle', 'none ships with this installation: install it again')
    for name in names:
        try:
            bundle = open_bundle(name)
        except CrowdHMTError as error:
            yield Finding(MISSING, 'bundle ' + name, str(error))
            continue
        yield Finding(OK, 'bundle ' + name, '%d variants, sha256 %s' % (
            len(bundle.manifest.front), bundle.sha256[:16]))


def check_cache() -> Iterator[Finding]:
    """Yield the folder of graphs and tables measured here."""
    from crowdhmt_ros.bundle.materialise import default_cache_dir
    folder = Path(default_cache_dir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=str(folder)):
            pass
        free = shutil.disk_usage(str(folder)).free
    except OSError as error:
        yield Finding(MISSING, 'cache', '%s cannot be written (%s): set CROWDHMT_CACHE to another '
                      'folder' % (folder, error.strerror or error))
        return
    level = OK if free >= LEAST_FREE_BYTES else NOTE
    tables = len(list(folder.rglob('*.json')))
    yield Finding(level, 'cache', '%s, %.1f GB free, %d tables or stamps' % (
        folder, free / 1e9, tables))


def check_keys() -> Iterator[Finding]:
    """Yield this robot's key and whom it trusts."""
    from crowdhmt_ros.offload.trust import OWN, KeyStore, default_keys_dir
    folder = default_keys_dir()
    if not (folder / OWN).exists():
        yield Finding(NOTE, 'keys', 'none in %s: this robot computes alone until crowdhmt keys '
                      'make' % folder)
        return
    try:
        store = KeyStore(folder)
    except CrowdHMTError as error:
        yield Finding(MISSING, 'keys', str(error))
        return
    yield Finding(OK, 'keys', 'fingerprint %s, trusted: %s' % (
        store.fingerprint, ', '.join(sorted(store.trusted())) or 'nobody yet'))


def check_sensors() -> Iterator[Finding]:
    """Yield which readings of this machine are known."""
    from crowdhmt_ros.resources.jetson import JetsonProbe
    from crowdhmt_ros.resources.linux import LinuxProbe
    from crowdhmt_ros.types import READING_FIELDS
    probe = LinuxProbe()
    probe.sample(time.monotonic())
    time.sleep(0.2)
    found = dict(probe.sample(time.monotonic()))
    found.update(JetsonProbe().sample(time.monotonic()))
    known = [name for name in READING_FIELDS if name in found and found[name].value is not None]
    yield Finding(OK if known else MISSING, 'sensors', 'known: %s' % (', '.join(known) or 'none'))
    absent = [name for name in READING_FIELDS if name not in known]
    yield Finding(NOTE, 'sensors', 'unknown here (battery and allotment come by topic): %s'
                  % ', '.join(absent))


def check_cameras() -> Iterator[Finding]:
    """Yield camera devices."""
    from crowdhmt_ros.vision.sources import camera_devices
    found = camera_devices()
    yield Finding(OK if found else NOTE, 'cameras', ', '.join(found) or 'no /dev/video*: frames '
                  'can come by topic, video or bag')


def check_clock() -> Iterator[Finding]:
    """Yield whether the wall clock runs evenly beside the monotonic one."""
    wall_s, steady_s = time.time(), time.monotonic()
    time.sleep(0.3)
    drift_s = (time.time() - wall_s) - (time.monotonic() - steady_s)
    year = time.gmtime().tm_year
    good = abs(drift_s) < 0.01 and year >= 2024
    yield Finding(OK if good else NOTE, 'clock', 'year %d, wall against monotonic %+.1f ms in '
                  '0.3 s%s' % (year, 1e3 * drift_s, '' if good else
                               ': set the time (chrony), stamps will jump'))


CHECKS: Sequence[Callable[[], Iterator[Finding]]] = (
    check_python, check_extras, check_engine, check_chosen, check_bundles, check_cache, check_keys,
    check_sensors, check_cameras, check_clock, check_ros)


def findings(only: Optional[Sequence[str]] = None) -> List[Finding]:
    """
    Return all findings.

    :param only: names of checks without 'check_'; all when None
    """
    chosen = [c for c in CHECKS if not only or c.__name__.replace('check_', '') in only]
    return [finding for check in chosen for finding in check()]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        'doctor', help='what this machine has and lacks')
    parser.add_argument('--only', action='append', metavar='CHECK', help='one of: %s' % ', '.join(
        c.__name__.replace('check_', '') for c in CHECKS))
    parser.add_argument('--json', action='store_true', help='print JSON')
    return parser


def as_text(found: Sequence[Finding]) -> str:
    """Return the findings as lines."""
    width = max((len(f.name) for f in found), default=0)
    return '\n'.join('%-8s %-*s  %s' % (f.level, width, f.name, f.text) for f in found)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; exit 1 when something essential is missing."""
    found = findings(arguments.only)
    if arguments.json:
        rows: List[Mapping[str, str]] = [vars(f) for f in found]
        print(json.dumps(rows, indent=1))
    else:
        print(as_text(found))
    return 1 if any(f.level == MISSING for f in found) else 0
