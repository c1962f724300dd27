# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import multiprocessing.context
import os
import signal
import threading

import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

import torch  # noqa: E402

from crowdhmt_ros.cli.main import main  # noqa: E402
from crowdhmt_ros.elastic.operators.channel import channel  # noqa: E402
from crowdhmt_ros.elastic.store import load_family  # noqa: E402
from crowdhmt_ros.elastic.transformation import missing  # noqa: E402
from crowdhmt_ros.tasks.members import Member, Members, members_text  # noqa: E402
from crowdhmt_ros.tasks.task_file import read_task  # noqa: E402
from crowdhmt_ros.types import Variant, variant_from_json  # noqa: E402
from test.tasks.small import CLASSES, task_file  # noqa: E402

HALF = Variant(((channel(0.5),),) * 3, 1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('CROWDHMT_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The task's files, a list of variants, and a training that is done."""
    folder = tmp_path_factory.mktemp('train-task')
    task = read_task(task_file(folder))
    (folder / 'variants.yaml').write_text(members_text(Members(
        task.backbone, (Member('half', HALF, 2.0, 3.5),), 'in a test')), encoding='utf-8')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('CROWDHMT_CACHE', str(folder / 'cache'))
        assert main(_command(folder, 'out', '--variants', str(folder / 'variants.yaml'),
                             '--held-out', '2')) == 0
    return folder


def _command(folder, out, *more):
    return ['train', str(folder / 'small.yaml'), '--data', str(folder), '--threads', '1',
            '--out', str(folder / out), '--seed', '5', *more]


def _log(folder, out='out'):
    return json.loads((folder / out / 'log.json').read_text())


def test_a_family_is_left_that_answers_as_the_listed_variants(folder):
    net, statistics, header = load_family(folder / 'out' / 'family.pt')
    assert header.backbone == read_task(folder / 'small.yaml').backbone
    assert not missing(net, HALF, statistics)
    assert not missing(net, net.whole(), statistics)
    assert header.scaling is not None
    log = _log(folder)['scaling']
    assert [list(header.scaling.mean), list(header.scaling.std)] == [log['mean'], log['std']]


def test_the_log_tells_what_a_figure_rests_on(folder):
    log = _log(folder)
    family = (folder / 'out' / 'family.pt').read_bytes()
    assert log['family_sha256'] == hashlib.sha256(family).hexdigest()
    assert (log['seed'], log['held_out'], log['classes']) == (5, ['2'], list(CLASSES))
    assert log['counts'] == {'train': 72, 'held_back': 24, 'test': 24}
    assert variant_from_json(log['variants']['half']) == HALF
    assert set(log['accuracy']) == set(log['held_back_accuracy']) == {'half'}
    assert 0.0 <= log['accuracy']['half'] <= 1.0
    assert len(log['scaling']['mean']) == len(log['scaling']['std']) == 3


def test_the_log_holds_the_command_but_no_folder(folder):
    text = (folder / 'out' / 'log.json').read_text()
    assert ('crowdhmt train small.yaml --data DIR --out DIR --seed 5 --threads 1 --held-out 2 '
            '--variants variants.yaml') in text
    assert str(folder) not in text


def test_a_finished_training_resumes_to_the_same_family(folder):
    before = _log(folder)
    assert main(_command(folder, 'out', '--resume', '--variants', str(folder / 'variants.yaml'),
                         '--held-out', '2')) == 0
    after = _log(folder)
    assert after['family_sha256'] == before['family_sha256']
    assert after['accuracy'] == before['accuracy']
    assert after['phases'] == before['phases']


def test_a_checkpoint_that_is_there_is_not_overwritten(folder, capsys):
    before = (folder / 'out' / 'family.pt').read_bytes()
    assert main(_command(folder, 'out')) == 2
    assert 'go on with --resume, or delete it' in capsys.readouterr().err
    assert (folder / 'out' / 'family.pt').read_bytes() == before


def test_without_a_list_some_variants_are_shown(folder, capsys):
    assert main(_command(folder, 'shown', '--phases', 'backbone', '--epochs', '1',
                         '--fold', '2')) == 0
    log = _log(folder, 'shown')
    assert {'full', 'w50', 'e0'} <= set(log['accuracy'])
    assert log['held_out'] == ['2', '4']
    assert [(p['phase'], p['epochs']) for p in log['phases']] == [('backbone', 1)]
    assert 'accuracy, test' in capsys.readouterr().out


@pytest.mark.parametrize(('options', 'told'), [
    (['--fold', '3'], '--fold is 3; there are 2 folds'),
    (['--fold', '1', '--held-out', '2'], 'give one of them'),
    (['--held-out', '9'], 'no subject 9; there are 1, 2, 3, 4, 5'),
    (['--quick'], 'takes no --quick'),
    (['--recipe', 'melting'], "no recipe is called 'melting'"),
    (['--phases', 'melting'], 'the recipe has backbone, joint'),
    (['--variants', 'nowhere.yaml'], 'nowhere.yaml cannot be read'),
    (['--limit', '-1'], 'at least 0')])
def test_what_cannot_be_done_is_one_clear_line(folder, capsys, options, told):
    assert main(_command(folder, 'never', *options)) == 2
    error = capsys.readouterr().err.strip()
    assert told in error
    assert '\n' not in error
    assert not (folder / 'never' / 'family.pt').exists()


def test_an_unknown_task_names_those_that_there_are(tmp_path, capsys):
    assert main(['train', 'melting', '--data', str(tmp_path), '--out', str(tmp_path)]) == 2
    assert "no task is called 'melting': there are cifar10," in capsys.readouterr().err


def test_campus7_takes_no_list_of_variants(tmp_path, capsys):
    assert main(['train', '--data', str(tmp_path), '--out', str(tmp_path), '--fold', '1']) == 2
    assert 'task campus7 takes no --fold' in capsys.readouterr().err


@pytest.mark.parametrize('more', [(), ('--resume',)])
def test_two_ranks_leave_the_family_that_one_leaves(folder, tmp_path, more):
    """The second time the training is done already: both only read the checkpoint."""
    out = folder / 'ranks'
    assert main([*_command(folder, 'ranks', '--variants', str(folder / 'variants.yaml'),
                           '--held-out', '2', '--ranks', '2', '--threads', '2'), *more]) == 0
    alone, _, _ = load_family(folder / 'out' / 'family.pt')
    shared, statistics, _ = load_family(out / 'family.pt')
    assert not missing(shared, HALF, statistics)
    for name in alone.names():
        assert torch.allclose(alone.tensor(name), shared.tensor(name), atol=2e-3), name
    log = _log(folder, 'ranks')
    assert log['phases'] != []
    assert '--seed 5 --threads 2 --ranks 2 --held-out 2' in log['command']
    assert log['threads'] == 1


def test_what_ranks_cannot_do_is_said_in_one_line(folder, capsys):
    assert main(_command(folder, 'three', '--ranks', '3')) == 2  # a batch of 16
    said = capsys.readouterr().err
    assert '3 processes cannot share batches of 16' in said
    assert said.count('\n') == 1
    assert main(['train', '--out', str(folder / 'x'), '--data', str(folder), '--ranks', '2']) == 2
    assert 'takes no --ranks' in capsys.readouterr().err


def test_a_rank_that_is_killed_ends_the_others_and_is_named(folder, capsys, monkeypatch):
    started = []
    begin = multiprocessing.context.SpawnProcess.start

    def start(process):
        begin(process)
        started.append(process)
        if len(started) == 2:
            threading.Timer(0.5, lambda: os.kill(process.pid, signal.SIGKILL)).start()

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, 'start', start)
    assert main(_command(folder, 'killed', '--ranks', '2', '--epochs', '2000')) == 2
    said = capsys.readouterr().err
    assert 'rank 1 of 2 was killed by signal 9' in said
    assert '--resume' in said
    assert not any(process.is_alive() for process in started)
