# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from crowdhmt_ros.cli import main as cli
from test.report import synthetic as s


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(['--help'])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


def test_help_imports_no_subcommand():
    code = ('import sys; from crowdhmt_ros.cli import main; main.build_parser(None)\n'
            'assert not [m for m in sys.modules if m in ("numpy", "torch", "onnxruntime", "cv2", '
            '"crowdhmt_ros.cli.demo")]')
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)


@pytest.mark.parametrize('words', [[], ['nonsense'], ['demo', '--nonsense'], ['up', 'boat']])
def test_bad_usage_is_exit_code_2(words):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(('words', 'said'), [
    (['loss', '/x/frames.csv', '/x/events.jsonl'], 'events.jsonl cannot be read'),
    (['bench', 'nonsense'], 'there is no bench nonsense'),
    (['reference', '--update', '/x/README.md'], 'cannot be updated'),
])
def test_bad_input_is_one_line_and_exit_code_2(words, said, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith('crowdhmt: ')
    assert error.count('\n') == 1


def test_the_counter_prints_json_and_fails_on_a_lost_frame(tmp_path, capsys):
    events, frames = s.write_run(tmp_path, seconds=3)
    assert cli.main(['loss', str(frames), str(events)]) == 0
    assert '"lost": 0' in capsys.readouterr().out
    with open(frames, 'a') as file:
        file.write('17,car,noon\n')
    assert cli.main(['loss', str(frames), str(events)]) == 1


def test_ctrl_c_is_no_traceback(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr('crowdhmt_ros.cli.loss.run', interrupt)
    assert cli.main(['loss', 'a', 'b']) == cli.INTERRUPTED
