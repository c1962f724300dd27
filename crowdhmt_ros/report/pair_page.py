# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The page of several robots: all on one timeline, as the case study of the papers shows it.

Source: P Fig. 13 (vehicle and drone, battery 90 to 21 %, memory 85 to 28 %).
"""
from __future__ import annotations

from html import escape
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from crowdhmt_ros.report.page import (
    LIGHT_STYLES,
    MB,
    card,
    frame_table,
    light_key,
    number,
    plan_table,
    short_plan,
    values_of,
    whole_page,
)
from crowdhmt_ros.report.svg import Line, Panel, Shade, axis_for, step_chart

STYLES = ('a', 'b', 'limit2')
"""Of the robots' lines, in their order; more robots share the last one."""
KEY = ('<p class="dim">Plans: <span class="key" style="background:var(--bar)"></span>on the '
       'robot itself<span class="key" style="background:var(--b)"></span>a peer takes part</p>')
Timelines = Mapping[str, Mapping[str, Any]]


def pair_cards(report: Mapping[str, Any]) -> str:
    """Return the headline figures of a run of several robots."""
    pair, shown = report['pair'], []
    for name, own in report['robots'].items():
        frames = own['frames']
        if frames:
            spoiled = frames['lost'] + frames['duplicates'] + frames['unknown']
            shown.append(card('%d of %d' % (frames['lost'], frames['emitted']),
                              'frames lost, %s' % name, spoiled == 0))
        shown.append(card('%s ms' % number(own['latency']['p95_s'], '%.1f', scale=1e-3),
                          'latency, 95th percentile, %s' % name))
    own = report['robots'][pair['robot']]
    shown += [
        card('%.1f %%' % (100 * own['offload']['frames_offloaded_ratio']),
             "of %s's frames answered by a peer" % pair['robot']),
        card('%.1f %%' % (100 * pair['degraded_ratio']), 'answered by the fallback',
             pair['degraded_ratio'] <= 0.2),
        card('%.1f %%' % (100 * own['violations']['ratio']),
             'outside a budget or floor, %s' % pair['robot'],
             own['violations']['ratio'] <= 0.05),
        card('%d' % pair['plans_distinct'], 'variants and places, %s' % pair['robot'])]
    return '<div class="cards">%s</div>' % ''.join(shown)


def shades_of(timeline: Mapping[str, Any]) -> List[Shade]:
    """Return the light behind the panels."""
    return [Shade(b['start_s'], b['stop_s'], LIGHT_STYLES[b['name']])
            for b in timeline['light'] if b['name'] in LIGHT_STYLES]


class Strips:
    """
    Draws one panel after the other on a common time axis.

    :param timelines: robot -> its timeline, the leading one first
    """

    def __init__(self, timelines: Timelines) -> None:
        self._timelines = timelines
        self._lead = next(iter(timelines.values()))
        self._end_s = max(t['duration_s'] for t in timelines.values())
        self._shades = shades_of(self._lead)

    def lines(self, series: str, *, steps: bool = False, suffix: str = '') -> List[Line]:
        """Return one line a robot."""
        return [Line(timeline[series], STYLES[min(i, len(STYLES) - 1)], name + suffix, steps)
                for i, (name, timeline) in enumerate(self._timelines.items())]

    def limit(self, series: str, name: str) -> Line:
        """Return what holds for the leading robot."""
        return Line(self._lead[series], 'limit', name, True)

    def draw(self, title: str, lines: Sequence[Line], **axis: Any) -> str:
        """Return a panel, '' when nothing is known."""
        known = [line for line in lines if values_of(line.points)]
        if not known:
            return ''
        chosen = axis_for(values_of(*(line.points for line in known)), **axis)
        return Panel(title, self._end_s, chosen).draw(known, self._shades)

    def plans(self, name: str, order: Sequence[str]) -> str:
        """Return what was in force when on one robot; a peer's share in another colour."""
        chosen = self._timelines[name]['chosen']
        if not chosen:
            return ''
        bands = [(b['start_s'], b['stop_s'], short_plan(b['name'])) for b in chosen]
        styles = {short_plan(b['name']): 'bar peer' for b in chosen if '@' in b['name']}
        return step_chart('Plan in force, %s' % name, bands, self._end_s,
                          order=plan_rows(chosen, order), shades=self._shades, styles=styles)

    def near(self, name: str) -> str:
        """Return when an obstacle was near, '' when none was."""
        bands = [(b['start_s'], b['stop_s'], b['name']) for b in self._timelines[name]['near']]
        rows = sorted({b[2] for b in bands})
        return step_chart('Obstacle near, %s' % name, bands, self._end_s, order=rows,
                          shades=self._shades,
                          styles={row: 'bar near' for row in rows},
                          in_margin=True) if bands else ''


