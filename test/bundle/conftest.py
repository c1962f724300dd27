# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import shutil
from pathlib import Path

import pytest

TINY = Path(__file__).parent / 'data' / 'tiny'


class Copy:
    """A copy of the tiny bundle that a test may damage."""

    def __init__(self, directory):
        self.directory = directory
        shutil.copytree(TINY, directory)

    @property
    def manifest(self):
        return json.loads((self.directory / 'manifest.json').read_text())

    def write_manifest(self, manifest):
        """Write a manifest together with its right digest."""
        self.write_text(json.dumps(manifest))

    def write_text(self, text):
        content = text.encode()
        (self.directory / 'manifest.json').write_bytes(content)
        (self.directory / 'manifest.json.sha256').write_text(
            hashlib.sha256(content).hexdigest() + '\n')

    def edit(self, change):
        """Apply a function to the manifest and write it with its right digest."""
        manifest = self.manifest
        change(manifest)
        self.write_manifest(manifest)


@pytest.fixture
def tiny_path():
    return TINY


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path / 'copy')
