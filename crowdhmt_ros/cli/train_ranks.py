# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`crowdhmt train TASK --ranks N`: processes on this machine that train as one (P III-A1).

Each is a rank as `torchrun` would start it. Where one fails the others are ended, and what it
said last is the error: a rank that has lost another one only knows that it has.
"""
from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, List, Tuple

from crowdhmt_ros.errors import CrowdHMTError, DataError

PR_SET_PDEATHSIG = 1
GRACE_S = 0.5
"""In which ranks that failed for the same reason end by themselves."""
END_S = 10.0
UNUSABLE, LOST, INTERRUPTED = 2, 1, 130
"""Exit codes of a rank: it was asked for what cannot be, it could not go on, or was stopped."""
HERE = '127.0.0.1'


def run(args: argparse.Namespace, data: Path) -> int:
    """
    Train with several ranks; the first one writes the family.

    :param args: of `crowdhmt train`
    :param data: folder with the task's files
    :returns: 0
    :raises DataError: a rank failed; the last checkpoint stays
    """
    context, port = multiprocessing.get_context('spawn'), _free_port()
    ranks: List[Tuple[Any, Connection]] = []
    try:
        for rank in range(args.ranks):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_rank, args=(args, data, rank, port, theirs),
                                      daemon=True)
            process.start()
            theirs.close()
            ranks.append((process, ours))
        failed = _first_failure(ranks)
    finally:
        _end([process for process, _ in ranks])
    if failed:
        raise DataError(failed)
    return 0


def _first_failure(ranks: List[Tuple[Any, Connection]]) -> str:
    """Wait until all are done or one has failed; return the line that tells why, '' for done."""
    running = [process for process, _ in ranks]
    while running and not any(process.exitcode for process, _ in ranks):
        wait([process.sentinel for process in running])
        running = [process for process in running if process.exitcode is None]
    if not running and not any(process.exitcode for process, _ in ranks):
        return ''
    time.sleep(GRACE_S)
    # A killed rank and one that was asked for what cannot be are causes; the rest follows.
    codes = [(process.exitcode or 0, rank) for rank, (process, _) in enumerate(ranks)]
    code, rank = min((c for c in codes if c[0]),
                     key=lambda c: (c[0] > 0, c[0] != UNUSABLE, c[1]))
    if code == UNUSABLE:
        return _said(ranks[rank][1])
    why = 'was killed by signal %d' % -code if code < 0 else 'ended: %s' % _said(ranks[rank][1])
    return ('rank %d of %d %s; the others were ended, go on from the last checkpoint with --resume'
            % (rank, len(ranks), why))


def _said(end: Connection) -> str:
    try:
        return str(end.recv()) if end.poll() else 'it did not say why'
    except EOFError:
        return 'it did not say why'


def _end(processes: List[Any]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + END_S
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _rank(args: argparse.Namespace, data: Path, rank: int, port: int, said: Connection) -> None:
    """Be one of the ranks; only the first one prints."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.environ.update({'RANK': str(rank), 'LOCAL_RANK': str(rank), 'MASTER_ADDR': HERE,
                       'WORLD_SIZE': str(args.ranks), 'MASTER_PORT': str(port),
                       'GLOO_SOCKET_IFNAME': 'lo'})
    if rank:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        from crowdhmt_ros.cli.train import configure_threads
        configure_threads(max(1, args.threads // args.ranks))
        from crowdhmt_ros.cli import train_task
        train_task.run(args, data)
    except CrowdHMTError as error:
        said.send(str(error))
        sys.exit(UNUSABLE)
    except RuntimeError as error:  # of torch.distributed, where another rank is gone
        said.send(' '.join(str(error).split())[:200])
        sys.exit(LOST)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
