# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks as PyTorch exports them, while they train and for inference, for the transformation."""
from __future__ import annotations

import io
import warnings
from typing import Callable, Dict, List, Tuple

import onnx
import torch
from torch import nn
from torch.nn import functional

from crowdhmt_ros.elastic.backbones import BACKBONES, example_input

OPSET, SEED, BATCHES = 17, 20260721, 4
MODES = ('inference', 'preserve', 'training')
SIZES: Dict[str, Dict[str, int]] = {
    'resnet18': {'edge': 32, 'width': 16}, 'vgg16': {'edge': 32, 'width': 16},
    'mobilenet_v2': {'edge': 32}, 'vision_transformer': {'width': 64, 'depth': 3, 'heads': 2}}


class Detector(nn.Module):
    """Three scales, boxes and scores per scale, shapes computed as detectors' authors do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 16, 3, 2, bias=False),
                                  nn.BatchNorm2d(16), nn.SiLU())
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
            for _ in range(2))
        self.lateral = nn.Conv2d(32, 16, 1)
        self.box, self.score = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 10, 1)
        self.register_buffer('anchors', torch.rand(2, 2))

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return boxes, scores and the finest features."""
        fine = self.stem(image)
        middle = self.down[0](fine)
        coarse = self.down[1](middle)
        up = functional.interpolate(coarse, size=middle.shape[2:], mode='nearest')
        middle = self.lateral(torch.cat([middle, up], 1))
        boxes, scores = [], []
        for level in (fine, middle, coarse):
            n, _, h, w = level.shape
            grid_y, grid_x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing='ij')
            grid = torch.stack([grid_x, grid_y], -1).float().view(1, 1, h, w, 2)
            box = self.box(level).view(n, 2, 4, h, w).permute(0, 1, 3, 4, 2)
            centre = (box[..., :2].sigmoid() * 2 - 0.5 + grid) / h
            size = (box[..., 2:].sigmoid() * 2) ** 2 * self.anchors.view(1, 2, 1, 1, 2)
            boxes.append(torch.cat([centre, size], -1).reshape(n, -1, 4))
            scores.append(self.score(level).view(n, 2, 5, h, w).permute(0, 1, 3, 4, 2)
                          .reshape(n, -1, 5).sigmoid())
        return torch.cat(boxes, 1), torch.cat(scores, 1), fine


class PackedAttention(nn.Module):
    """A transformer block with packed projections and PyTorch's own attention."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.place = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.packed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gain = nn.Parameter(torch.rand(width))
        self.head = nn.Linear(width, 10)
        self.drop = nn.Dropout(0.1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        n, count, width = x.shape
        packed = self.packed(self.norms[0](x)).reshape(n, count, 3, self.heads, -1)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(n, count, width)) * self.gain)
        x = x + self.down(functional.gelu(self.up(self.norms[1](x))))
        return self.head(self.norms[2](x)[:, 0])


class Encoder(nn.Module):
    """PyTorch's own transformer encoder over windows of samples."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 6)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        return self.head(self.inner(window).mean(1))


class Shuffle(nn.Module):
    """Grouped convolutions, channel shuffle, squeeze-and-excite, hard swish, adaptive pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16),
                                  nn.Hardswish())
        self.group = nn.Sequential(nn.Conv2d(16, 16, 1, groups=4, bias=False), nn.BatchNorm2d(16))
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(),
                                     nn.Conv2d(4, 16, 1), nn.Hardsigmoid())
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2, bias=False), nn.BatchNorm2d(8),
                                nn.ReLU6())
        self.before = nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1))
        self.head = nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(),
                                  nn.Dropout(), nn.Linear(16, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        x = self.stem((image - 0.45) / 0.225)
        y = self.group(x)
        n, c, h, w = y.size()
        y = y.view(n, 4, c // 4, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        y = y * self.squeeze(y)
        left, right = (x + y).chunk(2, 1)
        x = self.before(self.up(torch.cat([left, right], 1)))
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def _networks() -> Dict[str, Callable[[], Tuple[nn.Module, torch.Tensor]]]:
    def backbone(name: str) -> Callable[[], Tuple[nn.Module, torch.Tensor]]:
        options = SIZES.get(name, {})
        return lambda: (BACKBONES[name](10, **options),
                        example_input(name, batch=1, **{k: v for k, v in options.items()
                                                        if k == 'edge'}))
    found = {name: backbone(name) for name in (
        'resnet18', 'vgg16', 'mobilenet_v2', 'motion_cnn', 'spectrogram_cnn',
        'vision_transformer')}
    found['detector'] = lambda: (Detector(), torch.zeros(1, 3, 64, 64))
    found['packed_attention'] = lambda: (PackedAttention(), torch.zeros(1, 3, 32, 32))
    found['encoder'] = lambda: (Encoder(), torch.zeros(1, 24, 32))
    found['shuffle'] = lambda: (Shuffle(), torch.zeros(2, 3, 32, 32))
    return found


def settle(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """
    Give normalisations gains of their own and the statistics of random inputs, as training would.

    :param example: of the inputs' shape
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for module in norms:
        nn.init.uniform_(module.weight, 0.7, 1.3)
        nn.init.uniform_(module.bias, -0.2, 0.2)
        module.reset_running_stats()
        module.momentum = None  # the mean over all batches
    network.train()
    with torch.no_grad():
        for _ in range(BATCHES if norms else 0):
            network(torch.randn(8, *example.shape[1:]))
    return network.eval()


def export(network: nn.Module, example: torch.Tensor, mode: str, *, dynamic: bool = False
           ) -> onnx.ModelProto:
    """
    Export a network with the tracing exporter.

    :param mode: 'inference' folds constants and normalisations, 'preserve' exports the evaluated
        network as it stands, 'training' the training one
    :param dynamic: leave the batch open
    """
    network.train(mode == 'training')
    training = {'inference': torch.onnx.TrainingMode.EVAL,
                'preserve': torch.onnx.TrainingMode.PRESERVE,
                'training': torch.onnx.TrainingMode.TRAINING}[mode]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(network, (example,), buffer, dynamo=False, opset_version=OPSET,
                          training=training, do_constant_folding=mode == 'inference',
                          input_names=['input'],
                          dynamic_axes={'input': {0: 'batch'}} if dynamic else None)
    return onnx.load_model_from_string(buffer.getvalue())


def torch_models() -> List[Tuple[str, onnx.ModelProto]]:
    """Return each network in each mode, some with an open batch."""
    found = []
    for name, build in _networks().items():
        torch.manual_seed(SEED)
        network, example = build()
        settle(network, example)
        for mode in MODES:
            found.append(('torch/%s/%s' % (name, mode), export(network, example, mode)))
        found.append(('torch/%s/open_batch' % name,
                      export(network, example, 'inference', dynamic=True)))
    return found
