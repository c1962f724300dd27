# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Who is who: this robot's key pair and the public keys of the robots that it trusts.

A folder per robot, for its owner alone: `own.key` (public and secret key, 0600) and
`trusted/ROBOT_ID.pub`, an inner slash of the robot_id written as a stop. Keys are Curve25519 in
ZeroMQ's Z85 text. What an advert says of a key is a name to look up here, never a key to use.
"""
from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.errors import TrustError
from crowdhmt_ros.offload.curve import (
    key_of,
    new_pair,
    public_of_secret,
    public_text,
    raw_key,
)
from crowdhmt_ros.offload.key_files import check_folder, make_folder, read_checked, write_private
from crowdhmt_ros.offload.signing import shared_secret, sign, verify
from crowdhmt_ros.offload.wire_fields import is_robot_id

OWN, TRUSTED, SUFFIX = 'own.key', 'trusted', '.pub'
KEYS_VARIABLE = 'CROWDHMT_KEYS'
FINGERPRINT_DIGITS = 32

__all__ = ['KeyStore', 'default_keys_dir', 'fingerprint', 'key_of', 'public_text',
           'shared_secret', 'sign', 'throw_away', 'verify']


def default_keys_dir() -> Path:
    """Return the folder of this user's robot keys: $CROWDHMT_KEYS or ~/.config/crowdhmt/keys."""
    named = os.environ.get(KEYS_VARIABLE)
    return Path(named) if named else Path.home() / '.config' / 'crowdhmt' / 'keys'


def fingerprint(public: bytes) -> str:
    """
    Return the short name of a public key: 32 hexadecimal digits of its SHA-256.

    :raises TrustError: when it is no key
    """
    return hashlib.sha256(raw_key(public)).hexdigest()[:FINGERPRINT_DIGITS]


def file_name(robot_id: str) -> str:
    """
    Return the file of a trusted robot.

    :raises TrustError: for a name that no robot can have
    """
    if not is_robot_id(robot_id):
        raise TrustError('%r is no robot_id: letters, digits, _ and -, as its ROS namespace '
                         'without the outer slashes' % robot_id[:80])
    return robot_id.replace('/', '.') + SUFFIX


