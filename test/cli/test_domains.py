# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.cli import domains


@pytest.fixture
def three(tmp_path, monkeypatch):
    monkeypatch.setattr(domains, 'HIGHEST_DOMAIN', 3)
    monkeypatch.setattr(domains.tempfile, 'gettempdir', lambda: str(tmp_path))
    monkeypatch.setattr(domains, '_held', {})
    yield
    for number in tuple(domains._held):
        domains.let_go(number)


def test_no_domain_is_drawn_twice_while_its_holder_lives(three):
    assert {domains.draw_domain() for _ in range(3)} == {1, 2, 3}


def test_one_that_was_let_go_is_drawn_again(three):
    drawn = [domains.draw_domain() for _ in range(3)]
    domains.let_go(drawn[1])
    assert domains.draw_domain() == drawn[1]


def test_a_run_on_a_crowded_machine_still_gets_one(three):
    for _ in range(3):
        domains.draw_domain()
    assert domains.draw_domain() in (1, 2, 3)
