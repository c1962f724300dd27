# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page of a run: one HTML file without any outside resource, light and dark."""
from __future__ import annotations

import re
from html import escape
from typing import Any, List, Mapping, Optional, Sequence

from crowdhmt_ros.report.svg import Line, Panel, Points, Shade, axis_for, step_chart

MB = 1e6
ALL_EMITTED_RATIO = 0.98
"""Below it the source itself has skipped frames, which no count of lost ones can see."""
LIGHT_STYLES = {'noon': 'noon', 'afternoon': 'afternoon', 'dusk': 'dusk'}
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2330;--dim:#68717f;--grid:#e3e6ea;--card:#f6f7f9;
--a:#1f6fd6;--b:#0a8f6a;--limit:#cf3b2e;--bar:#1f6fd6;--noon:#fff3c9;--afternoon:#ffe3cf;
--dusk:#dfe0f3;--good:#0a7a4b;--bad:#c0271a}
@media(prefers-color-scheme:dark){:root{--bg:#14181f;--fg:#e6e9ee;--dim:#98a2b0;--grid:#2b323d;
--card:#1c222b;--a:#6fb0ff;--b:#45d0a2;--limit:#ff8277;--bar:#5b9df0;--noon:#3a3417;
--afternoon:#3d2a1c;--dusk:#23263d;--good:#4cd695;--bad:#ff8277}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);
font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1008px;margin:0 auto;padding:24px}h1{font-size:22px;margin:0 0 2px}
h2{font-size:15px;margin:26px 0 6px}p{margin:4px 0}.dim{color:var(--dim)}
svg{display:block;width:100%;height:auto;margin:2px 0 6px}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
fill:var(--dim)}svg .title{font-size:12.5px;font-weight:600;fill:var(--fg)}
svg .label{fill:var(--fg)}svg .label.inside{fill:var(--bg);font-weight:600}
.grid{stroke:var(--grid);stroke-width:1}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.line.a{stroke:var(--a)}
.line.b{stroke:var(--b)}.line.limit{stroke:var(--limit);stroke-dasharray:5 3;stroke-width:1.5}
.bar{fill:var(--bar)}.bar.peer{fill:var(--b)}.bar.near{fill:var(--limit)}
.line.limit2{stroke:var(--limit);stroke-dasharray:1 3;stroke-width:1.5}
.noon{fill:var(--noon)}.afternoon{fill:var(--afternoon)}
.dusk{fill:var(--dusk)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(108px,1fr));gap:8px;
margin:16px 0 8px}.card{background:var(--card);border-radius:8px;padding:9px 11px}
.card b{display:block;font-size:18px;line-height:1.3;white-space:nowrap}
.card span{color:var(--dim);font-size:12px}
.card.good b{color:var(--good)}.card.bad b{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:13px}.pair{display:grid;
grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:0 48px}th,td{text-align:left;
padding:5px 10px 5px 0;border-bottom:1px solid var(--grid);vertical-align:top}
th{color:var(--dim);font-weight:500}td.n,th.n{text-align:right;white-space:nowrap}
.key{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 4px 0 12px;
vertical-align:-1px;border:1px solid var(--grid)}.key.noon{background:var(--noon)}
.key.afternoon{background:var(--afternoon)}.key.dusk{background:var(--dusk)}
.wrap{overflow-x:auto}
"""


def number(value: Optional[float], form: str = '%.3g', *, scale: float = 1.0) -> str:
    """Return a number as text, 'unknown' for None."""
    return 'unknown' if value is None else form % (value / scale)


def card(text: str, caption: str, good: Optional[bool] = None) -> str:
    """Return one headline figure; green or red where it is a check."""
    style = '' if good is None else ' good' if good else ' bad'
    return '<div class="card%s"><b>%s</b><span>%s</span></div>' % (
        style, escape(text), escape(caption))


def cards(report: Mapping[str, Any]) -> str:
    """Return the headline figures of a run."""
    frames, latency, wrong = report['frames'], report['latency'], report['violations']
    accuracy = report['accuracy'].get('all')
    shown = []
    if frames:
        spoiled = frames['lost'] + frames['duplicates'] + frames['unknown']
        shown.append(card('%d of %d' % (frames['lost'], frames['emitted']), 'frames lost',
                          spoiled == 0))
        emitted = frames.get('emitted_ratio')
        if emitted is not None:
            shown.append(card('%.1f %%' % (100 * emitted), 'of all frames emitted',
                              emitted >= ALL_EMITTED_RATIO))
        shown.append(card('%.1f %%' % (100 * frames['late_ratio']), 'answers late',
                          frames['late_ratio'] <= 0.01))
    shown.append(card('%s ms' % number(latency['p95_s'], '%.1f', scale=1e-3),
                      'latency, 95th percentile'))
    if accuracy:
        shown.append(card('%.1f %%' % (100 * accuracy['ratio']), 'answers right'))
    shown.append(card('%.1f %%' % (100 * wrong['ratio']), 'answers outside a budget or floor',
                      wrong['ratio'] <= 0.05))
    shown.append(card('%d' % report['plans_distinct'], 'variants used'))
    shown.append(card('%s J' % number(report['energy']['total_j'], '%.3g'),
                      'inference energy, %s' % report['energy']['source']))
    return '<div class="cards">%s</div>' % ''.join(shown)


def values_of(*series: Points) -> List[float]:
    """Return all known values of several series."""
    return [value for points in series for _, value in points if value is not None]


def panels(timeline: Mapping[str, Any], order: Sequence[str]) -> str:
    """Return all strips of the timeline."""
    end = timeline['duration_s']
    shades = [Shade(b['start_s'], b['stop_s'], LIGHT_STYLES[b['name']])
              for b in timeline['light'] if b['name'] in LIGHT_STYLES]

    def strip(title: str, lines: Sequence[Line], **axis: Any) -> str:
        known = [line for line in lines if values_of(line.points)]
        if not known:
            return ''
        chosen = axis_for(values_of(*(line.points for line in known)), **axis)
        return Panel(title, end, chosen).draw(known, shades)

    chosen = [(b['start_s'], b['stop_s'], short_plan(b['name'])) for b in timeline['chosen']]
    return ''.join([
        strip('Battery', [Line(timeline['battery_ratio'], 'a', '')],
              scale=0.01, unit=' %', ceiling=1.0),
        strip('Memory', [Line(timeline['allotted_bytes'], 'limit', 'allotted', True),
                         Line(timeline['resident_bytes'], 'a', 'model and engine', True)],
              scale=MB, unit=' MB'),
        step_chart('Plan in force: variant, engine threads, memory mode', chosen, end,
                   order=[short_plan(name) for name in order],
                   shades=shades) if chosen else '',
        strip('Latency, 95th percentile of each second',
              [Line(timeline['latency_budget_s'], 'limit', 'budget', True),
               Line(timeline['latency_p95_s'], 'a', 'frame in memory to answer')],
              scale=1e-3, unit=' ms'),
        strip('Right answers against ground truth',
              [Line(timeline['accuracy_floor'], 'limit', 'floor', True),
               Line(timeline['expected_accuracy'], 'b', 'expected by the plan', True),
               Line(timeline['accuracy_ratio'], 'a', 'measured, last 100 frames')],
              scale=0.01, unit=' %', floor=None, ceiling=1.0),
        strip('Inference power (%s)' % timeline.get('energy_source', 'estimated'),
              [Line(timeline['energy_w'], 'b', '')], scale=1.0, unit=' W'),
    ])


def plan_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of plans with their reasons."""
    head = ('<tr><th class="n">from</th><th>plan</th><th class="n">frames</th>'
            '<th class="n">accuracy</th><th class="n">latency</th><th class="n">memory</th>'
            '<th class="n">energy</th><th>reason</th></tr>')
    body = ''.join(
        '<tr><td class="n">%.1f s</td><td>%s</td><td class="n">%d</td><td class="n">%s %%</td>'
        '<td class="n">%s ms</td><td class="n">%s MB</td><td class="n">%s mJ</td><td>%s</td></tr>'
        % (max(0.0, row['since_s']), escape(short_plan(row['candidate_id'])), row['frames'],
           number(row['accuracy'], '%.1f', scale=0.01), number(row['latency_s'], '%.2f',
                                                               scale=1e-3),
           number(row['memory_bytes'], '%.1f', scale=MB),
           number(row['energy_j'], '%.2f', scale=1e-3), escape(short_text(row['reason'])))
        for row in rows)
    return '<div class="wrap"><table>%s%s</table></div>' % (head, body)


