# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Camera and model in one node: a frame never crosses a process before it is answered.

configure: open the bundle, write its graphs to the cache, compile the leanest variant.
activate: open the source and answer. Until the first plan the leanest variant answers.
"""
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Optional

from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.msg import LabelInfo, Plan
from crowdhmt_ros.nodes import log_bridge, topics
from crowdhmt_ros.nodes.answers import AnswerPublisher, label_info
from crowdhmt_ros.nodes.camera_health import (
    UNCONFIGURED,
    FrameCounts,
    FrameHealth,
    engine_health,
)
from crowdhmt_ros.nodes.convert import candidate_from_msg
from crowdhmt_ros.nodes.declare import declare, on_change
from crowdhmt_ros.nodes.diagnostics import ERROR, WARN, Diagnostics, Health
from crowdhmt_ros.nodes.engine_room import EngineRoom, open_engine_room
from crowdhmt_ros.nodes.engine_share import EngineShare
from crowdhmt_ros.nodes.feedback_topic import FeedbackTopic
from crowdhmt_ros.nodes.feedback_window import ConditionRule, FeedbackWindow
from crowdhmt_ros.nodes.frame_age import FrameAges
from crowdhmt_ros.nodes.frame_sources import make_source
from crowdhmt_ros.nodes.image_topics import ImageTopics
from crowdhmt_ros.nodes.obstacle_watch import ObstacleWatch
from crowdhmt_ros.nodes.params import CameraInferenceParameters
from crowdhmt_ros.nodes.peer_opening import NodeLinks, open_peer_links, peers_health
from crowdhmt_ros.nodes.plan_door import PlanDoor
from crowdhmt_ros.nodes.plan_figures import PlanFigures
from crowdhmt_ros.nodes.process import main_of
from crowdhmt_ros.nodes.progress import bundle_progress
from crowdhmt_ros.nodes.qos import profile_of, wait_for_acknowledged
from crowdhmt_ros.nodes.scalars import time_to_ns
from crowdhmt_ros.nodes.serving import Server, SourceLog, SourceThread, Throttle
from crowdhmt_ros.vision.frame import Frame

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
WINDOW_S = 1.0
WATCH_S = 0.25
WARN_AGAIN_S = 10.0
LINGER_S = 0.5
"""An own source that ended leaves its last frames this long to be answered."""


class CameraInferenceNode(LifecycleNode):
    """
    Takes frames, answers each, brings plans into force between two frames.

    :param share: engine of this process, None for one of its own
    """

    def __init__(self, *, share: Optional[EngineShare] = None, **options: Any) -> None:
        super().__init__('camera_inference', **options)
        self._share = share
        log_bridge.attach(self)
        self.finished = False
        self.parameters = declare(self, CameraInferenceParameters)
        on_change(self, lambda: self.parameters, self._accept)
        self.robot_id = self.parameters.robot_id or self.get_namespace().strip('/')
        self.figures = PlanFigures()
        self.room: Optional[EngineRoom] = None
        self.door: Optional[PlanDoor] = None
        self.server: Optional[Server] = None
        self.peers: Optional[NodeLinks] = None
        self._source: Optional[SourceThread] = None
        self._source_log: Optional[SourceLog] = None
        self._images: Optional[ImageTopics] = None
        self._start_ns: Optional[int] = None
        self._problem = UNCONFIGURED
        self._qos_problem = ''
        self._silent = ''
        self._ended_s: Optional[float] = None
        self._throttle = Throttle(WARN_AGAIN_S)
        self._frames = FrameHealth()
        sim_time = bool(self.get_parameter('use_sim_time').value)
        self.ages = FrameAges(sim_time=sim_time)
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                          on_clock_change=True), post_callback=self._on_clock_jump)
        self.diagnostics = Diagnostics(self, hardware_id=self.robot_id or 'robot')
        self.diagnostics.add('engine', self._engine_health)
        self.diagnostics.add('frames', self._frame_health)
        self.diagnostics.add('peers', lambda: peers_health(
            self.peers.links if self.peers else None))
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch = self.create_timer(WATCH_S, self._look_after, clock=self._steady)

    # Lifecycle

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager does that."""
        if self.parameters.autostart and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open what answers frames; a failure leaves the node unconfigured, to be tried again."""
        try:
            self.room = open_engine_room(self.parameters, progress=bundle_progress(self),
                                         share=self._share)
        except CrowdHMTError as error:
            self._problem = f'configure failed: {error}; set it right and configure again'
            self.get_logger().error(self._problem)
            self.diagnostics.publish()
            return FAILURE
        self._problem = ''
        self._connect(self.room)
        for warning in self.room.warnings:
            self.get_logger().warning(warning)
        self.get_logger().info(f'bundle {self.room.bundle.manifest.name} is ready, '
                               f'{self.room.fallback.candidate_id} answers until the first plan')
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the source and answer."""
        try:
            self._open_source()
        except CrowdHMTError as error:
            self._problem = f'activate failed: {error}'
            self.get_logger().error(self._problem)
            self._stop_serving()
            return FAILURE
        self._problem = ''
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer or report every frame that came in, then stop."""
        self._stop_serving()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything that configure made."""
        self._disconnect()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Flush and let go; safe to call twice."""
        self._stop_serving()
        self._disconnect()

    # What configure makes

    def _connect(self, room: EngineRoom) -> None:
        self.door = PlanDoor(room.bundle, room.switcher, candidate_from_msg)
        self.window = FeedbackWindow(
            ConditionRule(room.bundle.manifest.luminance_bands, self.parameters.condition),
            energy_j_of=self.figures.energy_j, memory_bytes=lambda: room.pool.memory)
        room.switcher.switched, room.switcher.failed = self._keep_budget, self.window.failed
        self.answers = AnswerPublisher(
            self, room.bundle.classes, known=self.door.known, ages=self.ages, window=self.window,
            boot_id=lambda: self.figures.boot_id,
            luminance=room.executor.luminance, report=self._report_qos)
        self.obstacles = ObstacleWatch(self, room.bundle.classes, self.parameters)
        self.peers = self._open_peers(room)
        self.feedback = FeedbackTopic(
            self, self.window, robot_id=self.robot_id, boot_id=lambda: self.figures.boot_id,
            peers=lambda: self.peers.links.status() if self.peers else (),
            report=self._report_qos)
        self._labels = self.create_publisher(
            LabelInfo, topics.LABEL_INFO.name, profile_of(topics.LABEL_INFO.profile))
        self._labels.publish(label_info(room.bundle, self.get_clock().now().to_msg()))
        self._plans = self.create_subscription(
            Plan, topics.PLAN.name, self._on_plan, profile_of(topics.PLAN.profile))
        self._flush_timer = self.create_timer(WINDOW_S, self._on_window)

    def _open_peers(self, room: EngineRoom) -> Optional[NodeLinks]:
        """Return the links to peers, None where offloading is off."""
        peers = open_peer_links(
            self, self.parameters, robot_id=self.robot_id, bundle_sha256=room.bundle.sha256,
            segments=room.engine.segments.values(), boot_id=lambda: self.figures.boot_id,
            on_change=lambda: self.feedback.tell_peers())
        room.helped.peers = peers.links if peers else None
        return peers

    def _disconnect(self) -> None:
        if self.room is None:
            return
        self.destroy_timer(self._flush_timer)
        self.destroy_subscription(self._plans)
        wait_for_acknowledged(self.feedback.publisher)
        self.answers.destroy(self)
        self.obstacles.destroy(self)
        self.destroy_publisher(self.feedback.publisher)
        self.destroy_publisher(self._labels)
        self._problem = UNCONFIGURED
        self.room.close(self.peers)
        self.room = self.door = self.peers = None

    # What activate makes

    def _open_source(self) -> None:
        parameters = self.parameters
        self.server = Server(self.room.executor, self.obstacles.after(self.answers.publish),
                             self.window.superseded, extras=self.answers.publish_extras)
        self._frames = FrameHealth()
        if parameters.source_log:
            self._source_log = SourceLog(parameters.source_log)
        self._ended_s = None
        if parameters.source == 'topic':
            shape = self.room.bundle.input.shape
            self._images = ImageTopics(
                self, self._emit, report=self._report_qos,
                reduced_to=(shape[2], shape[3]) if parameters.reduced_decode else None)
            self._images.open()
        elif parameters.source == 'campus':
            self._await_scenario()
        else:
            self._start_source(None)
        self.server.start()

    def _await_scenario(self) -> None:
        make_source(self.parameters, self._now_ns)  # says now what is wrong with the scenario
        self._waiting_until_s = time.monotonic() + self.parameters.start_timeout_s
        self._starts = self.create_subscription(
            Time, topics.SCENARIO_START.name, self._on_scenario_start,
            profile_of(topics.SCENARIO_START.profile))

    def _start_source(self, start_ns: Optional[int]) -> None:
        source = make_source(self.parameters, self._now_ns, start_ns=start_ns)
        source.open()
        self._start_ns = start_ns
        self._ended_s = None
        rate_hz = source.rate_hz
        self.ages = self.answers.ages = FrameAges(
            sim_time=self.ages.sim_time,
            period_s=1.0 / rate_hz if 0.0 < rate_hz < float('inf') else None)
        self.get_logger().info(f'frames from {source.description}')
        deadline_s = time.monotonic() + self.parameters.wait_for_listeners_s
        self._source = SourceThread(source, self._emit, ready=lambda: (
            time.monotonic() >= deadline_s or (self.answers.heard and self.feedback.heard)),
            through=self.server.is_through)
        self._source.start()

    def _stop_serving(self) -> None:
        """Stop the source, then the worker, then tell what became of the last frames."""
        self._stop_source()
        if self._images is not None:
            self._images.close()
        if self.server is not None:
            self.server.stop()
            self._on_window()
        if self._source_log is not None:
            self._source_log.close()
        self._images = self.server = self._source_log = None
        self._silent = ''

    def _stop_source(self) -> None:
        starts, self._starts = getattr(self, '_starts', None), None
        if starts is not None:
            self.destroy_subscription(starts)
        if self._source is not None:
            self._source.stop()
        self._source = None

    # Callbacks

    def _emit(self, frame: Frame) -> None:
        """Take one frame in, from whichever thread."""
        server, log = self.server, self._source_log
        if server is None:  # a source that took long to stop
            return
        self.ages.observe(frame.stamp_ns)
        if log is not None:
            log.write(frame)
        server.offer(frame)

    def _on_plan(self, message: Plan) -> None:
        self.door.enter(message)
        self.figures.note(message)
        self._keep_budget()
        if self.door.problem:
            self.get_logger().error(self.door.problem, throttle_duration_sec=5.0)

    def _on_window(self) -> None:
        self.feedback.publish()
        if self.room is not None:
            self.room.schedule.look(self.room.switcher)
        self._keep_budget()

    def _keep_budget(self) -> None:
        """Let go of what the memory budget has no room for, at once after a plan or switch."""
        room, door = self.room, self.door
        if room is None or door is None:
            return
        for candidate_id, memory in tuple(self.figures.memory.items()):
            if candidate_id in door.known:
                room.pool.predict(door.known[candidate_id], memory)
        if self.parameters.resident_budget:
            room.switcher.keep_within(self.figures.budget_bytes)

    def _on_scenario_start(self, message: Time) -> None:
        start_ns = time_to_ns(message)
        if start_ns == self._start_ns:
            return
        if self._source is not None:
            self._source.stop()
        self._start_source_or_say(start_ns)

    def _start_source_or_say(self, start_ns: Optional[int]) -> None:
        try:
            self._start_source(start_ns)
        except CrowdHMTError as error:
            self._problem = str(error)
            self.get_logger().error(self._problem)

    def _on_clock_jump(self, jump: Any) -> None:
        self.get_logger().warning('the clock was set back or replaced: ages and rates start anew')
        self.ages.reset()

    def _look_after(self) -> None:
        if self.server is None:
            return
        self._start_alone_when_late()
        if self.feedback.overdue(sim_time=self.ages.sim_time):
            self._on_window()
        self._warn_when_silent()
        self._notice_end()

    def _start_alone_when_late(self) -> None:
        waiting = getattr(self, '_starts', None) is not None and self._source is None
        if waiting and time.monotonic() >= self._waiting_until_s and not self._problem:
            self.get_logger().warning('no scenario_start came, the campus starts alone')
            self._start_source_or_say(None)

    def _warn_when_silent(self) -> None:
        silent_s = time.monotonic() - self.server.last_frame_s
        waiting = getattr(self, '_starts', None) is not None and self._source is None
        if silent_s < self.parameters.no_frame_warn_s or self._ended_s is not None or waiting:
            self._silent = ''
            return
        where = self._images.in_words() if self._images is not None else self.parameters.source
        self._silent = f'no frame for {silent_s:.0f} s from {where}'
        if self._throttle.ready():
            self.get_logger().warning(self._silent)

    def _notice_end(self) -> None:
        if self._source is None or not self._source.ended:
            return
        now_s = time.monotonic()
        self._ended_s = self._ended_s or now_s
        if self.parameters.stop_at_end and now_s - self._ended_s >= LINGER_S:
            self.finished = True

    def _accept(self, wanted: CameraInferenceParameters) -> Optional[str]:
        if wanted.bundle != self.parameters.bundle and self.room is not None:
            return 'bundle can be changed only while the node is unconfigured: clean it up first'
        self.parameters = wanted
        return None

    # Words

    def _report_qos(self, text: str) -> None:
        self._qos_problem = text
        self.get_logger().warning(text)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _engine_health(self) -> Health:
        if self._problem:
            return Health(WARN if self._problem == UNCONFIGURED else ERROR, self._problem)
        return engine_health(self.room, self.door.problem)

    def _frame_health(self) -> Health:
        server, images, source = self.server, self._images, self._source
        if server is None:
            return Health(message='not active')
        counts = FrameCounts(server.received, self.answers.published, server.failed,
                             images.bad if images else 0, self.ages.unknown, self.ages.resets,
                             source.skipped if source else 0)
        return self._frames.judge(
            counts, failure=server.failure, bad_image=images.problem if images else '',
            lasting=(source.failure if source else '') or self._silent or self._qos_problem,
            message='source has ended' if self._ended_s else 'ok', dead=server.dead)


def main() -> int:
    """Run this node alone."""
    return main_of('camera_inference')
