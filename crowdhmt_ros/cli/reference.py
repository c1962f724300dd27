# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`crowdhmt reference`: the README's tables of topics, services and parameters, from the code.

A section of the README lies between `<!-- reference:NAME -->` and `<!-- /reference:NAME -->`.
"""
from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

from crowdhmt_ros.cli.figures import number_text
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.nodes.params import SPECS
from crowdhmt_ros.nodes.table import yaml_scalar
from crowdhmt_ros.nodes.topics import SERVICES, TOPICS


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar in a cell is escaped."""
    lines = [list(head), ['---'] * len(head), *(list(row) for row in rows)]
    return '\n'.join('| %s |' % ' | '.join(cell.replace('|', '\\|') for cell in line)
                     for line in lines)


def names(nodes: Sequence[str]) -> str:
    """Return node names for a cell; a dash where it is nobody of ours."""
    return ', '.join(nodes) or '-'


def topics_section() -> str:
    """Return the table of topics."""
    return markdown_table(
        ('topic', 'type', 'quality of service', 'published by', 'read by', 'carries'),
        (('`%s`' % t.name, t.type_name, t.profile.label, names(t.publishers),
          names(t.subscribers), t.text) for t in TOPICS))


def services_section() -> str:
    """Return the table of services."""
    return markdown_table(('service', 'type', 'node', 'does'),
                          (('`%s`' % s.name, s.type_name, s.server, s.text) for s in SERVICES))


def default_text(value: Any) -> str:
    """Return a default as it stands in YAML."""
    if isinstance(value, float) and math.isnan(value):
        return 'unset'
    return '`%s`' % yaml_scalar(value)


def parameters_section() -> str:
    """Return one table of parameters a node."""
    parts: List[str] = []
    for node, specs in SPECS.items():
        parts.append('**%s**' % node)
        parts.append(markdown_table(
            ('parameter', 'default', 'allowed', 'meaning'),
            (('`%s`%s' % (s.name, ' *' if s.changeable else ''), default_text(s.default),
              s.range_text or '-', s.text) for s in specs)))
    parts.append('\\* may be changed while the node runs.')
    return '\n\n'.join(parts)


SECTIONS: Dict[str, Callable[[], str]] = {
    'topics': topics_section, 'services': services_section, 'parameters': parameters_section}


def section_pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of one section with its markers; group 2 is the content."""
    return re.compile(r'(<!-- reference:%s -->\n)(.*?)(\n<!-- /reference:%s -->)' % (name, name),
                      re.DOTALL)


def section_in(text: str, name: str) -> str:
    """
    Return what a document holds for one section.

    :raises ConfigError: when the markers are missing
    """
    found = section_pattern(name).search(text)
    if not found:
        raise ConfigError('the markers <!-- reference:%s --> and <!-- /reference:%s --> are '
                          'missing' % (name, name))
    return found.group(2)


def updated(text: str) -> str:
    """
    Return a document with all its sections made anew.

    :raises ConfigError: when markers are missing
    """
    for name, make in SECTIONS.items():
        old = section_in(text, name)
        opening = '<!-- reference:%s -->\n' % name
        text = text.replace(opening + old, opening + make())
    return text


def figures_section(content: Mapping[str, Any]) -> str:
    """Return the table of the figures with a target, from the JSON file of a bench."""
    rows = []
    for figure in content['figures']:
        if figure['target'] is not None:
            sign = '<=' if figure['better'] == 'lower' else '>='
            rows.append(('`%s`' % figure['key'], number_text(figure['value']),
                         '%s %s' % (sign, number_text(figure['target'])),
                         'yes' if figure['holds'] else '**no**', figure['how']))
    return markdown_table(('figure', 'value', 'target', 'holds', 'how'), rows)


def with_figures(text: str, path: Path) -> str:
    """
    Return a document with the figures of one bench between its markers.

    :param path: JSON file that `crowdhmt bench NAME --json FILE` wrote
    :raises ConfigError: when the file cannot be used, or the markers are missing
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        name, made = content['bench'], figures_section(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError('%s holds no figures of a bench (%s): make it with crowdhmt bench NAME '
                          '--json FILE' % (path, error)) from error
    pattern = re.compile(r'(<!-- figures:%s -->\n)(.*?)(<!-- /figures:%s -->)' % (name, name),
                         re.DOTALL)
    found = pattern.search(text)
    if not found:
        raise ConfigError('the markers <!-- figures:%s --> and <!-- /figures:%s --> are missing'
                          % (name, name))
    return text[:found.end(1)] + made + '\n' + text[found.start(3):]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        'reference', help='print the reference sections of the README')
    parser.add_argument('section', nargs='?', choices=sorted(SECTIONS),
                        help='one section; all when left out')
    parser.add_argument('--update', type=Path, metavar='FILE',
                        help='write all sections between their markers in FILE')
    parser.add_argument('--figures', type=Path, action='append', default=[], metavar='JSON',
                        help='with --update: write the figures of this bench too; may be '
                        'repeated')
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print sections, or update a document."""
    if arguments.update:
        try:
            text = arguments.update.read_text(encoding='utf-8')
            text = updated(text)
            for path in arguments.figures:
                text = with_figures(text, path)
            arguments.update.write_text(text, encoding='utf-8')
        except OSError as error:
            raise ConfigError('%s cannot be updated: %s' % (arguments.update, error)) from error
        return 0
    chosen = [arguments.section] if arguments.section else list(SECTIONS)
    for name in chosen:
        print('<!-- reference:%s -->\n%s\n<!-- /reference:%s -->' % (name, SECTIONS[name](), name))
    return 0
