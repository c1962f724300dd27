# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from crowdhmt_ros.datasets.findings import SHOWN, Findings
from crowdhmt_ros.errors import DataError

PLACE = Path('place')


def test_a_tenth_may_be_unreadable_and_no_more():
    findings = Findings(PLACE)
    findings.skip('a', 'is empty')
    assert findings.settle(10, False) == (('a', 'is empty'),)
    with pytest.raises(DataError, match=r'1 of 9 items cannot be read, more than a tenth'):
        findings.settle(9, False)


def test_strict_takes_none():
    findings = Findings(PLACE)
    assert findings.settle(10, True) == ()
    findings.skip('a', 'is empty')
    with pytest.raises(DataError, match=r'^place: 1 of 100 items cannot be read \(a is empty\)$'):
        findings.settle(100, True)


def test_what_is_no_item_does_not_count():
    findings = Findings(PLACE)
    for k in range(9):
        findings.leave_out('x%d' % k, 'is no item')
    assert len(findings.settle(1, True)) == 9


def test_many_problems_are_shown_in_part_and_counted():
    findings = Findings(PLACE)
    for k in range(SHOWN + 5):
        findings.problem('problem %d' % k)
    with pytest.raises(DataError, match=r'^place: problem 0; .*problem 7; and 5 more$'):
        findings.stop_if_any()


def test_problems_and_unreadable_items_come_together():
    findings = Findings(PLACE)
    findings.skip('a', 'is empty')
    findings.problem('label 9 is out of range')
    with pytest.raises(DataError, match='out of range; 1 of 2 items'):
        findings.settle(2, False)


def test_a_name_with_a_line_break_stays_in_one_line():
    findings = Findings(PLACE)
    findings.skip('a\nb.png', 'is empty')
    with pytest.raises(DataError, match=r'\(a b.png is empty\)$'):
        findings.settle(1, False)


def test_no_problem_does_not_stop():
    Findings(PLACE).stop_if_any()
