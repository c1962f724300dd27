# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
import stat
import sys

import pytest

from crowdhmt_ros.errors import TrustError
from crowdhmt_ros.offload import curve, key_files, signing, trust
from crowdhmt_ros.offload.trust import KeyStore

pytest.importorskip('zmq')


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def store(tmp_path):
    return KeyStore.make(tmp_path / 'keys')


@pytest.fixture
def peer(tmp_path):
    return KeyStore.make(tmp_path / 'peer')


def test_a_new_key_is_its_owners_alone_under_any_umask(tmp_path):
    old = os.umask(0)
    try:
        made = KeyStore.make(tmp_path / 'deep' / 'keys')
    finally:
        os.umask(old)
    assert mode(made.folder) == mode(made.folder / 'trusted') == 0o700
    assert mode(made.folder / 'own.key') == 0o600
    assert sorted(p.name for p in made.folder.iterdir()) == ['own.key', 'trusted']


def test_a_store_is_read_again_as_it_was_made(store, peer):
    store.trust('drone', peer.public)
    again = KeyStore(store.folder)
    assert (again.public, again.secret) == (store.public, store.secret)
    assert again.trusted() == {'drone': peer.public}
    assert again.public_of('drone') == peer.public
    assert again.public_of('other') is None
    assert again.robot_of(peer.public) == 'drone'
    assert again.robot_of(store.public) is None


def test_a_key_that_exists_is_kept_unless_it_is_to_be_replaced(store, peer):
    store.trust('drone', peer.public)
    with pytest.raises(TrustError, match='--replace'):
        KeyStore.make(store.folder)
    assert KeyStore(store.folder).public == store.public
    renewed = KeyStore.make(store.folder, replace=True)
    assert renewed.public != store.public
    assert renewed.trusted() == store.trusted()


def test_no_store_and_a_store_without_key_name_the_command(tmp_path):
    with pytest.raises(TrustError, match='crowdhmt keys make --dir'):
        KeyStore(tmp_path / 'none')
    (tmp_path / 'empty').mkdir(mode=0o700)
    with pytest.raises(TrustError, match='crowdhmt keys make --dir'):
        KeyStore(tmp_path / 'empty')


@pytest.mark.parametrize(('name', 'loose', 'mended'), [
    ('.', 0o750, '700'), ('.', 0o701, '700'), ('own.key', 0o640, '600'),
    ('own.key', 0o604, '600'), ('trusted', 0o770, '700'), ('trusted/drone.pub', 0o622, '600')])
def test_loose_permissions_are_refused_with_the_chmod_that_mends_them(
        store, peer, name, loose, mended):
    store.trust('drone', peer.public)
    path = store.folder / name
    path.chmod(loose)
    with pytest.raises(TrustError, match='run chmod %s %s' % (mended, path)) as caught:
        KeyStore(store.folder)
    assert '\n' not in str(caught.value)
    path.chmod(int(mended, 8))
    assert KeyStore(store.folder).trusted() == {'drone': peer.public}


def test_a_key_of_another_user_is_refused(store, monkeypatch):
    if os.geteuid() == 0:
        os.chown(str(store.folder), 12345, -1)
    else:
        monkeypatch.setattr(key_files.os, 'geteuid', lambda: 12345)
    with pytest.raises(TrustError, match='another user'):
        KeyStore(store.folder)


def test_the_line_that_mends_can_be_pasted_for_a_folder_with_blanks(tmp_path):
    made = KeyStore.make(tmp_path / 'my keys')
    made.folder.chmod(0o755)
    with pytest.raises(TrustError, match="chmod 700 '.*my keys'"):
        KeyStore(made.folder)


@pytest.mark.parametrize('content', [b'', b'x\ny\n', b'\xff\xfe', b'0' * 5000])
def test_a_damaged_own_key_is_refused(store, content):
    (store.folder / 'own.key').write_bytes(content)
    with pytest.raises(TrustError):
        KeyStore(store.folder)


def test_two_halves_that_do_not_belong_together_are_refused(store, peer):
    path = store.folder / 'own.key'
    path.write_bytes(peer.public + b'\n' + store.secret + b'\n')
    with pytest.raises(TrustError, match='damaged'):
        KeyStore(store.folder)


@pytest.mark.parametrize(('name', 'content'), [
    ('drone.pub', b'nothing'), ('drone.pub', b''), ('a b.pub', None), ('..pub', None)])
def test_a_damaged_trusted_key_is_named(store, peer, name, content):
    path = store.folder / 'trusted' / name
    path.write_bytes(peer.public if content is None else content)
    path.chmod(0o600)
    with pytest.raises(TrustError, match='holds no key of a robot'):
        KeyStore(store.folder)


def test_a_changed_key_is_refused_unless_it_is_to_be_replaced(store, peer, tmp_path):
    store.trust('drone', peer.public)
    store.trust('drone', peer.public)
    changed = KeyStore.make(tmp_path / 'changed').public
    with pytest.raises(TrustError, match='--replace'):
        store.trust('drone', changed)
    assert KeyStore(store.folder).public_of('drone') == peer.public
    store.trust('drone', changed, replace=True)
    assert KeyStore(store.folder).public_of('drone') == changed


def test_one_key_is_one_robot(store, peer):
    store.trust('drone', peer.public)
    with pytest.raises(TrustError, match='trusted as drone already'):
        store.trust('drone2', peer.public)
    with pytest.raises(TrustError, match="this robot's own"):
        store.trust('vehicle', store.public)
    copy = store.folder / 'trusted' / 'other.pub'
    key_files.write_private(copy, peer.public.decode())
    with pytest.raises(TrustError, match='another trusted robot'):
        KeyStore(store.folder)


