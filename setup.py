# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The door for pip: builds the ROS interfaces with CMake and packs them with the Python code.

colcon does not come here: package.xml sends it to CMakeLists.txt.
"""
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Command, Distribution, find_packages, setup
from setuptools.command.build import build

HERE = Path(__file__).parent.resolve()
NAME = 'crowdhmt_ros'
VERSION = '0.1.0'

ROBOT_REQUIRES = [
    'ros-rclpy[fastrtps]~=9.1.2',
    'ros-builtin-interfaces~=2.3.0',
    'ros-diagnostic-msgs~=5.5.1',
    'ros-lifecycle-msgs~=2.3.0',
    'ros-rosgraph-msgs~=2.3.0',
    'ros-sensor-msgs~=5.5.1',
    'ros-std-msgs~=5.5.1',
    'cryptography>=3.4',
    'numpy>=1.24',
    'onnxruntime>=1.19',
    'opencv-python-headless>=4.5',  # opencv-python owns the same cv2: install one of the two
    'psutil>=5.8',
    'pyyaml>=5.3',
    'pyzmq>=22',
    'rich>=10',
    'rosbags>=0.10',
    'zstandard>=0.15',
]
TRAIN_REQUIRES = ['torch>=2.2', 'onnx>=1.16', 'soundfile>=0.12']
OPENVINO_REQUIRES = ['openvino>=2023.3']
NCNN_REQUIRES = ['ncnn>=1.0.20240410']
SEARCH_REQUIRES = ['pymoo>=0.6', 'scipy>=1.10']
DEV_REQUIRES = [
    *TRAIN_REQUIRES,
    *SEARCH_REQUIRES,
    *OPENVINO_REQUIRES,
    *NCNN_REQUIRES,
    'hypothesis',
    'matplotlib>=3.6',  # of the page of fronts that the training bench writes
    'mypy',
    'onnxslim',
    'pytest',
    'pytest-timeout',
    'pytest-xdist',
    'ruff',
    'torch-pruning',
    'types-PyYAML',
    'types-psutil',
    'vermin',
]
NODES = ['adaptation_planner', 'bag_player', 'camera_inference', 'offload_server', 'recorder',
         'resource_monitor', 'scenario_player']
PROCESSES = ['engine', 'mind', 'world']


def refuse_unsupported_machine():
    """Say in one line what to do where the ROS wheels do not exist."""
    machine = platform.machine()
    if sys.platform != 'linux' or machine != 'x86_64':
        raise SystemExit(
            f'{NAME}: pip has no ROS 2 wheels for {sys.platform} {machine}; on a robot build it '
            f'with colcon on an installed ROS 2: colcon build --packages-select {NAME}')


def refuse_missing_compiler():
    """Name the apt line for what CMake would miss with a page of output."""
    missing = [name for name in ('gcc', 'g++') if not shutil.which(name)]
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        missing.append('python3-dev')
    if missing and not (os.environ.get('CC') and os.environ.get('CXX')):
        raise SystemExit(f'{NAME}: building the ROS interfaces needs {", ".join(missing)}: '
                         f'sudo apt-get install {" ".join(missing)}')


def ros_prefix():
    """Return where the ROS build wheels lie: pip's build environment, or a prepared venv."""
    for entry in sys.path:
        site = Path(entry)
        if site.name in ('site-packages', 'dist-packages') and (site / 'ament_package').is_dir():
            return site.parents[2]
    raise SystemExit(f'{NAME}: the ROS build wheels are missing: install with build isolation, '
                     'as pip does by default, or install the requires of pyproject.toml first')


def build_tree():
    """
    Run CMake and return the tree that it installed.

    The stage is emptied first: a left CMake cache points into a build environment that pip has
    deleted. PYTHONPATH is left alone: pip's own sitecustomize does not survive a changed one.
    """
    refuse_missing_compiler()
    stage = HERE / 'build' / f'ros-{sys.implementation.cache_tag}'
    shutil.rmtree(stage, ignore_errors=True)
    prefix = ros_prefix()
    environment = dict(os.environ, AMENT_PREFIX_PATH=str(prefix), PYTHONNOUSERSITE='1',
                       _ROS_WHEELS_BOOTSTRAP_COMPLETE='1')
    for name in ('CMAKE_PREFIX_PATH', 'COLCON_PREFIX_PATH'):  # of a sourced ROS distribution
        environment.pop(name, None)
    cmake = shutil.which('cmake', path=str(prefix / 'bin')) or shutil.which('cmake')
    subprocess.run(
        [cmake, '-S', HERE, '-B', stage / 'b', '-G', 'Ninja',
         '-DCMAKE_BUILD_TYPE=Release',
         f'-DCMAKE_INSTALL_PREFIX={stage / "i"}',
         f'-DCMAKE_PREFIX_PATH={prefix}',
         f'-DPython3_EXECUTABLE={sys.executable}',
         f'-DPYTHON_EXECUTABLE={sys.executable}',
         f'-DPython3_INCLUDE_DIR={sysconfig.get_path("include")}',
         '-DBUILD_TESTING=OFF',
         '-DCROWDHMT_PYTHON_ONLY=ON',
         '-DPYTHON_INSTALL_DIR=python',
         '-DCMAKE_INSTALL_RPATH=$ORIGIN;$ORIGIN/_lib'],
        check=True, env=environment)
    subprocess.run([cmake, '--build', stage / 'b', '--target', 'install'],
                   check=True, env=environment)
    return stage / 'i'