class KeyStore:
    """
    The keys of one robot, read once; `reload` reads them again.

    :param folder: made by `KeyStore.make`
    :raises TrustError: when there is no key yet, a file is open to other users, or damaged
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        own = self.folder / OWN
        if not own.exists():
            raise TrustError('%s holds no key of this robot: make one with crowdhmt keys make '
                             '--dir %s' % (self.folder, shlex.quote(str(self.folder))))
        self._public, self._secret = read_pair(own)
        self._trusted: Dict[str, bytes] = {}
        self.reload()

    @classmethod
    def make(cls, folder: Path, *, replace: bool = False) -> KeyStore:
        """
        Draw a key pair for this robot; the trusted keys stay.

        :param replace: also when there is one: peers then refuse this robot until they are told
        :raises TrustError: when there is one, or the folder cannot be used
        """
        folder = Path(folder)
        make_folder(folder)
        make_folder(folder / TRUSTED)
        if (folder / OWN).exists() and not replace:
            raise TrustError('%s has a key already: peers would refuse a new one; draw one all '
                             'the same with --replace' % folder)
        public, secret = new_pair()
        write_private(folder / OWN, '%s\n%s\n' % (public.decode(), secret.decode()))
        return cls(folder)

    @property
    def public(self) -> bytes:
        """Own public key, Z85."""
        return self._public

    @property
    def secret(self) -> bytes:
        """Own secret key, Z85."""
        return self._secret

    @property
    def fingerprint(self) -> str:
        """Short name of the own public key, for adverts."""
        return fingerprint(self._public)

    def trusted(self) -> Mapping[str, bytes]:
        """Return robot_id -> public key (Z85) of every trusted robot."""
        return dict(self._trusted)

    def public_of(self, robot_id: str) -> Optional[bytes]:
        """Return the trusted key of a robot, None when it is not trusted."""
        return self._trusted.get(robot_id)

    def robot_of(self, public: bytes) -> Optional[str]:
        """Return the robot whose trusted key this is, None for an unknown key."""
        return next((name for name, key in self._trusted.items() if key == public), None)

    def secret_with(self, robot_id: str) -> Optional[bytes]:
        """
        Return the secret shared with a trusted robot, for signatures; None when not trusted.

        :raises TrustError: without the library `cryptography`
        """
        public = self._trusted.get(robot_id)
        return None if public is None else shared_secret(self._secret, public)

    def objection(self, robot_id: str, key_fingerprint: str) -> str:
        """
        Return why an advert's key is not to be trusted, '' when it is the trusted one.

        :param key_fingerprint: as the advert claims; the handshake alone proves it
        """
        public = self._trusted.get(robot_id)
        if public is None:
            return ('the key of %s is not trusted here: compare it, then crowdhmt keys trust %s '
                    'PUBLIC' % (robot_id, robot_id))
        if fingerprint(public) != key_fingerprint:
            return ('%s shows another key than the trusted one: when that is meant, crowdhmt keys '
                    'trust %s PUBLIC --replace' % (robot_id, robot_id))
        return ''

    def trust(self, robot_id: str, public: bytes, *, replace: bool = False) -> None:
        """
        Trust a robot's key from now on.

        :param public: Z85, see `key_of`
        :param replace: also when another key is trusted for it
        :raises TrustError: another key is trusted, the key belongs to another robot, or is none
        """
        path = self.folder / TRUSTED / file_name(robot_id)
        raw_key(public)
        self.reload()
        known, owner = self._trusted.get(robot_id), self.robot_of(public)
        if public == self._public:
            raise TrustError("that is this robot's own key: give the one that `crowdhmt keys "
                             'show` prints on %s' % robot_id)
        if owner not in (None, robot_id):
            raise TrustError('that key is trusted as %s already: one key, one robot' % owner)
        if known not in (None, public) and not replace:
            raise TrustError('another key is trusted for %s: when the robot has really got a new '
                             'one, say --replace' % robot_id)
        make_folder(self.folder / TRUSTED)
        write_private(path, public.decode('ascii') + '\n')
        self._trusted[robot_id] = public

    def reload(self) -> None:
        """
        Read the trusted keys again.

        :raises TrustError: when a file is open to other users or damaged; the old ones stay
        """
        folder = self.folder / TRUSTED
        found: Dict[str, bytes] = {}
        if folder.exists():
            check_folder(folder)
            for path in sorted(folder.glob('*' + SUFFIX)):
                robot_id, public = read_trusted(path)
                if public in found.values():
                    raise TrustError('%s holds the key of another trusted robot: remove it' % path)
                found[robot_id] = public
        self._trusted = found


def read_pair(path: Path) -> Tuple[bytes, bytes]:
    """
    Read the own key pair.

    :returns: public, secret, both Z85
    :raises TrustError: when the file is open to others, or the two do not belong together
    """
    lines = read_checked(path, secret=True).split('\n')
    if len(lines) == 3 and lines[2] == '':
        public, secret = lines[0].encode(), lines[1].encode()
        if public_of_secret(secret) == public:
            return public, secret
    raise TrustError('%s is damaged: draw a new key with crowdhmt keys make --replace --dir %s'
                     % (path, shlex.quote(str(path.parent))))


def read_trusted(path: Path) -> Tuple[str, bytes]:
    """
    Read the key of a trusted robot.

    :returns: robot_id, public key in Z85
    :raises TrustError: when the file is open to others, or holds no key
    """
    robot_id = path.name[:-len(SUFFIX)].replace('.', '/')
    public = read_checked(path, secret=False).strip().encode()
    try:
        file_name(robot_id)
        raw_key(public)
    except TrustError as error:
        raise TrustError('%s holds no key of a robot: remove it (%s)' % (path, error)) from error
    return robot_id, public


def throw_away(folder: Path, robot_ids: Sequence[str]) -> Mapping[str, Path]:
    """
    Make fresh keys for some robots that trust each other, for a demo or a test.

    :param folder: one folder per robot is made in it
    :returns: robot_id -> its keys_dir
    :raises TrustError: when one of them has keys there already
    """
    stores = {name: KeyStore.make(Path(folder) / file_name(name)[:-len(SUFFIX)])
              for name in robot_ids}
    for name, store in stores.items():
        for other, peer in stores.items():
            if other != name:
                store.trust(other, peer.public)
    return {name: store.folder for name, store in stores.items()}
