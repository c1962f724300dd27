# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What other engines were measured to do, kept beside the tables of the default one.

A trial tells how long a segment takes under other engine options, as a share of the time under
its default ones in the same minutes; times the table's figure that is a row like any other. A
refusal is kept as well, so that nothing is tried twice, but for what only lacked memory. The file
belongs to one bundle on one device with one set of engines and releases.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.profiling.seams import CandidateSource, local_segments
from crowdhmt_ros.profiling.tables import (
    Row,
    Tables,
    estimate_in,
    estimate_out,
    kept_text,
    row_key,
    save_text,
    sealed,
    tables_path,
    unsealed,
)
from crowdhmt_ros.types import Candidate, EngineOptions, Estimate, Segment

FORMAT, FORMAT_VERSION = 'crowdhmt-engines', 1
PREFIX = 'engines'


@dataclass(frozen=True)
class Trial:
    """
    What one graph did under one engine setting.

    :param options: the setting
    :param beside: `row_key` of the default that it was measured against
    :param ratio: of the default's time, None where it did not run
    :param samples: that the ratio rests on
    :param memory_bytes: None where it was not worth knowing
    :param reason: why it is not offered, '' where it is
    :param put_off: it runs, and what it takes could not be measured for want of memory: another
        time it may
    """

    options: EngineOptions
    beside: str
    ratio: Optional[float]
    samples: int = 0
    memory_bytes: Optional[Estimate] = None
    reason: str = ''
    put_off: bool = False


@dataclass(frozen=True)
class EngineTables:
    """
    All trials of one bundle on one device.

    :param device: processor, cores, engines with their releases
    :param bundle_sha256: of the bundle's manifest
    :param trials: `row_key` -> trial
    :param chosen: `row_key` of a default -> that of what is faster; '' where nothing is
    """

    device: str
    bundle_sha256: str
    trials: Mapping[str, Trial] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)

    def offered(self) -> Dict[str, Trial]:
        """Return what may run in place of a default: trials whose memory is known."""
        return {key: trial for key, trial in self.trials.items()
                if trial.ratio is not None and trial.memory_bytes is not None}

    def put_off(self) -> Dict[str, Trial]:
        """Return what is not offered only because there was no memory to measure its own."""
        return {key: trial for key, trial in self.trials.items() if trial.put_off}


def engine_tables_path(cache_dir: Path, bundle_sha256: str, device: str) -> Path:
    """Return where the trials of one bundle on one device are kept."""
    return tables_path(cache_dir, bundle_sha256, device, what=PREFIX)


def kept_engine_tables(cache_dir: Path, bundle_sha256: str) -> List[Path]:
    """Return all files of trials for a bundle, the newest first."""
    return sorted(cache_dir.glob(f'{PREFIX}-{bundle_sha256[:16]}-*.json'),
                  key=lambda path: path.stat().st_mtime, reverse=True)


def save_engine_tables(tables: EngineTables, path: Path) -> None:
    """
    Write trials, whole or not at all.

    :raises CalibrationError: when the folder cannot be written or the disk is full
    """
    body = {'device': tables.device, 'bundle_sha256': tables.bundle_sha256,
            'trials': {key: _trial_out(trial) for key, trial in sorted(tables.trials.items())},
            'chosen': dict(tables.chosen)}
    save_text(sealed(FORMAT, FORMAT_VERSION, 'engines', body), path)


def load_engine_tables(path: Path) -> EngineTables:
    """
    Return the trials kept in `path`.

    :raises CalibrationError: missing, unreadable or damaged
    """
    return unsealed(kept_text(path), FORMAT, FORMAT_VERSION, 'engines', _tables_in,
                    origin=str(path))


def with_engines(tables: Tables, engines: EngineTables) -> Tables:
    """Return tables with a row for each trial that is offered and whose default has one."""
    rows = dict(tables.rows)
    for key, trial in engines.offered().items():
        default = tables.rows.get(trial.beside)
        if default is not None and trial.ratio is not None and trial.memory_bytes is not None:
            infer_s = replace(default.infer_s, mean=default.infer_s.mean * trial.ratio,
                              p95=default.infer_s.p95 * trial.ratio)
            rows[key] = Row(infer_s, trial.memory_bytes, trial.samples)
    return replace(tables, rows=rows)


def ways_of(engines: EngineTables) -> Tuple[EngineOptions, ...]:
    """Return the engine options that are offered, in order."""
    return tuple(sorted({trial.options for trial in engines.offered().values()}))


def more_candidates(candidates: Sequence[Candidate], ways: Sequence[EngineOptions],
                    tables: Tables, segments: Mapping[str, Segment]) -> Tuple[Candidate, ...]:
    """
    Return candidates under further engine options, where the tables have all of their rows.

    :param candidates: of the bundle, in the forms that `ways` name
    :param ways: engine options
    :param segments: segment_id -> graph on this device
    """
    have = {c.candidate_id for c in candidates}
    found: Dict[str, Candidate] = {}
    for candidate in candidates:
        for options in ways:
            if (options.threads, options.fusion_set, options.graph_precision) != (
                    candidate.engine.threads, candidate.engine.fusion_set,
                    candidate.engine.precision):
                continue
            other = replace(candidate, engine=options)
            keys = [row_key(segments[n].sha256, options) for n in local_segments(other)]
            if other.candidate_id not in have and set(keys) <= set(tables.rows):
                found.setdefault(other.candidate_id, other)
    return tuple(found.values())


def all_candidates(bundle: CandidateSource, tables: Tables, segments: Mapping[str, Segment], *,
                   threads: Sequence[int], memory_modes: Sequence[str],
                   ways: Sequence[EngineOptions]) -> Tuple[Candidate, ...]:
    """Return the candidates of a bundle, those of other engines behind them."""
    plain = bundle.candidates(threads, memory_modes)
    if not ways:
        return plain
    fused = any(options.fusion_set != 'none' for options in ways)
    low = any(options.graph_precision != 'fp32' for options in ways)
    bases = bundle.candidates(threads, memory_modes, all_fusions=fused, all_precisions=low) \
        if fused or low else plain
    known = {c.candidate_id for c in plain}
    return (*plain, *(c for c in more_candidates(bases, ways, tables, segments)
                      if c.candidate_id not in known))


def _trial_out(trial: Trial) -> Dict[str, Any]:
    return {'options': vars(trial.options), 'beside': trial.beside, 'ratio': trial.ratio,
            'samples': trial.samples, 'reason': trial.reason, 'put_off': trial.put_off,
            'memory_bytes': None if trial.memory_bytes is None
            else estimate_out(trial.memory_bytes)}


def _trial_in(item: Mapping[str, Any]) -> Trial:
    memory, ratio = item['memory_bytes'], item['ratio']
    if ratio is not None and not float(ratio) > 0.0:
        raise ValueError(f'not a ratio: {ratio!r}')
    return Trial(EngineOptions(**item['options']), str(item['beside']),
                 None if ratio is None else float(ratio), int(item['samples']),
                 None if memory is None else estimate_in(memory), str(item['reason']),
                 bool(item.get('put_off', False)))


def _tables_in(body: Mapping[str, Any]) -> EngineTables:
    return EngineTables(
        str(body['device']), str(body['bundle_sha256']),
        {str(key): _trial_in(item) for key, item in body['trials'].items()},
        {str(key): str(value) for key, value in body['chosen'].items()})
