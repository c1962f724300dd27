# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Typed reading of a JSON object that keeps every problem instead of stopping at the first.

A `Fields` wraps one JSON object together with its place in the file; a value that is missing
or of another type is noted in the shared list and replaced by a harmless stand-in, so that
the reader goes on and finds the next problem. Nothing read this way may be used unless the
list stayed empty.
"""
from __future__ import annotations

import math
from typing import Callable, List, Mapping, Optional, Tuple, TypeVar

T = TypeVar('T')

MAX_INTEGER = 1 << 50


class Fields:
    """
    One JSON object, its place in the file, and the list that gathers problems.

    :param value: parsed JSON, an object if the file is well formed
    :param where: place for messages, for example ``segments[3]``
    :param problems: shared list that findings are appended to
    """

    def __init__(self, value: object, where: str, problems: List[str]) -> None:
        self.where = where
        self.problems = problems
        if isinstance(value, dict):
            self.value: Mapping[str, object] = value
        else:
            self.value = {}
            problems.append('%s is not an object' % (where or 'the manifest'))

    def note(self, text: str) -> None:
        """Add one finding about this object."""
        self.problems.append('%s: %s' % (self.where, text) if self.where else text)

    def _typed(self, key: str, kind: Callable[[object], bool], expected: str) -> object:
        if key not in self.value:
            self.note('%s is missing' % key)
            return None
        if not kind(self.value[key]):
            self.note('%s is %.40r, expected %s' % (key, self.value[key], expected))
            return None
        return self.value[key]

    def text(self, key: str, choices: Optional[Tuple[str, ...]] = None) -> str:
        """Return a string, one of `choices` where given."""
        expected = ' or '.join(map(repr, choices)) if choices else 'a text'
        found = self._typed(key, lambda v: is_text(v) and (not choices or v in choices), expected)
        return found if isinstance(found, str) else (choices[0] if choices else '')

    def optional_text(self, key: str) -> Optional[str]:
        """Return a string, or None where the key is absent or null."""
        return None if self.value.get(key) is None else self.text(key)

    def integer(self, key: str, low: int = 0, high: int = MAX_INTEGER) -> int:
        """Return an integer within `low`..`high`."""
        found = self._typed(key, lambda v: is_integer(v) and low <= v <= high,  # type: ignore
                            'an integer in %d..%d' % (low, high))
        return found if isinstance(found, int) else low

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a finite number within `low`..`high`."""
        found = self._typed(key, lambda v: is_number(v) and low <= v <= high,  # type: ignore
                            'a number in %g..%g' % (low, high))
        return float(found) if isinstance(found, (int, float)) else max(low, 0.0)

    def array(self, key: str) -> Tuple[object, ...]:
        """Return an array as it stands."""
        found = self._typed(key, lambda v: isinstance(v, list), 'an array')
        return tuple(found) if isinstance(found, list) else ()

    def texts(self, key: str) -> Tuple[str, ...]:
        """Return an array of strings."""
        return self._all(key, is_text, 'texts', str)

    def integers(self, key: str, low: int = 0) -> Tuple[int, ...]:
        """Return an array of integers, each at least `low`."""
        return self._all(
            key, lambda v: is_integer(v) and low <= v <= MAX_INTEGER,  # type: ignore
            'integers of at least %d' % low, int)

    def numbers(self, key: str, count: Optional[int] = None) -> Tuple[float, ...]:
        """Return an array of finite numbers, exactly `count` where given."""
        found = self._all(key, is_number, 'numbers', float)
        if count is None or len(found) == count:
            return found
        given = self.value.get(key)
        if isinstance(given, list) and len(given) != count:
            self.note('%s has %d numbers, expected %d' % (key, len(given), count))
        return (0.0,) * count

    def _all(self, key: str, kind: Callable[[object], bool], what: str,
             convert: Callable[..., T]) -> Tuple[T, ...]:
        values = self.array(key)
        if not all(map(kind, values)):
            self.note('%s must hold %s only' % (key, what))
            return ()
        return tuple(convert(v) for v in values)

    def object(self, key: str) -> Fields:
        """Return a nested object."""
        place = '%s.%s' % (self.where, key) if self.where else key
        if key not in self.value:
            self.note('%s is missing' % key)
            return Fields({}, place, self.problems)
        return Fields(self.value[key], place, self.problems)

    def objects(self, key: str) -> Tuple[Fields, ...]:
        """Return an array of nested objects."""
        place = '%s.%s' % (self.where, key) if self.where else key
        return tuple(Fields(v, '%s[%d]' % (place, i), self.problems)
                     for i, v in enumerate(self.array(key)))

    def optional_objects(self, key: str) -> Tuple[Fields, ...]:
        """Return an array of nested objects, empty where the key is absent or null."""
        return () if self.value.get(key) is None else self.objects(key)


def is_text(value: object) -> bool:
    """Tell whether a JSON value is a string that is not empty."""
    return isinstance(value, str) and bool(value)


def is_integer(value: object) -> bool:
    """Tell whether a JSON value is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a finite number; true and false are none."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and abs(value) < 1e300)
