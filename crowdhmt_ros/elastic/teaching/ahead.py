# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Batches made ready while the device still computes on the one before."""
from __future__ import annotations

import queue
import threading
from typing import Iterator, List, TypeVar, Union

T = TypeVar('T')
_WAIT_S = 0.1


class _End:
    """What comes after the last item, with what went wrong."""

    def __init__(self, error: Union[BaseException, None]) -> None:
        self.error = error


def ahead(items: Iterator[T], count: int = 2) -> Iterator[T]:
    """
    Yield the same items, up to `count` of them made in a thread beforehand.

    An error of the source is raised where its item would have come.
    """
    ready: queue.Queue[Union[T, _End]] = queue.Queue(count)
    given_up = threading.Event()
    worker = threading.Thread(target=_fill, args=(items, ready, given_up), daemon=True)
    worker.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        given_up.set()
        worker.join()


def _fill(items: Iterator[T], ready: queue.Queue[Union[T, _End]], given_up: threading.Event
          ) -> None:
    last: List[_End] = [_End(None)]
    try:
        for item in items:
            if not _put(ready, item, given_up):
                return
    except BaseException as error:  # noqa: BLE001 - it is raised again on the other side
        last[0] = _End(error)
    _put(ready, last[0], given_up)


def _put(ready: queue.Queue[Union[T, _End]], item: Union[T, _End], given_up: threading.Event
         ) -> bool:
    """Put an item, unless nobody wants any more."""
    while not given_up.is_set():
        try:
            ready.put(item, timeout=_WAIT_S)
            return True
        except queue.Full:
            continue
    return False
