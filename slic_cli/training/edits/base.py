"""What all edits share: how they are called, and how their fields are declared and checked."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from slic_cli.errors import UsageError

Network = Callable[[Tensor], Tensor]  # pictures to pictures of the same shape


def span(low: float, high: float, minimum: float, maximum: float, whole: bool = False) -> Any:
    """A field of two numbers in order, the range that a strength is drawn from; within [minimum, maximum]."""

    def check(value: object) -> tuple[float, float]:
        number = int if whole else (int, float)
        numbers = list(value) if isinstance(value, list | tuple) else []
        if len(numbers) == 2 and all(isinstance(n, number) and not isinstance(n, bool) for n in numbers):
            first, last = numbers
            if minimum <= first <= last <= maximum:
                return first, last
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"expected two {kind} in order, {minimum:g} to {maximum:g}, got {value!r}")

    return field(default=(low, high), metadata={"check": check})


def number(default: float, minimum: float) -> Any:
    """A field of one finite number, at least `minimum`."""

    def check(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and minimum <= value < math.inf:
            return value
        raise ValueError(f"expected a number, {minimum:g} or more, got {value!r}")

    return field(default=default, metadata={"check": check})


def choice(default: object, *allowed: object) -> Any:
    """A field that is one of a few values."""

    def check(value: object) -> object:
        if value in allowed and not isinstance(value, bool):
            return value
        raise ValueError(f"expected one of {', '.join(map(repr, allowed))}, got {value!r}")

    return field(default=default, metadata={"check": check})


def choices(default: tuple[object, ...], *allowed: object) -> Any:
    """A field that lists some of a few values, to draw one from; a value listed twice is drawn twice as often."""

    def check(value: object) -> tuple[object, ...]:
        if isinstance(value, list | tuple) and value and all(v in allowed and not isinstance(v, bool) for v in value):
            return tuple(value)
        raise ValueError(f"expected a list of some of {', '.join(map(repr, allowed))}, got {value!r}")

    return field(default=default, metadata={"check": check})


def text(default: str) -> Any:
    """A field that is text, such as the path of a file."""

    def check(value: object) -> str:
        if isinstance(value, str):
            return value
        raise ValueError(f"expected text, got {value!r}")

    return field(default=default, metadata={"check": check})


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A differentiable edit of random strength; its fields say what is drawn, `weight` how often the attacker picks it.

    Raises UsageError for fields out of range.
    """

    name: ClassVar[str]
    full_precision: ClassVar[bool] = True  # bfloat16 would do more to the pixels than most edits do
    weight: float = number(1.0, 0)

    def __post_init__(self) -> None:
        for f in fields(self):
            if "check" in f.metadata:
                try:
                    object.__setattr__(self, f.name, f.metadata["check"](getattr(self, f.name)))
                except ValueError as error:
                    raise UsageError(f"edit {self.name}, {f.name}: {error}") from None

    def __call__(self, x: Tensor, draw: random.Random) -> Tensor:
        """Edit float32 pictures (n, 3, h, w) in [0, 1], alike in one call: the same shape and range, not rounded.

        Numbers come from `draw`, dense noise from torch's generator. Works in float32 under autocast, too, where
        `full_precision`.
        """
        with torch.autocast(x.device.type, enabled=False) if self.full_precision else nullcontext():
            return self.edited(x, draw).clamp(0, 1)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        """The edit itself, free to leave [0, 1]."""
        raise NotImplementedError
