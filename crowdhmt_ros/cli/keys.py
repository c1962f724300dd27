# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt keys`: this robot's key and the robots that it trusts."""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Callable, Mapping

from crowdhmt_ros.offload.trust import KeyStore, default_keys_dir, fingerprint, key_of, public_text


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Describe the command's arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'keys', help='make and show the key of this robot, trust those of its peers')
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    make = actions.add_parser('make', help='draw the key of this robot')
    make.add_argument('--replace', action='store_true', help='also when there is one: peers then '
                      'refuse this robot until they trust the new key')
    actions.add_parser('show', help='print the public key of this robot')
    trust = actions.add_parser('trust', help='let a peer compute for this robot, and ask it to')
    trust.add_argument('name', metavar='NAME', help="the peer's robot_id: its namespace")
    trust.add_argument('public', metavar='PUBLIC',
                       help='what `crowdhmt keys show` prints on the peer')
    trust.add_argument('--replace', action='store_true',
                       help='also when another key is trusted under that name')
    listing = actions.add_parser('list', help='print the peers that are trusted')
    for action in actions.choices.values():
        action.add_argument('--dir', type=Path, default=None, metavar='DIR', help='folder of the '
                            'keys (default: $CROWDHMT_KEYS or ~/.config/crowdhmt/keys)')
    listing.add_argument('--json', action='store_true', help='print JSON')
    return parser


def make(arguments: argparse.Namespace, folder: Path) -> None:
    """Draw the key of this robot."""
    show_store(KeyStore.make(folder, replace=arguments.replace))


def show(arguments: argparse.Namespace, folder: Path) -> None:
    """Print the public key of this robot."""
    show_store(KeyStore(folder))


def show_store(store: KeyStore) -> None:
    """Print what peers need: the public key, and its short name to compare."""
    print('public key   %s' % public_text(store.public))
    print('fingerprint  %s' % store.fingerprint)
    print('folder       %s' % store.folder)


def trust(arguments: argparse.Namespace, folder: Path) -> None:
    """Trust the key of a peer."""
    public = key_of(arguments.public)
    KeyStore(folder).trust(arguments.name, public, replace=arguments.replace)
    print('%s is trusted, fingerprint %s' % (arguments.name, fingerprint(public)))


def listed(arguments: argparse.Namespace, folder: Path) -> None:
    """Print the peers that are trusted."""
    trusted = KeyStore(folder).trusted()
    rows = [{'robot_id': name, 'fingerprint': fingerprint(public),
             'public_key': public_text(public)} for name, public in sorted(trusted.items())]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print('no peer is trusted: crowdhmt keys trust NAME PUBLIC')
    else:
        width = max(len(row['robot_id']) for row in rows)
        for row in rows:
            print('%-*s  %s' % (width, row['robot_id'], row['fingerprint']))


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Path], None]] = {
    'make': make, 'show': show, 'trust': trust, 'list': listed}


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    ACTIONS[arguments.action](arguments, arguments.dir or default_keys_dir())
    return 0
