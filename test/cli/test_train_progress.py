# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.cli.train_progress import on_bar  # noqa: E402
from crowdhmt_ros.elastic.teaching.trainer import Progress  # noqa: E402


def test_the_bar_tells_losses_and_how_much_the_variants_oppose():
    said = []
    report = on_bar(lambda done, total, text: said.append(text))
    report(Progress('joint', 1, 4, 0, 9, 0.5, {'backbone': 2.0}, 0.25, 0.1, None))
    report(Progress('transformation', 0, 1, 0, 9, 0.5, {'variants': 2.0}, None, 0.1, None))
    assert said == [' joint 2/4 backbone 2.000 conflict 0.250',
                    ' transformation 1/1 variants 2.000']
