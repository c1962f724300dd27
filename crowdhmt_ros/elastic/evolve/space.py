# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A family's space: per stage the options, and which exit answers (E5)."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Dict, Iterable, Tuple

import numpy as np

from crowdhmt_ros.elastic.evolve.combine import Choices
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant

Genome = Tuple[int, ...]
"""Exit, then per stage the number of its option; 0 for stages behind the exit."""


@dataclass(frozen=True)
class Option:
    """
    What the operators do to a stage.

    :param choices: in the order in which they are applied
    :param stride: by which it divides the resolution
    :param macs: of the network whose other stages are whole
    :param words: of that network's weights
    """

    choices: Choices
    stride: int
    macs: int
    words: int

    @property
    def operators(self) -> Tuple[str, ...]:
        """Names of the operators."""
        return tuple(c.operator for c in self.choices)


@dataclass(frozen=True)
class Space:
    """
    Variants of a network.

    :param stages: per stage its options, from dear to cheap; the first one does nothing
    :param exits: per exit the number of stages before it
    :param finest: per stage the smallest extent of its result; strides multiply up to it
    """

    stages: Tuple[Tuple[Option, ...], ...]
    exits: Tuple[int, ...]
    finest: Tuple[int, ...]

    @cached_property
    def size(self) -> int:
        """Number of genomes that are valid, exactly."""
        total, factors = 0, {1: 1}
        after = [1]
        for index in range(len(self.stages)):
            factors = self._advanced(factors, index)
            after.append(sum(factors.values()))
        for used in self.exits:
            total += after[used]
        return total

    def _advanced(self, factors: Dict[int, int], index: int) -> Dict[int, int]:
        """Count the ways to divide the resolution by each factor after one more stage."""
        found: Dict[int, int] = {}
        for factor, ways in factors.items():
            for option in self.stages[index]:
                if factor * option.stride <= self.finest[index]:
                    key = factor * option.stride
                    found[key] = found.get(key, 0) + ways
        return found

    @property
    def extents(self) -> Tuple[int, ...]:
        """Per gene the number of its values."""
        return (len(self.exits), *map(len, self.stages))

    @cached_property
    def whole(self) -> Genome:
        """Genome of the backbone itself."""
        return (len(self.exits) - 1, *(0,) * len(self.stages))

    @property
    def ends(self) -> Tuple[Genome, ...]:
        """Genomes of the backbone up to each exit, the whole one first."""
        stages = (0,) * len(self.stages)
        return tuple((number, *stages) for number in reversed(range(len(self.exits))))

    def variant(self, genome: Genome) -> Variant:
        """
        Return the variant that a genome describes.

        :raises ExportError: it describes none
        """
        if len(genome) != len(self.extents) or not all(
                0 <= gene < extent for gene, extent in zip(genome, self.extents)):
            raise ExportError('genome %s does not fit; a gene counts up to %s'
                              % (list(genome), [e - 1 for e in self.extents]))
        used = self.exits[genome[0]]
        return Variant(tuple(self.stages[i][genome[i + 1]].choices for i in range(used)),
                       genome[0])

    def genome(self, variant: Variant) -> Genome:
        """
        Return the genome of a variant.

        :raises ExportError: the space does not hold it
        """
        exit_index = variant.exit_index
        if not 0 <= exit_index < len(self.exits) or len(variant.stages) != self.exits[exit_index]:
            raise ExportError('the space has no variant of %d stages that ends at exit %d'
                              % (len(variant.stages), exit_index))
        genes = [exit_index]
        for index, choices in enumerate(variant.stages):
            if choices not in self._numbers[index]:
                raise ExportError('the space has no option %s of stage %d'
                                  % ([c.operator for c in choices], index))
            genes.append(self._numbers[index][choices])
        found = (*genes, *(0,) * (len(self.stages) - len(variant.stages)))
        if self.repaired(found) != found:
            raise ExportError('the strides of this variant divide the resolution too far')
        return found

    @cached_property
    def _numbers(self) -> Tuple[Dict[Choices, int], ...]:
        return tuple({o.choices: i for i, o in enumerate(options)} for options in self.stages)

    def __contains__(self, variant: object) -> bool:
        """Whether the space holds a variant, as it is described."""
        if not isinstance(variant, Variant):
            return False
        try:
            self.genome(variant)
        except ExportError:
            return False
        return True

    def random(self, rng: np.random.Generator) -> Genome:
        """Draw an exit and options; each is as likely as the others."""
        return self.repaired(tuple(int(rng.integers(0, e)) for e in self.extents))

    def repaired(self, genome: Iterable[int]) -> Genome:
        """
        Return the genome that is valid and nearest; each valid variant has one.

        Stages behind the exit have option 0. Where strides divide the resolution too far, the
        next dearer option with a smaller stride takes the place.
        """
        genes, factor = list(genome), 1
        used = self.exits[genes[0]]
        for index, options in enumerate(self.stages):
            if index >= used:
                genes[index + 1] = 0
                continue
            limit = min(self.finest[index:used])
            while factor * options[genes[index + 1]].stride > limit:
                genes[index + 1] -= 1
            factor *= options[genes[index + 1]].stride
        return tuple(genes)
