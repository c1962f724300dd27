# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One process of the overhead bench: the real camera_inference beside the bare engine.

`python -m benchmarks._node_overhead JSON` prints JSON. The node runs as it does on a robot: ROS
is spun in the main thread, inference is in the worker thread, a recorder in another process
listens. Each round runs the bare engine twice and the node once, in every order. What a feedback
window costs is measured with the ten frames that a camera of 10 Hz gives it.
"""
from __future__ import annotations

import array
import itertools
import json
import os
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import rclpy  # noqa: TID251 - the bench runs the real node
from rclpy.executors import SingleThreadedExecutor  # noqa: TID251
from rclpy.parameter import Parameter  # noqa: TID251
from sensor_msgs.msg import Image

from crowdhmt_ros.campus.scene import independent_scene
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.nodes.camera_inference import CameraInferenceNode
from crowdhmt_ros.types import Candidate, Inference
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.preprocess import Preprocessor

WARM_UP_ROUNDS = 24
FRAMES_A_WINDOW = 10
WINDOWS = 20
PARTS = ('queue', 'preprocess', 'infer', 'publish', 'all')
ANSWER_TIMEOUT_S = 5.0
IMAGES = 16


class Bare:
    """
    The backend alone with preallocated preprocessing: what the node is compared with.

    Each has an executable of its own, as the node has: none finds its weights in the caches
    because another has just used them.

    :param node: configured; gives bundle and graphs
    :param candidate: what runs
    :param repeat: of the backend
    """

    def __init__(self, node: CameraInferenceNode, candidate: Candidate, repeat: int) -> None:
        segment = node.room.pool._segments[candidate.placement.segments[0].segment_id]
        backend = make_backend('onnxruntime', repeat)
        self._executable = backend.compile(segment, candidate.engine)
        self._preprocessor = Preprocessor(node.room.bundle.input)
        self._inputs = make_buffers(self._executable.inputs)
        self._outputs = make_buffers(self._executable.outputs)

    def run(self, image: np.ndarray) -> float:
        """Answer one image and return the seconds."""
        start_s = time.monotonic()
        self._preprocessor.into(image, self._inputs[0])
        self._executable.run(self._inputs, self._outputs)
        return time.monotonic() - start_s


class Watched:
    """
    The node with a stopwatch at the end of each answer.

    :param repeat: of the backend
    """

    def __init__(self, repeat: int) -> None:
        self.node = CameraInferenceNode(namespace='vehicle', parameter_overrides=[
            Parameter('autostart', value=False), Parameter('source', value='topic'),
            Parameter('backend_repeat', value=repeat), Parameter('no_frame_warn_s', value=600.0)])
        self._answered = threading.Event()
        self._took_s = 0.0
        self.parts_s: List[Tuple[float, ...]] = []
        self.node.trigger_configure()
        publish = self.node.answers.publish

        def publish_and_note(frame: Frame, inference: Inference, queue_s: float) -> None:
            start_s = time.monotonic()
            publish(frame, inference, queue_s)
            end_s = time.monotonic()
            self._took_s = end_s - frame.received_s
            self.parts_s.append((queue_s, inference.preprocess_s, inference.infer_s,
                                 end_s - start_s, self._took_s))
            self._answered.set()

        self.node.answers.publish = publish_and_note
        self.node.trigger_activate()

    def feedback_s(self, image: np.ndarray) -> float:
        """Return the seconds that a window costs a frame, at ten frames a window."""
        took = []
        for _ in range(WINDOWS):
            for _ in range(FRAMES_A_WINDOW):
                self.offer(image)
            start_s = time.monotonic()
            self.node._on_window()
            took.append((time.monotonic() - start_s) / FRAMES_A_WINDOW)
        return float(np.median(took))

    def wait(self) -> float:
        """Return the seconds from frame in memory to the end of its answer."""
        if not self._answered.wait(ANSWER_TIMEOUT_S):
            raise RuntimeError('the node did not answer')
        return self._took_s

    def offer(self, image: np.ndarray) -> float:
        """Have an image of an own source answered and return the seconds."""
        self._answered.clear()
        now_ns = self.node.get_clock().now().nanoseconds
        self.node._emit(Frame(image, now_ns, 'camera', time.monotonic(), 'scenes'))
        return self.wait()

    def publish(self, publisher: Any, message: Image) -> float:
        """Have an image of a topic answered and return the seconds since it was decoded."""
        self._answered.clear()
        message.header.stamp = self.node.get_clock().now().to_msg()
        publisher.publish(message)
        return self.wait()


def image_message(image: np.ndarray) -> Image:
    """Return a bgr8 message."""
    data = array.array('B', image.tobytes())
    return Image(height=image.shape[0], width=image.shape[1], encoding='bgr8',
                 step=3 * image.shape[1], data=data)


def rounds(actions: Sequence[Callable[[int], float]], count: int
           ) -> List[Tuple[float, ...]]:
    """
    Run all actions once a round, in every order by turns: one leaves its caches to the next.

    Rounds follow each other without a pause: a sleeping processor wakes up at its own pace.
    """
    found = []
    orders = list(itertools.permutations(range(len(actions))))
    for number in range(count):
        took = [0.0] * len(actions)
        for which in orders[number % len(orders)]:
            took[which] = actions[which](number)
        found.append(tuple(took))
    return found


def measure(watched: Watched, options: Dict[str, Any]) -> Dict[str, Any]:
    """Run all rounds; called in a thread beside the spinning main thread."""
    node, repeat = watched.node, options['repeat']
    candidate = next(c for c in node.room.bundle.candidates((1,), ('fast',))
                     if c.variant_id == options['variant_id'])
    node.room.switcher.apply(candidate, 1) or node.room.executor.switch(
        candidate, node.room.pool.prepare(candidate), 1)
    bare, again = Bare(node, candidate, repeat), Bare(node, candidate, repeat)
    images = [independent_scene(1, i, 'noon')[0] for i in range(IMAGES)]
    messages = [image_message(image) for image in images]
    publisher = node.create_publisher(Image, 'image_raw', 1)
    own = (lambda i: bare.run(images[i % IMAGES]), lambda i: again.run(images[i % IMAGES]),
           lambda i: watched.offer(images[i % IMAGES]))
    by_topic = (*own[:2], lambda i: watched.publish(publisher, messages[i % IMAGES]))
    rounds(own, WARM_UP_ROUNDS)
    watched.parts_s.clear()
    found = rounds(own, options['rounds'])
    parts_s = np.median(np.array(watched.parts_s), axis=0)
    feedback_s = watched.feedback_s(images[0])
    rounds(by_topic, WARM_UP_ROUNDS)
    return {'own': found, 'topic': rounds(by_topic, options['rounds']),
            'feedback_s_a_frame': feedback_s, 'parts_s': dict(zip(PARTS, parts_s.tolist())),
            'infer_s': float(np.median([r[0] for r in found]))}


def main() -> int:
    """Measure and print."""
    options = json.loads(sys.argv[1])
    # All threads of the node share one core: which core the scheduler wakes them on is not its
    # doing, and changes from process to process by more than what is measured.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rclpy.init()
    watched = Watched(options['repeat'])
    executor = SingleThreadedExecutor()
    executor.add_node(watched.node)
    result: Dict[str, Any] = {}
    thread = threading.Thread(target=lambda: result.update(measure(watched, options)))
    thread.start()
    while thread.is_alive():
        executor.spin_once(timeout_sec=0.1)
    watched.node.close()
    watched.node.destroy_node()
    rclpy.try_shutdown()
    if not result:
        return 1
    print(json.dumps(result), flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
