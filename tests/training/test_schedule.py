"""Progress through a budget, and the learning rate along it."""

from __future__ import annotations

import math

import pytest

from slic_cli.training.recipe import BaseTable
from slic_cli.training.schedule import Clock, Plateau, learning_rate


def rates(table: BaseTable, steps: list[int]) -> list[float]:
    return [learning_rate(table, Clock(table, step), Plateau()) for step in steps]


def test_cosine_warms_up_holds_and_falls() -> None:
    table = BaseTable(steps=1000, learning_rate=1.0, warmup_steps=100, hold=0.4)
    warm, half, held, middle, end = rates(table, [0, 49, 400, 700, 1000])
    assert (warm, half, held) == (0.01, 0.5, 1.0)
    assert middle == pytest.approx(0.51)
    assert end == pytest.approx(0.02)


def test_plateau_decays_and_stops() -> None:
    table = BaseTable(steps=10, schedule="plateau", patience=2, stop_after=4, decay=0.5, learning_rate=1.0)
    plateau = Plateau()
    seen = []
    for loss in (3.0, 2.0, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0):
        plateau.observe(loss, table)
        seen.append((plateau.factor, plateau.stopped))
    factors = [factor for factor, _ in seen]
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert [stopped for _, stopped in seen] == [False] * 8 + [True]
    assert Plateau(**plateau.state()) == plateau  # type: ignore[arg-type]
    assert learning_rate(table, Clock(table, 500), plateau) == 0.125


def test_cosine_ignores_the_plateau() -> None:
    table, plateau = BaseTable(steps=10, patience=1, stop_after=1), Plateau()
    assert plateau.observe(1.0, table)
    assert not plateau.observe(2.0, table)
    assert (plateau.factor, plateau.stopped, plateau.best) == (1.0, False, 1.0)


def test_minutes_count_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("slic_cli.training.schedule.time.monotonic", lambda: now[0])
    clock = Clock(BaseTable(minutes=1.0))
    assert math.isnan(clock.seconds_left)
    now[0] += 6
    clock.tick()
    assert clock.progress == 0.1 and clock.seconds_left == pytest.approx(54)
    now[0] += 500  # the machine slept
    clock.tick()
    assert clock.seconds == 16
    now[0] += 5
    clock.skip()  # a validation
    now[0] += 2
    clock.tick()
    assert (clock.seconds, clock.step) == (18, 3)
