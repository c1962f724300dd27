# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A service call that never hangs: own deadline, tried again until it is answered."""
from __future__ import annotations

import time
from typing import Any, Callable, Optional

from rclpy.client import Client

RETRY_S = 0.5


class PatientCall:
    """
    Keeps one wish in front of a service until it is answered; a new wish replaces the old one.

    `call_async` never fails by itself, and a request sent before the server was found is lost:
    so each try has a deadline, after which it is taken back and sent again.

    :param client: of the service
    :param answered: takes the request and its response
    :param timeout_s: longest wait for one answer
    """

    def __init__(self, client: Client, answered: Callable[[Any, Any], None], *,
                 timeout_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._answered = answered
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._wish: Optional[Any] = None
        self._future: Optional[Any] = None
        self._deadline_s = 0.0
        self._next_try_s = 0.0
        self.tries = 0

    @property
    def waiting(self) -> bool:
        """Whether a wish is not answered yet."""
        return self._wish is not None

    def ask(self, request: Any) -> None:
        """Put a wish forward; sent by the next `poll`."""
        self._give_up_try()
        self._wish, self.tries, self._next_try_s = request, 0, 0.0

    def poll(self) -> None:
        """Send, look for the answer, or try again; to be called a few times a second."""
        if self._wish is None:
            return
        if self._future is not None:
            self._look()
        elif self._monotonic() >= self._next_try_s and self._client.service_is_ready():
            self._future = self._client.call_async(self._wish)
            self._deadline_s = self._monotonic() + self._timeout_s
            self.tries += 1

    def _look(self) -> None:
        if self._future.done():
            request, response = self._wish, self._future.result()
            self._wish = self._future = None
            self._answered(request, response)
        elif self._monotonic() >= self._deadline_s:
            self._give_up_try()
            self._next_try_s = self._monotonic() + RETRY_S

    def _give_up_try(self) -> None:
        if self._future is not None:
            self._client.remove_pending_request(self._future)
            self._future = None
