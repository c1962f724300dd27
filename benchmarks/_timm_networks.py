# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Networks of the timm package, to show that strangers' networks become elastic.

timm asks for torchvision when it is imported, of which its networks use nothing but a class to
compare with. Where torchvision is absent (there is no build of it for every torch) an empty
stand-in answers these imports.
"""
from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any, Optional, Sequence

from torch import nn


class _Member(type):
    """A class that has whatever attribute it is asked for: the name of it."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith('__'):
            raise AttributeError(name)
        return name


class _Empty(ModuleType):
    """A module in which every name is an empty class."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _Member(name, (), {})


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of torchvision."""

    def find_spec(self, fullname: str, path: Any, target: Optional[ModuleType] = None
                  ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname.split('.')[0] != 'torchvision':
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


def timm_network(name: str, classes: int, **options: Any) -> nn.Module:
    """
    Make an untrained network of timm.

    :param options: of timm's builder

    :raises ModuleNotFoundError: timm is not installed
    """
    if importlib.util.find_spec('torchvision') is None:
        sys.meta_path.append(_StandIn())
    import timm
    network: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=classes, **options)
    return network
