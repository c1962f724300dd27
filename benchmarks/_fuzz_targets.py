# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every reader of what comes from another robot, with the memory that it may take at most."""
from __future__ import annotations

import dataclasses
import itertools
import threading
import tracemalloc
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Tuple, Type

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from benchmarks import _fuzz_inputs as inputs
from crowdhmt_ros.errors import CodecError, CrowdHMTError, TrustError
from crowdhmt_ros.offload.codec import decode, encode
from crowdhmt_ros.offload.curve import key_of
from crowdhmt_ros.offload.image_payload import decode_image
from crowdhmt_ros.offload.messages import (
    Cancel,
    LeaseRequest,
    Message,
    Ping,
    Release,
    RunReply,
    RunRequest,
    canonical,
    checked,
    pack,
    unpack,
)
from crowdhmt_ros.offload.served import WHOLE_CODECS, Served, ServerSettings
from crowdhmt_ros.offload.server import SegmentServer
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

KIB = 1024
HEADER_COST_BYTES = 512 * KIB
"""Of 4096 bytes of JSON: a list in a list takes some hundred bytes for each bracket."""
SLACK_BYTES = 64 * KIB
REPLY_TIMEOUT_S = 10.0
Calls = Tuple[Callable[[Any], object], Callable[[], None]]


@dataclass(frozen=True)
class Target:
    """
    One reader.

    :param cap_bytes: declared: what one input may make it allocate, its result included
    :param inputs: what it is fed
    :param sample: a right input, read once before anything is measured
    :param make: returns the reader and what ends it; a refusal is one of `refusals`, anything
        else that it raises is a crash
    """

    name: str
    cap_bytes: int
    inputs: st.SearchStrategy[Any]
    sample: Any
    make: Callable[[], Calls]
    refusals: Tuple[Type[CrowdHMTError], ...] = (CodecError,)


@dataclass
class Outcome:
    """What came of the inputs of one target."""

    name: str
    cap_bytes: int
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    peak_bytes: int = 0
    crashes: List[str] = dataclasses.field(default_factory=list)


def read_message(frames: List[bytes]) -> Message:
    """Read a message; what is read can be sent and signed again."""
    message = unpack(frames, max_payload_bytes=inputs.MAX_PAYLOAD_BYTES)
    assert unpack(pack(message), max_payload_bytes=inputs.MAX_PAYLOAD_BYTES) == message
    assert canonical(message)
    return message


def check_message(message: Message) -> Message:
    """Check a message of the other door; what passes can be signed and sent."""
    assert unpack(pack(checked(message)), max_payload_bytes=1 << 20) == message
    return message


def reader_of(codec: str) -> Callable[[bytes], object]:
    """Return the decoder of tensors; what it returns is what the manifest says."""
    def read(payload: bytes) -> object:
        found = decode(codec, payload, inputs.SPECS)
        for array, spec in zip(found, inputs.SPECS):
            assert array.shape == spec.shape
            assert array.dtype == spec.dtype
            assert np.isfinite(array).all()
        return found
    return read


def read_image(payload: bytes) -> np.ndarray:
    """Read a picture."""
    image = decode_image(payload, inputs.HEIGHT, inputs.WIDTH)
    assert image.shape == (inputs.HEIGHT, inputs.WIDTH, 3)
    assert image.dtype == np.uint8
    return image


class Engine:
    """Pool, executable and turns in one: outputs are sums of the input."""

    held_bytes = 0.0

    def hold(self, segment_id: str, options: EngineOptions) -> Engine:
        """Return the executable."""
        return self

    def unhold(self, segment_id: str, options: EngineOptions) -> None:
        """Let go."""

    def segment_bytes(self, segment_id: str, options: EngineOptions) -> float:
        """Return what a segment takes."""
        return 0.0

    def guest(self, timeout_s: float) -> bool:
        """Let every guest compute."""
        return True

    def run(self, given: Any, outputs: Any) -> None:
        """Compute."""
        outputs[0][:] = sum(float(np.clip(array, -1, 1).sum()) for array in given)


