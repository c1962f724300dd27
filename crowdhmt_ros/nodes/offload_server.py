# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What this robot does for its peers: adverts out, doors open, segments run under a lease.

configure: open the bundle (the camera's, where both run in one process), bind the door.
activate: let trusted peers in and advertise. An advert needs a boot_id, which is the one that
`resources` tells, so there is none before resource_monitor runs.
"""
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, Optional

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.msg import Advert as AdvertMessage
from crowdhmt_ros.msg import ResourceStatus
from crowdhmt_ros.nodes import log_bridge, topics
from crowdhmt_ros.nodes.convert import snapshot_from_msg
from crowdhmt_ros.nodes.convert_fleet import advert_from_msg, advert_to_msg
from crowdhmt_ros.nodes.declare import declare, on_change
from crowdhmt_ros.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from crowdhmt_ros.nodes.engine_share import Engine, EngineShare
from crowdhmt_ros.nodes.params import OffloadServerParameters
from crowdhmt_ros.nodes.peer_opening import own_distro
from crowdhmt_ros.nodes.peer_serving import (
    Offer,
    PeerServing,
    advert_of,
    differs,
    open_serving,
    reluctance,
    require_keys,
)
from crowdhmt_ros.nodes.process import main_of
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.ros_door import RosDoor
from crowdhmt_ros.nodes.serving import Throttle
from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload.fleet import FleetView
from crowdhmt_ros.types import Advert, ResourceSnapshot

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
TICK_S = 0.1
"""How soon a change is advertised."""
ADVERT_S = 1.0
WELCOME_S = 1.0
"""So long after somebody new has come to listen, adverts come as often as below."""
WELCOME_ADVERT_S = 0.25
"""The first ones may be lost: a writer knows its reader before that one knows it."""
LIFESPAN_S = 3.0
CAPACITY_S = 5.0
"""How often the tables are looked at for a better figure."""
HOSTILE_S = 10.0
"""How long requests that no robot in order sends are warned of."""
UNCONFIGURED = 'not configured'


class OffloadServerNode(LifecycleNode):
    """
    Serves segments to peers and tells the fleet what this robot offers.

    :param share: engine of this process, None for one of its own
    """

    def __init__(self, *, share: Optional[EngineShare] = None, **options: Any) -> None:
        super().__init__('offload_server', **options)
        log_bridge.attach(self)
        self.finished = False
        self.parameters = declare(self, OffloadServerParameters)
        on_change(self, lambda: self.parameters, self._accept)
        self.robot_id = self.parameters.robot_id or self.get_namespace().strip('/')
        self.boot_id = ''
        self.engine: Optional[Engine] = None
        self.serving: Optional[PeerServing] = None
        self._share = share or EngineShare()
        self._ros_door: Optional[RosDoor] = None
        self._snapshot: Optional[ResourceSnapshot] = None
        self._active = False
        self._problem = UNCONFIGURED
        self._capacity: Optional[float] = None
        self._capacity_s = -float('inf')
        self._last: Optional[Advert] = None
        self._advertised_s = self._welcomed_s = -float('inf')
        self._listeners = 0
        self._hostile = 0
        self._hostile_s = -float('inf')
        self._throttle = Throttle()
        self._fleet = FleetView(self.robot_id, ros_distro=own_distro())
        advert_qos = profile_of(topics.FLEET_ADVERT.profile)
        advert_qos.lifespan = Duration(seconds=LIFESPAN_S)
        self._adverts = self.create_publisher(
            AdvertMessage, self.parameters.fleet_advert_topic, advert_qos)
        self.create_subscription(
            AdvertMessage, self.parameters.fleet_advert_topic, self._on_advert,
            profile_of(topics.FLEET_ADVERT.profile))
        self.create_subscription(ResourceStatus, topics.RESOURCES.name, self._on_resources,
                                 profile_of(topics.RESOURCES.profile))
        self.diagnostics = Diagnostics(self, hardware_id=self.robot_id or 'robot')
        self.diagnostics.add('server', self._server_health)
        self.diagnostics.add('door', self._door_health)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._tick, clock=self._steady)

    # Lifecycle

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager does that."""
        if self.parameters.autostart and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open bundle and door; a failure leaves the node unconfigured, to be tried again."""
        parameters = self.parameters
        try:
            self.engine = self._share.open(
                parameters.bundle, backend=parameters.backend,
                backend_repeat=parameters.backend_repeat, cache_dir=parameters.cache_dir)
            self._open(self.engine)
            self._capacity = self._measured_capacity(self.engine)
        except CrowdHMTError as error:
            self._close()
            self._problem = f'configure failed: {error}; set it right and configure again'
            self.get_logger().error(self._problem)
            self.diagnostics.publish()
            return FAILURE
        self._problem = ''
        self._fleet.know_self(bundle_sha256=self.engine.bundle.sha256)
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let peers in and advertise."""
        try:
            if self.serving is None:  # it was deactivated before
                self._open(self.engine)
            if self.parameters.ros_door:
                self._ros_door = RosDoor(self, self.serving.server, require_keys(self.serving))
        except CrowdHMTError as error:
            self._problem = f'activate failed: {error}'
            self.get_logger().error(self._problem)
            return FAILURE
        self._problem = ''
        self.serving.start()
        self._active = True
        if self.serving.door is not None:
            self.get_logger().info(f'peers are served at {self.serving.door.address}')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Withdraw the advert, answer what waits, close the doors."""
        self._stop_serving()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything that configure made."""
        self._close()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Answer what waits and let go; safe to call twice."""
        self._close()

    def _open(self, engine: Engine) -> None:
        self.serving = open_serving(engine, self.parameters, self.robot_id,
                                    boot_id=lambda: self.boot_id)
        for note in self.serving.notes:
            self.get_logger().info(note)

    def _stop_serving(self) -> None:
        serving, self.serving = self.serving, None
        if serving is None:
            return
        self._active = False
        serving.server.closed_reason = f'{self.robot_id} does not serve now'
        if self._last is not None:
            self._publish(advert_of(self._offer(), serving, self._snapshot, ros_door=False))
        if self._ros_door is not None:
            self._ros_door.close()
            self._ros_door = None
        serving.close()
        self._last = None

    def _close(self) -> None:
        self._stop_serving()
        engine, self.engine = self.engine, None
        if engine is not None:
            self._share.close(engine)
            self._problem = UNCONFIGURED

    # Callbacks

    def _on_resources(self, message: ResourceStatus) -> None:
        self._snapshot = snapshot_from_msg(message)
        if message.boot_id and message.boot_id != self.boot_id:
            self.boot_id = message.boot_id
            self._fleet.know_self(boot_id=self.boot_id)

    def _on_advert(self, message: AdvertMessage) -> None:
        self._fleet.heard(advert_from_msg(message), time.monotonic())

    def _tick(self) -> None:
        now_s = time.monotonic()
        self._fleet.changes(now_s)
        if not self._active or self.serving is None:
            return
        self._set_mood(self.serving)
        if not self.boot_id or not self.robot_id:
            return
        if now_s - self._capacity_s >= CAPACITY_S:
            self._capacity_s = now_s
            self._capacity = self.engine.capacity_macs_per_s(self.serving.options) \
                or self._capacity
        advert = advert_of(self._offer(), self.serving, self._snapshot,
                           ros_door=self._ros_door is not None)
        if differs(self._last, advert) or now_s - self._advertised_s >= self._period_s(now_s):
            self._publish(advert)

    def _period_s(self, now_s: float) -> float:
        """Return the time between two adverts: shorter while somebody may have heard none."""
        listeners = self._adverts.get_subscription_count()
        if listeners > self._listeners:
            self._welcomed_s = now_s
        self._listeners = listeners
        return WELCOME_ADVERT_S if now_s - self._welcomed_s < WELCOME_S else ADVERT_S

    def _set_mood(self, serving: PeerServing) -> None:
        """Close to everybody while another robot bears this name, to new leases when low."""
        server, clash = serving.server, self._clash()
        if clash and server.closed_reason != clash and self._throttle.ready():
            self.get_logger().error(clash)
        if clash or server.closed_reason.startswith(CLASH):
            server.closed_reason = clash
        server.no_lease_reason = reluctance(self._snapshot, self.parameters.least_battery_ratio)

    def _clash(self) -> str:
        if not self._fleet.clash:
            return ''
        return (f'{CLASH} {self.robot_id!r} too: nobody is served until one of them has another '
                'name (namespace or parameter robot_id)')

    def _publish(self, advert: Advert) -> None:
        self._last, self._advertised_s = advert, time.monotonic()
        self._adverts.publish(advert_to_msg(advert, self.get_clock().now().to_msg()))

    def _accept(self, wanted: OffloadServerParameters) -> Optional[str]:
        self.parameters = wanted
        return None

    # Words

    def _offer(self) -> Offer:
        return Offer(self.robot_id, self.boot_id, own_distro(), self.engine.bundle.sha256,
                     self._capacity)

    def _measured_capacity(self, engine: Engine) -> Optional[float]:
        """Return a first figure; without a door nobody asks for one."""
        options = self.serving.options
        if self.serving.keys is None:
            return engine.capacity_macs_per_s(options)
        return engine.capacity_macs_per_s(options) or engine.try_capacity_macs_per_s(options)

    def _server_health(self) -> Health:
        if self._problem:
            return Health(WARN if self._problem == UNCONFIGURED else ERROR, self._problem)
        if self.serving is None:
            return Health(message='not active')
        health = self.serving.server.health()
        values: Dict[str, object] = {
            'leases': health.leases, 'held_bytes': health.held_bytes, 'queued': health.queued,
            'served': health.served, 'cancelled': health.cancelled,
            'run_s': '' if health.run_s is None else health.run_s}
        values.update({f'refused.{kind}': health.refused.get(kind, 0) for kind in why.KINDS})
        closed = self.serving.server.closed_reason
        if self._active and closed:
            return Health(ERROR, closed, values)
        hostile = sum(health.refused.get(kind, 0) for kind in why.HOSTILE)
        if hostile > self._hostile:
            self._hostile, self._hostile_s = hostile, time.monotonic()
        if time.monotonic() - self._hostile_s < HOSTILE_S:
            return Health(WARN, f'{hostile} requests were not in order, see refused.*', values)
        return Health(OK, self.serving.server.no_lease_reason or 'ok', values)

    def _door_health(self) -> Health:
        serving, door = self.serving, self.serving.door if self.serving else None
        if serving is None:
            return Health(message='closed')
        values: Dict[str, object] = {'ros_door': self._ros_door is not None}
        if self._ros_door is not None:
            values['ros_received'] = self._ros_door.received
        if door is None:
            return Health(OK, '; '.join(serving.notes) or 'ok', values)
        health = door.health()
        values.update(
            address=door.address, peers=', '.join(health.peers), received=health.received,
            sent=health.sent, dropped=health.dropped, received_bytes=health.received_bytes,
            sent_bytes=health.sent_bytes)
        if door.failure:
            return Health(ERROR, door.failure, values)
        ros_problem = self._ros_door.problem if self._ros_door is not None else ''
        problem = health.problem or ros_problem
        return Health(WARN if problem else OK, problem or 'ok', values)


CLASH = 'another robot is called'


def main() -> int:
    """Run this node alone."""
    return main_of('offload_server')
