# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The fronts of all tasks as one page, docs/fronts.md, with a drawing for each task."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

from benchmarks._training_fronts import Judged, mean_points
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.cli.outcome import machine
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.fronts import Point, front_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE, IMAGES, SHIPPED = 'fronts.md', 'images', 'campus7'
SIZE_INCHES = (5.6, 3.4)
HEAD = """# Fronts of all tasks

Accuracy on the test part against measured latency, for the variants that each run's log in
`benchmarks/runs` lists. Every family is one training. Dots are variants, lines join those that
no other one beats; each colour is one run. Latency: ONNX Runtime, single inputs, one thread,
median of turns; %s.

Made by `python -m benchmarks._training_fronts --data DIR --checkpoints DIR`.
"""


def write_page(judged: Sequence[Judged], docs: Path) -> Path:
    """
    Write the page and its drawings.

    :param judged: families, measured on this machine
    :param docs: folder of the page
    :returns: the page's file
    :raises ConfigError: nothing was judged, or matplotlib is not there
    """
    if not judged:
        raise ConfigError('no family was found, so there is no front to draw')
    (docs / IMAGES).mkdir(parents=True, exist_ok=True)
    parts = [HEAD % _machine()]
    for name in sorted({j.run.task.name for j in judged}):
        own = [j for j in judged if j.run.task.name == name]
        image = '%s/front-%s.svg' % (IMAGES, name)
        draw(own, docs / image)
        parts.append(section(name, own, image))
    parts.append(shipped(open_bundle(SHIPPED)))
    page = docs / PAGE
    write_whole(page, '\n'.join(parts))
    return page


def _machine() -> str:
    known = machine()
    return ', '.join('%s %s' % (key.replace('_', ' '), value) for key, value in known.items()
                     if isinstance(value, (str, int, float)))


def section(name: str, judged: Sequence[Judged], image: str) -> str:
    """
    Return a task's part of the page.

    :param judged: its families
    :param image: address of its drawing
    """
    task = judged[0].run.task
    options = ', '.join('%s %s' % item for item in task.backbone.options.items())
    lines = ['## %s' % name, '', '![front of %s](%s)' % (name, image), '',
             '%s (%s), recipe `%s`. Data: %s.' % (task.backbone.name, options, task.recipe,
                                                  judged[0].run.described), '']
    lines += ['- `%s`: seed %d%s, %.0f s of processor time, whole network %.2f %%' % (
        j.run.name, j.run.seed,
        ', tested on %s' % ', '.join(j.run.held_out) if j.run.held_out else '',
        j.run.cpu_s, 100 * j.accuracy[j.whole]) for j in judged]
    return '\n'.join([*lines, '', *_table(judged), ''])


def shipped(bundle: Bundle) -> str:
    """
    Return the part of the page on the bundle that comes with the package, as its manifest has it.

    :raises BundleError: the bundle cannot be read
    """
    macs = {v: bundle.macs(v) for v in bundle.manifest.front}
    found = {v: bundle.accuracy(v) for v in macs}
    conditions = list(next(iter(found.values())))
    best = {c: {p.name for p in front_of(Point(v, macs[v], found[v][c]) for v in macs)}
            for c in conditions}
    told = ('The bundle that comes with the package, off its manifest: accuracies in %, of photos '
            'balanced over the classes, of scenes per light band; bold is what no variant of '
            'fewer operations beats. Latencies are measured on the robot, `crowdhmt calibrate`.')
    lines = ['## %s' % bundle.manifest.name, '', told, '',
             '| variant | MMAC | %s |' % ' | '.join(conditions), '|---|---|' + '---|' * len(best)]
    lines += ['| `%s` | %.2f | %s |' % (v, macs[v] / 1e6, ' | '.join(
        ('**%.2f**' if v in best[c] else '%.2f') % (100 * found[v][c]) for c in conditions))
        for v in sorted(macs, key=lambda v: -macs[v])]
    return '\n'.join([*lines, ''])


def _table(judged: Sequence[Judged]) -> List[str]:
    """Return the variants of a task, averaged over its runs, from dear to cheap."""
    points = mean_points(judged, 'latency_s')
    macs = {p.name: p.cost for p in mean_points(judged, 'macs')}
    best = {p.name for p in front_of(points)}
    lines = ['| variant | latency, ms | times as fast | MMAC | %saccuracy, %% | front |' % (
        'mean ' if len(judged) > 1 else ''), '|---|---|---|---|---|---|']
    lines += ['| `%s` | %.3f | %.2f | %.2f | %.2f | %s |' % (
        p.name, 1e3 * p.cost, points[0].cost / p.cost, macs[p.name] / 1e6, 100 * p.accuracy,
        'yes' if p.name in best else '') for p in sorted(points, key=lambda p: -p.cost)]
    return lines


def draw(judged: Sequence[Judged], path: Path) -> None:
    """
    Draw the fronts of a task's families into an SVG file; the same figures make the same file.

    :raises ConfigError: matplotlib is not there
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError('drawing needs %s; install the extra dev' % error.name) from error
    with mpl.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'fronts', 'font.size': 9}):
        figure = Figure(figsize=SIZE_INCHES, layout='tight')
        axes = figure.add_subplot()
        for number, family in enumerate(judged):
            _series(axes, family, 'C%d' % (number % 10))
        axes.set_xscale('log')
        axes.set_xlabel('latency, ms')
        axes.set_ylabel('accuracy, %')
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
        FigureCanvasSVG(figure)
        figure.savefig(str(path), format='svg', metadata={'Date': None})


def _series(axes: Axes, family: Judged, colour: str) -> None:
    points = [Point(n, 1e3 * family.latency_s[n], 100 * a) for n, a in family.accuracy.items()]
    front = front_of(points)
    axes.scatter([p.cost for p in points], [p.accuracy for p in points], s=9, color=colour,
                 alpha=0.5)
    axes.plot([p.cost for p in front], [p.accuracy for p in front], color=colour, linewidth=1.2,
              label=family.run.name)