FRAME_WORDS = {
    'emitted': 'frames that the source emitted',
    'emitted_ratio': 'emitted over length times rate of the scenario, ratio',
    'answered': 'answered, each once',
    'superseded': 'replaced by a newer frame and reported so', 'lost': 'lost',
    'duplicates': 'answered or reported twice', 'unknown': 'answers without a frame',
    'late_ratio': 'answers older than two frame periods, ratio',
    'degraded_ratio': 'answers of a fallback, ratio', 'superseded_ratio': 'replaced, ratio',
    'switches': 'switches to another variant',
    'switch_gap_frames_max': 'most frames in a row without own answer at a switch'}


CUT = re.compile(r'[^>@/]*?-(?P<cut>[a-z]+\d+)-head@local:none>[^>@/]*@'
                 r'(?P<device>[^:/]+):(?P<codec>[a-z0-9]+)')
WHOLE = re.compile(r'[^>@/]*@(?P<device>[^:/]+):(?P<codec>[a-z0-9]+)')


def short_place(placement: str) -> str:
    """Return 'at drone (jpeg)' or 'after1 > drone (int8)' of a placement with a peer."""
    cut, whole = CUT.fullmatch(placement), WHOLE.fullmatch(placement)
    if cut:
        return '%s > %s (%s)' % (cut['cut'], cut['device'], cut['codec'])
    return 'at %s (%s)' % (whole['device'], whole['codec']) if whole else placement


