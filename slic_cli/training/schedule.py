"""How far a stage is, and the learning rate that goes with it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

from slic_cli.training.recipe import StageTable

_FLOOR = 0.02  # of the learning rate, at the end of the cosine
_LONGEST_STEP_SECONDS = 10.0  # a machine that slept, or a process that was stopped, has not trained meanwhile


class Clock:
    """Counts steps and the seconds spent training, over all sittings."""

    def __init__(self, table: StageTable, step: int = 0, seconds: float = 0.0) -> None:
        self.step, self.seconds = step, seconds
        self._minutes, self._steps = table.minutes, table.steps
        self._last = time.monotonic()

    @property
    def progress(self) -> float:
        """The share of the budget that is used: 0 at the start, 1 or more when it is spent."""
        if self._steps is not None:
            return self.step / self._steps
        return self.seconds / (60 * (self._minutes or math.inf))

    @property
    def seconds_left(self) -> float:
        """Of training, going by what was needed so far; NaN before anything was."""
        if not self.progress:
            return math.nan
        return self.seconds / self.progress * max(0.0, 1 - self.progress)

    def skip(self) -> None:
        """What has passed since the last tick was no training: it does not count."""
        self._last = time.monotonic()

    def tick(self, steps: int = 1) -> None:
        """`steps` more have been done."""
        now = time.monotonic()
        self.seconds += min(now - self._last, _LONGEST_STEP_SECONDS)
        self._last = now
        self.step += steps


@dataclass
class Plateau:
    """The paper's schedule: the factor falls when validation stops improving, and training ends when it stays so."""

    factor: float = 1.0
    best: float = math.inf
    since_best: int = 0
    since_decay: int = 0
    stopped: bool = False

    def observe(self, loss: float, table: StageTable) -> bool:
        """Take a validation loss; True if it is the best so far."""
        better = loss < self.best
        self.best = min(self.best, loss)
        self.since_best = 0 if better else self.since_best + 1
        self.since_decay = 0 if better else self.since_decay + 1
        if table.schedule == "plateau" and self.since_decay >= table.patience:
            self.factor, self.since_decay = self.factor * table.decay, 0
        self.stopped = table.schedule == "plateau" and self.since_best >= table.stop_after
        return better

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return asdict(self)


def learning_rate(table: StageTable, clock: Clock, plateau: Plateau) -> float:
    """Warm-up, then what the recipe's schedule says."""
    rate = table.learning_rate * min(1.0, (clock.step + 1) / max(1, table.warmup_steps))
    if table.schedule == "plateau":
        return rate * plateau.factor
    falling = max(0.0, clock.progress - table.hold) / max(1e-9, 1 - table.hold)
    return rate * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, falling))))
