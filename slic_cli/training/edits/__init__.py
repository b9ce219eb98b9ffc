"""The differentiable edits that the noise attacker draws from, by the names recipes give them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from torch import Tensor

from slic_cli.errors import UsageError
from slic_cli.training.edits.base import Edit, Network
from slic_cli.training.edits.compression import Codec, Jpeg, Webp
from slic_cli.training.edits.filters import Blur, Median, Noise, Sharpen, Unedited
from slic_cli.training.edits.geometry import Affine, Resample, Resize, Shift, Turn
from slic_cli.training.edits.tone import Darken, Equalize, Lighten

__all__ = ["EDITS", "Chain", "Edit", "LoadCodec", "Network", "Shift", "make_edit"]

LoadCodec = Callable[[str], Network]  # the codec of that name or path, on the device where it will run


@dataclass(frozen=True, kw_only=True)
class Chain(Edit):
    """Two different edits of `edits`, drawn by their weights, one after the other."""

    name: ClassVar[str] = "chain"
    edits: tuple[Edit, ...] = field(default=(Blur(), Resample(), Jpeg(), Lighten(), Shift()))

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(edit.weight > 0 for edit in self.edits) < 2:
            raise UsageError(f"edit chain, edits: expected two or more of positive weight, got {len(self.edits)}")

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        first = draw_edit(self.edits, draw)
        second = draw_edit([edit for edit in self.edits if edit is not first], draw)
        return second(first(x, draw), draw)


def draw_edit(edits: Sequence[Edit], draw: random.Random) -> Edit:
    """One of the edits, by their weights."""
    return draw.choices(edits, [edit.weight for edit in edits])[0]


_KINDS: tuple[type[Edit], ...] = (
    *(Unedited, Blur, Affine, Jpeg, Resize, Resample, Median, Shift, Lighten, Darken),
    *(Sharpen, Equalize, Webp, Noise, Turn, Codec, Chain),
)
EDITS: dict[str, type[Edit]] = {kind.name: kind for kind in _KINDS}


def make_edit(table: Mapping[str, object], load_codec: LoadCodec | None = None) -> Edit:
    """The edit that a recipe's table asks for, such as {name = "blur", weight = 1.0, variance = [0.1, 1.5]}.

    `load_codec` serves the edits named codec. A chain's `edits` are such tables themselves. Raises UsageError.
    """
    values = dict(table)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in EDITS:
        raise UsageError(f"an edit's name: expected one of {', '.join(EDITS)}, got {name!r}")
    kind = EDITS[name]
    known = [f.name for f in fields(kind) if f.name != "network"]
    for key in values:
        if key not in known:
            raise UsageError(f"edit {name}: expected the keys {', '.join(known)}, got {key!r}")
    made: dict[str, Any] = values
    if kind is Chain and "edits" in made:
        made["edits"] = _chained(made["edits"], load_codec)
    if kind is Codec and load_codec is not None:
        made["network"] = load_codec(str(made.get("model", "")))
    return kind(**made)


def _chained(tables: object, load_codec: LoadCodec | None) -> tuple[Edit, ...]:
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise UsageError(f"edit chain, edits: expected a list of tables, got {tables!r}")
    return tuple(make_edit(table, load_codec) for table in tables)
