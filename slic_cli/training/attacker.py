"""The noise attacker: which pictures of a batch are edited, and how, drawn anew each step (Huang & Wu 2025)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slic_cli.errors import UsageError
from slic_cli.training.edits import Edit, Shift, draw_edit
from slic_cli.training.rounding import to_eight_bits

CLEAN = "clean"  # the name of pictures left as they were; "none" is an edit and may come with a shift


@dataclass(frozen=True)
class AttackedBatch:
    """The edited batch: `pictures` (n, 3, h, w), 8-bit values in [0, 1], in the order of the batch that was attacked.

    `groups` are the name of the edit, or CLEAN, and the number of pictures of each group, in that order.
    """

    pictures: Tensor
    groups: tuple[tuple[str, int], ...]

    @property
    def clean(self) -> int:
        """How many pictures, all of them at the beginning, were left alone."""
        return sum(count for name, count in self.groups if name == CLEAN)

    def by_name(self, values: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each name once, with the entries of `values` (n, ...) that belong to its pictures."""
        parts = torch.split(values, [count for _, count in self.groups])
        for name in dict.fromkeys(name for name, _ in self.groups):
            own = [part for part, (other, _) in zip(parts, self.groups, strict=True) if other == name]
            yield name, torch.cat(own)


class Attacker:
    """Edits the batches given to it: `clean_share` of each is left alone, the rest edited `group` pictures at a time.

    A group is moved by up to 15 pixels with probability `shift_probability`, then edited by one of `edits`, drawn by
    weight. Raises UsageError for numbers out of range or edits that cannot be drawn.
    """

    def __init__(self, edits: Sequence[Edit], clean_share: float, shift_probability: float, group: int) -> None:
        for name, share in (("clean_share", clean_share), ("shift", shift_probability)):
            if not 0 <= share <= 1:
                raise UsageError(f"attacker, {name}: expected 0 to 1, got {share!r}")
        if group < 1:
            raise UsageError(f"attacker, group: expected 1 or more, got {group!r}")
        if clean_share < 1 and not any(edit.weight > 0 for edit in edits):
            raise UsageError(f"attacker, edits: expected one or more of positive weight, got {len(edits)} without")
        self._edits = tuple(edits)
        self._clean_share, self._shift_probability, self._group = clean_share, shift_probability, group
        self._shift = Shift()

    def __call__(self, x1: Tensor, draw: random.Random) -> AttackedBatch:
        """Attack first decodes, float32 (n, 3, h, w) in [0, 1]; all gradients reach them, through the rounding, too."""
        clean = self._clean_count(len(x1), draw)
        pictures, groups = [x1[:clean]], [(CLEAN, clean)] if clean else []
        for part in torch.split(x1[clean:], self._group) if clean < len(x1) else ():
            name, edited = self._attack(part, draw)
            pictures.append(edited)
            groups.append((name, len(part)))
        return AttackedBatch(to_eight_bits(torch.cat(pictures)), tuple(groups))

    def _clean_count(self, count: int, draw: random.Random) -> int:
        """`clean_share` of `count`, rounded at random so that small batches get it on average."""
        return min(count, int(self._clean_share * count + draw.random()))

    def _attack(self, x: Tensor, draw: random.Random) -> tuple[str, Tensor]:
        if draw.random() < self._shift_probability:
            x = self._shift(x, draw)
        edit = draw_edit(self._edits, draw)
        return edit.name, edit(x, draw)
