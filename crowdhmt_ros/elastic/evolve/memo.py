# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What was measured is kept in a file, line by line, so that a search can go on (E5)."""
from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Dict, Sequence

import torch

from crowdhmt_ros.elastic.evolve.zero_shot import Measured, Meter
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.types import Variant, variant_from_json, variant_to_json


class Remembering:
    """A meter that measures each variant once, whatever happens to the process."""

    def __init__(self, meter: Meter, path: Path, identity: str) -> None:
        """
        Read what was measured before.

        :param meter: measures what is new
        :param path: file that is there already, or not yet
        :param identity: of network and images; figures of others are refused
        :raises DataError: the file is damaged, or belongs to another search
        """
        self.net, self._meter, self._path = meter.net, meter, path
        self._known: Dict[Variant, Measured] = {}
        self.found = 0
        """Figures that the file had."""
        if path.exists():
            self._read(identity)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({'identity': identity}) + '\n', encoding='utf-8')

    def measure(self, variant: Variant) -> Measured:
        """See `Meter.measure`; what is new is in the file when this returns."""
        if variant not in self._known:
            found = self._meter.measure(variant)
            line = {**variant_to_json(variant), 'loss': found.loss, 'accuracy': found.accuracy}
            with self._path.open('a', encoding='utf-8') as file:
                file.write(json.dumps(line) + '\n')
            self._known[variant] = found
        return self._known[variant]

    def _read(self, identity: str) -> None:
        whole = self._path.read_bytes()
        kept = whole[:whole.rfind(b'\n') + 1]  # a line that was cut off is measured again
        lines = kept.decode('utf-8', 'replace').splitlines()
        try:
            header = json.loads(lines[0]) if lines else {}
            if not lines or header['identity'] != identity:
                raise DataError('%s holds figures of another network or other images; name '
                                'another file, or delete it' % self._path)
            for line in lines[1:]:
                value = json.loads(line)
                self._known[variant_from_json(value)] = Measured(
                    _figure(value['loss']), _figure(value['accuracy']))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise DataError('%s is damaged (%s); delete it to measure anew' % (
                self._path, str(error).splitlines()[0][:120])) from error
        self.found = len(self._known)
        if kept != whole:
            self._path.write_bytes(kept)


def _figure(value: object) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError('a figure is %.40r' % (value,))
    return float(value)


def identity_of(net: Supernet, tensors: Sequence[torch.Tensor]) -> str:
    """
    Digest a network's weights and what it is measured on.

    :param tensors: images, labels
    """
    digest = hashlib.sha256(repr(net.structure.exits).encode())
    for name in net.names():
        digest.update(name.encode())
        digest.update(net.tensor(name).detach().cpu().contiguous().numpy().tobytes())
    for tensor in tensors:
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
