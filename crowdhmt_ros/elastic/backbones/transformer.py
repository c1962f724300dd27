# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A small vision transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words").

Blocks normalise before each half, and the classes are read from the mean of all tokens instead of
an extra token. Queries, keys, values and outputs are linear layers of their own, so that each can
be scaled alone (P III-A1). Input (B, 3, edge, edge), output (B, classes).
"""
from __future__ import annotations

import torch
import torch.fx
from torch import nn

from crowdhmt_ros.elastic.backbones.initialise import check_counts
from crowdhmt_ros.errors import ConfigError


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, head_size: int) -> torch.Tensor:
    """
    Let each token gather the values of all tokens, head by head.

    As many heads as the last axis holds: the same function serves layers of fewer heads. Tracing
    by torch.fx keeps it as one call.

    :param q: queries (B, N, heads * head_size)
    :param k: keys, of the same shape
    :param v: values, of the same shape
    :param head_size: channels of one head
    :returns: gathered values (B, N, heads * head_size)
    """
    shape = q.shape
    q, k, v = (_split_heads(x, head_size) for x in (q, k, v))
    weights: torch.Tensor = (q * head_size ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(shape)  # weights: (B, heads, N, N)


torch.fx.wrap('attend')


class Attention(nn.Module):
    """Self-attention: (B, N, width) to (B, N, width)."""

    def __init__(self, width: int, heads: int, head_size: int) -> None:
        """
        Build an untrained layer.

        :param width: channels of a token
        :param heads: gathered side by side
        :param head_size: channels of one head
        """
        super().__init__()
        self.head_size = head_size
        self.q = nn.Linear(width, heads * head_size)
        self.k = nn.Linear(width, heads * head_size)
        self.v = nn.Linear(width, heads * head_size)
        self.out = nn.Linear(heads * head_size, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what each token gathers."""
        y: torch.Tensor = self.out(attend(self.q(x), self.k(x), self.v(x), self.head_size))
        return y


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each beside a shortcut: (B, N, width) to the same."""

    def __init__(self, width: int, heads: int, head_size: int, ratio: float) -> None:
        """
        Build an untrained block.

        :param ratio: hidden units of the feed-forward layer, as a multiple of the width
        """
        super().__init__()
        hidden = int(width * ratio)
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_size)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(),
                                          nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens of the next block."""
        x = x + self.attention(self.norm1(x))
        y: torch.Tensor = x + self.feed_forward(self.norm2(x))
        return y


class VisionTransformer(nn.Module):
    """Patches to tokens, blocks, the mean over tokens, one linear layer."""

    def __init__(self, classes: int, tokens: int, patch: int, width: int, depth: int,
                 heads: int, head_size: int, ratio: float) -> None:
        """
        Build an untrained network; see `vision_transformer`.

        :param tokens: patches of an image
        """
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads, head_size, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)
        self._draw()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of the classes, before softmax: (B, classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        scores: torch.Tensor = self.classifier(self.norm(self.blocks(tokens)).mean(1))
        return scores

    def _draw(self) -> None:
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.kaiming_normal_(self.patches.weight, nonlinearity='linear')
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
            if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)


def vision_transformer(classes: int, *, edge: int = 32, patch: int = 4, width: int = 192,
                       heads: int = 3, head_size: int = 64, depth: int = 8,
                       ratio: float = 2.0) -> nn.Module:
    """
    Build a small vision transformer, untrained.

    :param classes: outputs
    :param edge: pixels of the square input, a multiple of the patch
    :param patch: pixels of the square that becomes a token
    :param width: channels of a token
    :param heads: of each attention layer
    :param head_size: channels of one head
    :param depth: blocks
    :param ratio: hidden units of the feed-forward layers, as a multiple of the width
    :raises ConfigError: a count below 1, or an edge that is no multiple of the patch
    """
    check_counts(classes=classes, edge=edge, patch=patch, width=width, heads=heads,
                 head_size=head_size, depth=depth, hidden=int(width * ratio))
    if edge % patch:
        raise ConfigError('edge is %d: give a multiple of the patch, which is %d pixels'
                          % (edge, patch))
    return VisionTransformer(classes, (edge // patch) ** 2, patch, width, depth, heads,
                             head_size, ratio)


def _split_heads(x: torch.Tensor, head_size: int) -> torch.Tensor:
    """Return (B, heads, N, head_size); reshape exports to fewer ONNX nodes than unflatten."""
    return x.reshape(x.shape[0], x.shape[1], -1, head_size).transpose(1, 2)