class ServedRequests:
    """A server, asked by a trusted robot for anything."""

    def __init__(self) -> None:
        picture = (TensorSpec('image', 'float32', (1, 3, inputs.HEIGHT, inputs.WIDTH)),)
        logits = (TensorSpec('logits', 'float32', (1, 4)),)
        tail = Segment('tail', inputs.SHA, '', inputs.SPECS, logits, 1)
        whole = Segment('whole', inputs.SHA, '', picture, logits, 1)
        engine = Engine()
        self.server = SegmentServer(
            {'tail': Served(tail), 'whole': Served(whole, WHOLE_CODECS)}, engine, engine,
            settings=ServerSettings('drone', inputs.SHA), prepare=lambda image, out: None)
        self.server.start()
        self._seqs = itertools.count(1)
        self._lease_id = ''

    def asked(self, message: Any) -> Any:
        """Return a request that gets past the replay check, with a lease where it has one."""
        seq = next(self._seqs)
        fresh: Dict[str, Any] = {'request_seq': seq, 'nonce': seq.to_bytes(16, 'big')}
        if getattr(message, 'lease_id', None) == 'l':
            fresh['lease_id'] = self._lease_id
        return dataclasses.replace(message, **fresh)

    def __call__(self, message: Message) -> object:
        """Hand a request in; every one is answered, and the server lives on."""
        request = checked(self.asked(message))
        answered = threading.Event()
        replies: List[RunReply] = []

        def reply(answer: RunReply) -> None:
            replies.append(answer)
            answered.set()

        if isinstance(request, RunRequest):
            self.server.run('vehicle', request, reply)
            assert answered.wait(REPLY_TIMEOUT_S), 'no reply'
            checked(replies[0])
        elif isinstance(request, LeaseRequest):
            lease = checked(self.server.lease('vehicle', request))
            self._lease_id = lease.lease_id or self._lease_id
        elif isinstance(request, Cancel):
            self.server.cancel('vehicle', request)
        elif isinstance(request, Release):
            self.server.release('vehicle', request)
        elif isinstance(request, Ping):
            self.server.refusal_of_ping('vehicle', request)
        assert not self.server.closed_reason, self.server.closed_reason
        return request


def served() -> Calls:
    """Return a running server's entrance, and what stops it."""
    requests = ServedRequests()
    requests(inputs.MESSAGES[1])
    return requests, requests.server.stop


def plain(read: Callable[[Any], object]) -> Callable[[], Calls]:
    """Return a reader that holds nothing."""
    return lambda: (read, lambda: None)


@st.composite
def requests(draw: Any) -> Message:
    """Draw a request of the right form for anything: odd payloads, codecs, names, numbers."""
    if draw(st.booleans()):
        return draw(inputs.changed())  # type: ignore[no-any-return]
    codec, payload = draw(st.one_of(
        st.tuples(st.sampled_from(('raw', 'fp16')), inputs.raw_payloads()),
        st.tuples(st.just('int8'), inputs.payloads(inputs.int8_samples())),
        st.tuples(st.just('jpeg'), inputs.payloads(inputs.image_samples()))))
    return RunRequest('vehicle', 'b', 'l', 1, inputs.NONCE,
                      'whole' if codec == 'jpeg' else 'tail', inputs.SHA, codec, 5.0, payload)


def targets() -> List[Target]:
    """Return every target."""
    tensors = inputs.samples_of_tensors()
    message_cap = inputs.MAX_PAYLOAD_BYTES + HEADER_COST_BYTES
    # Twice the result: the packed form unfolded, and the result; then copies of the input.
    tensor_cap = 8 * inputs.SIZES + 2 * inputs.MAX_PAYLOAD_BYTES + SLACK_BYTES
    image_cap = 6 * inputs.HEIGHT * inputs.WIDTH + 2 * inputs.MAX_PAYLOAD_BYTES + SLACK_BYTES
    int8, images = inputs.int8_samples(), inputs.image_samples()
    halves = encode('fp16', tensors)
    return [
        Target('message', message_cap, inputs.frames(), pack(inputs.MESSAGES[0]),
               plain(read_message)),
        Target('header', message_cap, inputs.headers(), pack(inputs.MESSAGES[1]),
               plain(read_message)),
        Target('fields', message_cap, inputs.changed(), inputs.MESSAGES[0], plain(check_message)),
        Target('raw', tensor_cap, inputs.raw_payloads(), encode('raw', tensors),
               plain(reader_of('raw'))),
        Target('fp16', tensor_cap, inputs.payloads([halves]), halves, plain(reader_of('fp16'))),
        Target('int8', tensor_cap, inputs.payloads(int8), int8[0], plain(reader_of('int8'))),
        Target('jpeg', image_cap, inputs.payloads(images), images[0], plain(read_image)),
        Target('key', SLACK_BYTES, st.one_of(st.text(max_size=80), st.text(
            '0123456789abcdefXYZ.-:+=^!/*?&<>()[]{}@%$#', min_size=38, max_size=66)),
            'ab' * 32, plain(key_of), (TrustError,)),
        Target('server', tensor_cap + image_cap + message_cap, requests(), inputs.MESSAGES[0],
               served)]


def fuzz(target: Target, count: int, *, seed: int) -> Outcome:
    """
    Feed inputs to a target and watch what each makes it allocate.

    :param count: how many
    """
    outcome = Outcome(target.name, target.cap_bytes)
    call, close = target.make()
    call(target.sample)

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, database=None, deadline=None,
                         phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @hypothesis.given(target.inputs)
    def one(value: Any) -> None:
        outcome.inputs += 1
        tracemalloc.start()
        try:
            call(value)
            outcome.accepted += 1
        except target.refusals:
            outcome.refused += 1
        except Exception as error:
            note_crash(outcome, error, value)
        finally:
            outcome.peak_bytes = max(outcome.peak_bytes, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    try:
        one()
    finally:
        close()
    return outcome


def note_crash(outcome: Outcome, error: Exception, value: Any) -> None:
    """Remember what was raised, and by what."""
    outcome.crashes.append('%s: %s by %.200r' % (type(error).__name__, error, value))
