# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.own_processes import belongs
from crowdhmt_ros.nodes.plan_figures import PlanFigures
from crowdhmt_ros.nodes.table import NODES
from crowdhmt_ros.planner.budgets import budgets_now
from crowdhmt_ros.types import MEASURED, Reading, Requirements, ResourceSnapshot


def test_every_topic_is_used_by_a_known_node_and_has_a_text():
    known = {node.name for node in NODES}
    for topic in topics.TOPICS:
        assert topic.text
        assert {*topic.publishers, *topic.subscribers} <= known
        assert topic.publishers or topic.subscribers
    assert len({topic.name for topic in topics.TOPICS}) == len(topics.TOPICS)


def test_names_are_relative_but_for_those_that_ros_fixes_and_where_robots_meet():
    absolute = {topic.name for topic in topics.TOPICS if topic.name.startswith('/')}
    assert absolute == {'/diagnostics', '/clock', '/fleet/advert'}
    assert not any(service.name.startswith('/') for service in topics.SERVICES)


def test_what_we_offer_fits_every_subscriber():
    for topic in topics.TOPICS:
        for node in topic.publishers:
            assert topics.offered_by(topic, node).reliability == 'reliable'
        assert topics.offered_by(topic, 'nobody') is None


def test_a_robots_own_processes_are_told_by_their_namespace():
    line = ['python', '-m', 'crowdhmt_ros.nodes.process', 'mind', '--ros-args', '-r',
            '__ns:=/vehicle']
    assert belongs(line, '/vehicle')
    assert not belongs(line, '/drone')
    assert belongs(line[:4], '/')
    assert not belongs(['vim', 'notes.txt'], '/')
    assert not belongs([], '/')


class Bag:

    def __init__(self, **values):
        self.__dict__.update(values)


def test_figures_of_plans_are_kept_and_unknown_ones_are_left_out():
    nan = float('nan')
    choice = Bag(candidate_id='a', energy_j=0.5, memory_bytes=10.5,
                 memory_source='measured')
    other = Bag(candidate_id='b', energy_j=nan, memory_bytes=nan)
    figures = PlanFigures()
    figures.note(Bag(boot_id='x', choice=choice, runner_up=other,
                     requirements=Bag(memory_budget_bytes=500.0),
                     snapshot=Bag(memory_allotted_bytes=300.0, memory_available_bytes=9.0)))
    assert figures.energy_j('a') == 0.5
    assert figures.energy_j('b') is None
    assert figures.memory == {'a': Reading(10.5, MEASURED)}
    assert figures.budget_bytes == 300.0
    figures.note(Bag(boot_id='x', choice=choice, runner_up=Bag(candidate_id=''),
                     requirements=Bag(memory_budget_bytes=nan),
                     snapshot=Bag(memory_allotted_bytes=nan, memory_available_bytes=nan)))
    assert figures.budget_bytes is None


def test_without_a_stated_budget_the_planners_share_of_what_is_available_holds():
    nan = float('nan')
    figures, nobody = PlanFigures(), Bag(candidate_id='')
    figures.note(Bag(boot_id='x', choice=nobody, runner_up=nobody,
                     requirements=Bag(memory_budget_bytes=nan),
                     snapshot=Bag(memory_allotted_bytes=nan, memory_available_bytes=800.0)))
    snapshot = ResourceSnapshot(0.0, memory_available_bytes=Reading(800.0))
    assert figures.budget_bytes == budgets_now(Requirements(), snapshot).memory_bytes == 400.0
