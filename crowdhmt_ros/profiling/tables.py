# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The tables measured on one device: latency and memory of each graph under each engine setting.

They are kept as one JSON file beside the materialised graphs, written whole or not at all, and
read back only when every byte is as written and the device is the same.
"""
from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Tuple, TypeVar

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.types import SOURCES, EngineOptions, Estimate

FORMAT = 'crowdhmt-tables'
FORMAT_VERSION = 1
Kept = TypeVar('Kept')


@dataclass(frozen=True)
class Row:
    """
    What one graph costs under one engine setting on an idle machine.

    :param infer_s: the engine alone
    :param memory_bytes: engine state and weights, preprocessing excluded
    :param samples: runs that the latency rests on, 0 where it was counted, not measured
    """

    infer_s: Estimate
    memory_bytes: Estimate
    samples: int


@dataclass(frozen=True)
class Tables:
    """
    All rows of one bundle on one device.

    :param device: processor, cores, engine with its version
    :param bundle_sha256: of the bundle's manifest
    :param preprocess_s: frame to tensor
    :param rows: `row_key` -> row
    :param codec_s: `crossing_key` -> packing and unpacking of one frame's crossing
    """

    device: str
    bundle_sha256: str
    preprocess_s: Estimate
    rows: Mapping[str, Row]
    codec_s: Mapping[str, Estimate] = field(default_factory=dict)


def row_key(segment_sha256: str, options: EngineOptions) -> str:
    """
    Return the name of a row.

    :param segment_sha256: of the weightless graph
    :param options: every field counts
    """
    return '/'.join((segment_sha256, options.backend, f'{options.threads}t',
                     'spin' if options.spinning else 'block', options.precision,
                     options.fusion_set, options.memory_mode))


def crossing_key(cut_id: str, codec: str) -> str:
    """
    Return the name of a timed crossing.

    :param cut_id: '' for the frame itself
    :param codec: how it is packed
    """
    return '%s/%s' % (codec, cut_id)


def tables_path(cache_dir: Path, bundle_sha256: str, device: str, *,
                what: str = 'tables') -> Path:
    """Return where the tables of one bundle on one device are kept."""
    device_sha = hashlib.sha256(device.encode()).hexdigest()
    return cache_dir / f'{what}-{bundle_sha256[:16]}-{device_sha[:12]}.json'


def to_json(tables: Tables) -> str:
    """Return `tables` as text that `from_json` turns into an equal value."""
    body = {
        'device': tables.device,
        'bundle_sha256': tables.bundle_sha256,
        'preprocess_s': estimate_out(tables.preprocess_s),
        'rows': {key: {'infer_s': estimate_out(row.infer_s),
                       'memory_bytes': estimate_out(row.memory_bytes),
                       'samples': row.samples} for key, row in sorted(tables.rows.items())},
        'codec_s': {key: estimate_out(e) for key, e in sorted(tables.codec_s.items())},
    }
    return sealed(FORMAT, FORMAT_VERSION, 'tables', body)


def from_json(text: str, *, origin: str) -> Tables:
    """
    Return the tables in `text`.

    :param origin: where the text comes from, for the error
    :raises CalibrationError: damaged, incomplete, or of another version
    """
    return unsealed(text, FORMAT, FORMAT_VERSION, 'tables', _tables_in, origin=origin)


def sealed(format_name: str, version: int, part: str, body: object) -> str:
    """Return `body` as text that tells when it was changed or cut short."""
    return json.dumps({'format': format_name, 'format_version': version,
                       'sha256': _digest(body), part: body}, indent=1, sort_keys=True)


def unsealed(text: str, format_name: str, version: int, part: str, read: Callable[[Any], Kept],
             *, origin: str) -> Kept:
    """
    Return what `read` makes of the body that was sealed.

    :param origin: where the text comes from, for the error
    :raises CalibrationError: damaged, incomplete, or of another version
    """
    again = 'delete it and they are measured anew'
    try:
        document = json.loads(text)
        found = document['format_version']
        if document['format'] != format_name or found != version:
            raise CalibrationError(f'{origin} holds {part} of version {found!r}, this package '
                                   f'reads {version}: {again}')
        if document['sha256'] != _digest(document[part]):
            raise CalibrationError(f'{origin} was changed or cut short: {again}')
        return read(document[part])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(f'{origin} holds no usable {part} ({error!r}): {again}') from error


def save_tables(tables: Tables, path: Path) -> None:
    """
    Write `tables` to `path`, whole or not at all.

    :raises CalibrationError: when the folder cannot be written or the disk is full
    """
    save_text(to_json(tables), path)


def save_text(text: str, path: Path) -> None:
    """
    Write a text, whole or not at all.

    :raises CalibrationError: when the folder cannot be written or the disk is full
    """
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open('w', encoding='utf-8') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        _discard(part)
        raise CalibrationError(
            f'tables cannot be kept in {path.parent} ({error.strerror or error}): free some room '
            'there or name another folder with $CROWDHMT_CACHE') from error


def load_tables(path: Path) -> Tables:
    """
    Return the tables kept in `path`.

    :raises CalibrationError: missing, unreadable or damaged
    """
    return from_json(kept_text(path), origin=str(path))


def kept_text(path: Path) -> str:
    """
    Return what is kept in `path`.

    :raises CalibrationError: missing or unreadable
    """
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f'tables {path} cannot be read: {error}') from error


def _discard(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        return


def _digest(body: object) -> str:
    text = json.dumps(body, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def estimate_out(estimate: Estimate) -> Tuple[float, float, str]:
    """Return an estimate as it is kept."""
    return (estimate.mean, estimate.p95, estimate.source)


def estimate_in(item: Any) -> Estimate:
    """
    Return a kept estimate.

    :raises ValueError: it is none
    """
    mean, p95, source = item
    if source not in SOURCES or not (float(mean) >= 0.0 and float(p95) >= 0.0):
        raise ValueError(f'not an estimate: {item!r}')
    return Estimate(float(mean), float(p95), str(source))


def _tables_in(body: Mapping[str, Any]) -> Tables:
    rows: Dict[str, Row] = {}
    for key, item in body['rows'].items():
        rows[str(key)] = Row(estimate_in(item['infer_s']), estimate_in(item['memory_bytes']),
                             int(item['samples']))
    return Tables(str(body['device']), str(body['bundle_sha256']),
                  estimate_in(body['preprocess_s']), rows,
                  {str(k): estimate_in(e) for k, e in body.get('codec_s', {}).items()})
