# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both ends of a channel: a scripted drone, a real one in a process, the caller."""
import contextlib
import dataclasses
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from test.offload.guests import BUNDLE, MAP, TAIL, until

zmq = pytest.importorskip('zmq')
from crowdhmt_ros.offload.calls import Asker, RequestSeq  # noqa: E402
from crowdhmt_ros.offload.channel import Call, LeaseWish  # noqa: E402
from crowdhmt_ros.offload.codec import encode  # noqa: E402
from crowdhmt_ros.offload.messages import (  # noqa: E402
    LeaseReply,
    LeaseRequest,
    Ping,
    Pong,
    RunReply,
    RunRequest,
    pack,
    unpack,
)
from crowdhmt_ros.offload.trust import KeyStore, throw_away  # noqa: E402
from crowdhmt_ros.offload.zeromq_channel import ZeroMQChannel  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PAYLOAD = encode('raw', (MAP,))
SUMS = MAP.reshape(-1)[:64].reshape(4, 16).sum(axis=1)
WISH = LeaseWish((TAIL.segment_id,), 1000.0, 20.0, 30.0)


@pytest.fixture(scope='module')
def stores(tmp_path_factory):
    folders = throw_away(tmp_path_factory.mktemp('trust') / 'keys', ('vehicle', 'drone'))
    return {name: KeyStore(folder) for name, folder in folders.items()}


class ScriptedDoor:
    """
    A drone that answers as the test says: one ROUTER with CURVE and a thread.

    :param answer: takes a request and returns the parts of every answer to it
    """

    def __init__(self, stores, answer, address='tcp://127.0.0.1:*'):
        self.answer = answer
        self.requests = []
        self.silent_to_pings = False
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.curve_server = True
        self._router.curve_secretkey = stores['drone'].secret
        self._router.bind(address)
        self.address = self._router.last_endpoint.decode()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopping:
            if not self._router.poll(20):
                continue
            route, *parts = self._router.recv_multipart()
            request = unpack(parts, max_payload_bytes=1 << 22)
            self.requests.append(request)
            if isinstance(request, Ping):
                answers = [] if self.silent_to_pings else [pack(Pong(
                    'drone', 'd1', request.nonce, request.request_seq, len(request.payload)))]
            else:
                answers = self.answer(request)
            for answer in answers:
                self._router.send_multipart([route, *answer])
        self._context.destroy(linger=0)

    def of_kind(self, kind):
        return [r for r in self.requests if isinstance(r, kind)]

    def close(self):
        self._stopping = True
        self._thread.join(5.0)


def granted(request):
    return pack(LeaseReply(request.nonce, request.request_seq, True, '', 'lease1', 30.0))


def ran(request, **other):
    reply = RunReply(request.lease_id, request.nonce, request.request_seq, request.segment_id,
                     True, '', 'raw', b'logits', 0.001, 0.002)
    return pack(dataclasses.replace(reply, **other))


def well(request):
    if isinstance(request, LeaseRequest):
        return [granted(request)]
    return [ran(request)] if isinstance(request, RunRequest) else []


@pytest.fixture
def opened(stores):
    """Return a function that opens channels and doors; all are closed at the end."""
    made = []

    class Opened:
        def door(self, answer=well, **options):
            made.append(ScriptedDoor(stores, answer, **options))
            return made[-1]

        def channel(self, address, *, wait=True, server_key=None, own=None, **options):
            options.setdefault('probe_bytes', 4096)  # less than the guests' image takes
            own = own or (stores['vehicle'].public, stores['vehicle'].secret)
            found = ZeroMQChannel(
                'drone', address, server_key=server_key or stores['drone'].public,
                public_key=own[0], secret_key=own[1],
                asker=Asker('vehicle', 'v1', BUNDLE, 'fingerprint', RequestSeq()), **options)
            made.append(found)
            if wait:
                until(lambda: found.health().connected)
            return found

    yield Opened()
    for one in reversed(made):
        one.close()


def call(lease_id='lease1', budget_s=5.0, payload=PAYLOAD, segment=TAIL):
    return Call(lease_id, segment.segment_id, segment.sha256, 'raw', budget_s, payload)


@pytest.fixture
def child(stores):
    """Return a function that starts a serving process; returns it and its address."""
    started = []

    def start(address=''):
        process = subprocess.Popen(
            [sys.executable, '-m', 'test.offload.serving_child', str(stores['drone'].folder),
             *([address] if address else [])],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()