class BuildInterfaces(Command):
    """Sub-command of build: puts the generated code beside ours and lists the share folder."""

    editable_mode = False
    user_options = ()

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options('build', ('build_lib', 'build_lib'))

    def run(self):
        (HERE / 'build').mkdir(exist_ok=True)
        with open(HERE / 'build' / 'ros.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two builds would share one stage
            self.build_and_copy()

    def build_and_copy(self):
        tree = build_tree()
        target = (HERE if self.editable_mode else Path(self.build_lib)) / NAME
        generated = tree / 'python' / NAME
        for name in ('msg', 'srv'):
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(generated / name, target / name,
                            ignore=shutil.ignore_patterns('*.c', '__pycache__'))
        shutil.rmtree(target / '_lib', ignore_errors=True)
        (target / '_lib').mkdir()
        for library in [*generated.glob('*.so')]:
            self.replace(library, target)
        for library in [*(tree / 'lib').glob(f'lib{NAME}__*_c.so'),
                        tree / 'lib' / f'lib{NAME}__rosidl_generator_py.so']:
            self.replace(library, target / '_lib')
        # In place: install_data may hold the list already.
        self.distribution.data_files[:] = share_files(tree)

    @staticmethod
    def replace(source, folder):
        """Copy to a new file: a running process may have the old one mapped."""
        (folder / source.name).unlink(missing_ok=True)
        shutil.copy2(source, folder)

    def get_outputs(self):
        return []

    def get_output_mapping(self):
        return {}

    def get_source_files(self):
        folders = ('cmake', 'config', 'launch', 'msg', 'srv')
        return ['CMakeLists.txt', 'package.xml', *(
            str(path.relative_to(HERE)) for folder in folders
            for path in sorted((HERE / folder).rglob('*'))
            if path.is_file() and '__pycache__' not in path.parts)]


def share_files(tree):
    """Return data_files: the ament index, interface texts, launch files and configuration."""
    found = {}
    for path in sorted((tree / 'share').rglob('*')):
        if path.is_file() and not {'cmake', 'environment'} & set(path.parts):
            found.setdefault(str(path.parent.relative_to(tree)), []).append(
                str(path.relative_to(HERE)))
    return sorted(found.items())


class BinaryDistribution(Distribution):
    """Asks for a platform wheel though setuptools sees no extension module."""

    def has_ext_modules(self):
        return True


def console_scripts():
    """Return the commands that pip puts on the path."""
    nodes = {name: f'{NAME}.nodes.{name}:main' for name in NODES}
    processes = {name: f'{NAME}.nodes.process:main_{name}' for name in PROCESSES}
    return [f'crowdhmt={NAME}.cli.main:main', *(
        f'crowdhmt-{name.replace("_", "-")}={entry}'
        for name, entry in {**nodes, **processes}.items())]


refuse_unsupported_machine()
build.sub_commands = [*build.sub_commands, ('build_interfaces', None)]
setup(
    name='crowdhmt-ros',
    version=VERSION,
    description="Keeps the best answer coming from a robot's camera while resources change",
    author='The crowdhmt_ros authors',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*'],
                           exclude=[f'{NAME}.{name}' for name in ('msg', 'srv', '_lib')]),
    package_data={NAME: ['py.typed', 'bundles/**/*']},
    data_files=[(f'share/{NAME}', ['package.xml'])],  # not empty, or install_data may be skipped
    distclass=BinaryDistribution,
    cmdclass={'build_interfaces': BuildInterfaces},
    install_requires=ROBOT_REQUIRES,
    extras_require={'train': TRAIN_REQUIRES, 'search': SEARCH_REQUIRES, 'report': [],
                    'openvino': OPENVINO_REQUIRES, 'ncnn': NCNN_REQUIRES, 'dev': DEV_REQUIRES},
    entry_points={'console_scripts': console_scripts()},
    zip_safe=False,
)