def short_plan(candidate_id: str) -> str:
    """Return 'variant, 1t, fast', with the peer where one takes part, on the usual engine."""
    parts = [p for p in candidate_id.split('/') if p not in ('local', 'onnxruntime')]
    if len(parts) > 1 and '@' in parts[1]:
        parts = [parts[0], short_place(parts[1])]  # what the fallback runs on is of no interest
    return ', '.join(parts)


def short_text(reason: str) -> str:
    """Return a reason with short names for what runs here on the usual engine."""
    plain = reason.replace('/local/onnxruntime', '')
    return re.sub(r'/([^/ ]*@[^/ ]*)/onnxruntime', lambda m: ', ' + short_place(m[1]), plain)


def frame_table(report: Mapping[str, Any]) -> str:
    """Return the count of frames and the accuracy per light band as two small tables."""
    parts = []
    if report['frames']:
        cells = ''.join(
            '<tr><td>%s</td><td class="n">%s</td></tr>' % (
                escape(FRAME_WORDS.get(name, name)), '%.4g' % value)
            for name, value in report['frames'].items() if value is not None)
        parts.append('<section><h2>Every frame, counted by a separate process</h2>'
                     '<table>%s</table></section>' % cells)
    if report['accuracy']:
        cells = ''.join(
            '<tr><td>%s</td><td class="n">%.1f %%</td><td class="n">%d</td></tr>' % (
                escape(name), 100 * entry['ratio'], entry['count'])
            for name, entry in report['accuracy'].items())
        parts.append('<section><h2>Right answers</h2><table><tr><th>light</th><th class="n">'
                     'right</th><th class="n">frames</th></tr>%s</table></section>' % cells)
    return '<div class="pair">%s</div>' % ''.join(parts)


def about_table(about: Mapping[str, Any]) -> str:
    """Return what ran where; nested values are written as name: value pairs."""
    rows = []
    for name, value in about.items():
        if name in ('title', 'subtitle') or value in (None, ''):
            continue
        text = ', '.join('%s: %s' % pair for pair in value.items()) if isinstance(
            value, Mapping) else str(value)
        rows.append('<tr><td class="dim">%s</td><td>%s</td></tr>' % (
            escape(name.replace('_', ' ')), escape(text)))
    return '<div class="wrap"><table>%s</table></div>' % ''.join(rows)


def render_page(report: Mapping[str, Any], *, order: Sequence[str] = ()) -> str:
    """
    Return report.html.

    :param report: as `summarise` returns it
    :param order: candidate_ids from the richest to the leanest; others follow as they came
    """
    timeline = dict(report['timeline'], energy_source=report['energy']['source'])
    used = list(dict.fromkeys(b['name'] for b in timeline['chosen']))
    rows = [c for c in order if c in used] + [c for c in used if c not in order]
    about = report['about']
    return whole_page(about, ''.join([
        cards(report),
        '<h2>Timeline</h2>',
        light_key([timeline]),
        panels(timeline, rows),
        '<h2>Plans and their reasons</h2>', plan_table(report['plans']),
        frame_table(report)]))


def light_key(timelines: Sequence[Mapping[str, Any]]) -> str:
    """Return what the background of the panels means, '' without ground truth."""
    light = ''.join('<span class="key %s"></span>%s' % (style, name)
                    for name, style in LIGHT_STYLES.items()
                    if any(b['name'] == name for t in timelines for b in t['light']))
    return '<p class="dim">Background: light of the scene %s</p>' % light if light else ''


def whole_page(about: Mapping[str, Any], content: str) -> str:
    """Return a page with its head, and what ran where at its end."""
    return ''.join([
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%s</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<style>%s</style></head><body><main>' % (escape(str(about.get('title', 'Run'))), STYLE),
        '<h1>%s</h1>' % escape(str(about.get('title', 'Run'))),
        '<p class="dim">%s</p>' % escape(str(about.get('subtitle', ''))),
        content,
        '<h2>What ran where</h2>', about_table(about),
        '</main></body></html>\n'])