@pytest.mark.parametrize('name', ['', '/', '../x', 'a/../b', '.', 'a b', 'a\n', 'x' * 65, '/a',
                                  'a/', 'a//b'])
def test_a_name_that_no_robot_has_makes_no_file(store, peer, name):
    with pytest.raises(TrustError, match='no robot_id'):
        store.trust(name, peer.public)
    assert list((store.folder / 'trusted').iterdir()) == []


@pytest.mark.parametrize('name', ['drone', 'drone-1', 'fleet/drone', 'a/b_c/d'])
def test_a_name_with_slashes_comes_back(store, peer, name):
    store.trust(name, peer.public)
    assert set(KeyStore(store.folder).trusted()) == {name}


def test_what_an_advert_says_of_a_key_is_compared_only(store, peer, tmp_path):
    other = KeyStore.make(tmp_path / 'other')
    assert 'not trusted here' in store.objection('drone', peer.fingerprint)
    store.trust('drone', peer.public)
    assert store.objection('drone', peer.fingerprint) == ''
    assert 'another key' in store.objection('drone', other.fingerprint)
    assert 'another key' in store.objection('drone', '')


def test_trust_given_while_running_is_seen_after_reload(store, peer):
    running = KeyStore(store.folder)
    store.trust('drone', peer.public)
    assert running.trusted() == {}
    running.reload()
    assert running.trusted() == {'drone': peer.public}
    (store.folder / 'trusted' / 'drone.pub').chmod(0o666)
    with pytest.raises(TrustError):
        running.reload()
    assert running.trusted() == {'drone': peer.public}


def test_a_full_disk_loses_no_key(store, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(key_files.os, 'fsync', full)
    with pytest.raises(TrustError, match='No space left'):
        KeyStore.make(store.folder, replace=True)
    monkeypatch.undo()
    assert KeyStore(store.folder).public == store.public
    assert sorted(p.name for p in store.folder.iterdir()) == ['own.key', 'trusted']


def test_the_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('CROWDHMT_KEYS', str(tmp_path))
    assert trust.default_keys_dir() == tmp_path
    monkeypatch.delenv('CROWDHMT_KEYS')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert trust.default_keys_dir() == tmp_path / '.config' / 'crowdhmt' / 'keys'


def test_throw_away_keys_trust_each_other(tmp_path):
    folders = trust.throw_away(tmp_path / 'run', ('vehicle', 'drone', 'fleet/third'))
    stores = {name: KeyStore(folder) for name, folder in folders.items()}
    for name, own in stores.items():
        assert own.trusted() == {n: s.public for n, s in stores.items() if n != name}
    assert len({s.public for s in stores.values()}) == 3


def test_keys_are_read_as_people_and_files_write_them(store):
    shown = curve.public_text(store.public)
    assert len(shown) == 64
    assert curve.key_of(' %s\n' % shown) == curve.key_of(store.public.decode()) == store.public
    for text in ('', 'x' * 40 + '\u00e9', '"' * 40, 'zz' * 32, '#' * 40, 'ab' * 31,
                 '\u00e9' * 40, '12345'):
        with pytest.raises(TrustError, match='64 hexadecimal digits'):
            curve.key_of(text)


def test_both_ends_compute_one_secret_and_nobody_else(store, peer, tmp_path):
    store.trust('drone', peer.public)
    peer.trust('vehicle', store.public)
    shared = store.secret_with('drone')
    assert shared == peer.secret_with('vehicle')
    assert len(shared) == 32
    third = KeyStore.make(tmp_path / 'third')
    assert signing.shared_secret(third.secret, peer.public) != shared
    assert signing.shared_secret(third.secret, store.public) != shared
    assert store.secret_with('stranger') is None


def test_a_signature_is_good_for_one_message_and_one_secret():
    tag = trust.sign(b'k' * 32, b'message')
    assert trust.verify(b'k' * 32, b'message', tag)
    assert not trust.verify(b'k' * 32, b'massage', tag)
    assert not trust.verify(b'l' * 32, b'message', tag)
    for wrong in (b'', tag[:-1], tag + b'\0', bytes(32)):
        assert not trust.verify(b'k' * 32, b'message', wrong)


def test_a_key_that_agrees_on_nothing_is_refused(store):
    with pytest.raises(TrustError, match='no secret'):
        signing.shared_secret(store.secret, b'0' * 40)


def test_missing_libraries_are_named(monkeypatch, tmp_path, store, peer):
    monkeypatch.setitem(sys.modules, 'cryptography.hazmat.primitives.asymmetric', None)
    with pytest.raises(TrustError, match='pip install cryptography'):
        signing.shared_secret(store.secret, peer.public)
    monkeypatch.setitem(sys.modules, 'zmq', None)
    with pytest.raises(TrustError, match='pip install pyzmq'):
        KeyStore.make(tmp_path / 'new')


def test_the_keys_open_a_curve_connection(store, peer):
    import zmq
    context = zmq.Context()
    server, client = context.socket(zmq.REP), context.socket(zmq.REQ)
    try:
        server.curve_server, server.curve_secretkey = True, peer.secret
        client.curve_serverkey = peer.public
        client.curve_publickey, client.curve_secretkey = store.public, store.secret
        for socket in (server, client):
            socket.linger, socket.rcvtimeo = 0, 5000
        client.connect('tcp://127.0.0.1:%d' % server.bind_to_random_port('tcp://127.0.0.1'))
        client.send(b'x')
        assert server.recv() == b'x'
    finally:
        for socket in (server, client):
            socket.close()
        context.term()