def plan_rows(chosen: Sequence[Mapping[str, Any]], order: Sequence[str]) -> List[str]:
    """
    Return the rows of a chart of plans, the richest on top, a variant at a peer above its own.

    :param order: candidate_ids from the richest to the leanest
    """
    used = list(dict.fromkeys(b['name'] for b in chosen))
    variants = list(dict.fromkeys(c.split('/')[0] for c in order))

    def place(candidate_id: str) -> Tuple[int, bool, int]:
        variant = candidate_id.split('/')[0]
        return (variants.index(variant) if variant in variants else len(variants),
                '@' not in candidate_id,
                order.index(candidate_id) if candidate_id in order else len(order))

    return list(dict.fromkeys(short_plan(name) for name in sorted(used, key=place)))


def panels(timelines: Timelines, order: Sequence[str]) -> str:
    """Return all strips."""
    strips = Strips(timelines)
    lead = next(iter(timelines))
    shares = [Line(timelines[lead]['offloaded_ratio'], 'b', 'answered by a peer'),
              Line(timelines[lead]['degraded_ratio'], 'limit', 'answered by the fallback')]
    has_shares = any(value for line in shares for _, value in line.points)
    return ''.join([
        strips.draw('Battery', strips.lines('battery_ratio'), scale=0.01, unit=' %', ceiling=1.0),
        strips.draw('Memory of model and engine', [
            strips.limit('allotted_bytes', 'allotted to %s' % lead),
            *strips.lines('resident_bytes', steps=True)], scale=MB, unit=' MB'),
        *(strips.plans(name, order) for name in timelines),
        strips.draw("Share of %s's answers" % lead, shares, scale=0.01, unit=' %',
                    ceiling=1.0) if has_shares else '',
        strips.draw('Latency, 95th percentile of each second', [
            strips.limit('latency_budget_s', 'budget of %s' % lead),
            *strips.lines('latency_p95_s')], scale=1e-3, unit=' ms'),
        strips.draw('Right answers against ground truth, last 100 frames', [
            strips.limit('accuracy_floor', 'floor of %s' % lead),
            *strips.lines('accuracy_ratio')], scale=0.01, unit=' %', floor=None, ceiling=1.0),
        strips.near(lead),
        strips.draw('Inference power (%s)' % 'estimated', strips.lines('energy_w'), scale=1.0,
                    unit=' W')])


def phase_table(phases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one row a phase."""
    head = ('<tr><th>phase</th><th>mostly</th><th class="n">frames</th>'
            '<th class="n">by a peer</th><th class="n">by the fallback</th>'
            '<th class="n">latency p95</th><th class="n">outside a budget or floor</th></tr>')
    body = ''.join(
        '<tr><td>%s</td><td>%s</td><td class="n">%d</td><td class="n">%.1f %%</td>'
        '<td class="n">%.1f %%</td><td class="n">%s ms</td><td class="n">%.1f %%</td></tr>' % (
            escape(name.replace('_', ' ')), escape(row['mostly'].replace('@', ', ')),
            row['frames'], 100 * row['frames_offloaded_ratio'], 100 * row['degraded_ratio'],
            number(row['latency_p95_s'], '%.1f', scale=1e-3), 100 * row['violations_ratio'])
        for name, row in phases.items())
    return '<div class="wrap"><table>%s%s</table></div>' % (head, body)


def robot_section(name: str, report: Mapping[str, Any]) -> str:
    """Return what concerns one robot alone."""
    shown = escape(name.capitalize())
    parts = []
    if report['phases']:
        parts.append('<h2>%s, phase by phase</h2>%s' % (shown, phase_table(report['phases'])))
    parts.append('<h2>%s, plans and their reasons</h2>%s' % (shown, plan_table(report['plans'])))
    parts.append(frame_table(report))
    return ''.join(parts)


def render_pair_page(report: Mapping[str, Any], *, order: Sequence[str] = ()) -> str:
    """
    Return report.html of several robots.

    :param report: as report.json holds it
    :param order: candidate_ids from the richest to the leanest
    """
    timelines: Dict[str, Mapping[str, Any]] = {
        name: own['timeline'] for name, own in report['robots'].items()}
    return whole_page(report['about'], ''.join([
        pair_cards(report), '<h2>Timeline</h2>', light_key(list(timelines.values())),
        KEY, panels(timelines, order),
        *(robot_section(name, own) for name, own in report['robots'].items())]))
