"""One stage from its first or its last step to its end: the same for all stages.

Every random draw of a step is a function of (seed, stage, step, rank), so that a stage that was stopped goes on to the
same numbers without any generator's state being kept. Signals take effect between steps.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from slic_cli.errors import BadModelFile
from slic_cli.training.average import Average
from slic_cli.training.checkpoint import load_checkpoint, save_checkpoint
from slic_cli.training.objectives import Terms
from slic_cli.training.optimiser import make_optimiser
from slic_cli.training.precision import Context
from slic_cli.training.recipe import StageTable
from slic_cli.training.reporting import Reporter
from slic_cli.training.schedule import Clock, Plateau, learning_rate
from slic_cli.training.validation import Validation
from slic_cli.training.world import World

_REPORT_SECONDS = 2.0  # between two looks at the loss: each makes a GPU wait


class Stage(Protocol):
    """What a stage brings: its network, its loss, and what it is measured by."""

    @property
    def name(self) -> str:
        """Of the recipe's table."""

    @property
    def table(self) -> StageTable:
        """The recipe's table."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What a checkpoint must agree with, and the seed."""

    @property
    def trained(self) -> nn.Module:
        """The network whose state a checkpoint keeps."""

    @property
    def objective(self) -> nn.Module:
        """(crops, draw, progress) -> Terms."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups; "rate" in one multiplies the learning rate."""

    def batch(self, draw: random.Random, count: int) -> Tensor:
        """Crops (count, 3, h, w) in [0, 1] on the device."""

    def validate(self) -> Validation:
        """Measure what was trained."""


@dataclass
class State:
    """Everything that changes while a stage runs, besides the network."""

    optimiser: torch.optim.Optimizer
    average: Average
    clock: Clock
    plateau: Plateau
    validated: float = -1.0  # progress or minutes of the last validation, in the budget's unit
    finished: bool = False


def run_stage(stage: Stage, path: Path, world: World, report: Reporter, context: Context, resume: bool) -> None:
    """Train a stage to the end of its budget, keeping a checkpoint at `path`.

    A signal that stops it takes effect when it is saved. Raises BadModelFile, OutputError.
    """
    state = _begin(stage, path, world, resume)
    report.rewind(stage.name, state.clock.step)
    if state.finished:
        state.average.settle()
        return
    objective = world.wrap(stage.objective)
    share = world.share(stage.table.batch)
    with _stoppable() as stopped:
        _validate_if_due(stage, state, world, report)
        saved = reported = time.monotonic()
        state.clock.skip()
        while not _is_over(state):
            terms = _step(stage, objective, state, world, share, context)
            now = time.monotonic()
            if now - reported > _REPORT_SECONDS:
                reported = now
                _report_step(stage, state, terms, world, report)
            _validate_if_due(stage, state, world, report)
            if world.agree([float(bool(stopped))])[0]:
                break
            if now - saved > 60 * stage.table.checkpoint_minutes:
                saved = now
                _save(stage, state, path, world)
        state.finished = _is_over(state)
        if state.finished:
            _validate(stage, state, world, report)
        _save(stage, state, path, world)
    state.average.settle()
    if not state.finished:
        signal.raise_signal(stopped[0] if stopped else signal.SIGINT)
        raise KeyboardInterrupt  # whoever handles the signal did not end the run, but the stage has ended


def _is_over(state: State) -> bool:
    return state.clock.progress >= 1 or state.plateau.stopped


def _begin(stage: Stage, path: Path, world: World, resume: bool) -> State:
    optimiser = make_optimiser(stage.table, stage.parameter_groups(), world.device)
    state = State(optimiser, Average(stage.trained, stage.table.average), Clock(stage.table), Plateau())
    if not (resume and path.exists()):
        return state
    content = load_checkpoint(path, stage.identity)
    expected, got = stage.table.optimiser, content.get("by", "adam")
    if got != expected:
        raise BadModelFile(f"{path}: expected a checkpoint by the optimiser {expected}, got one by {got}")
    stage.trained.load_state_dict(content.get("at_step") or content["network"])
    state.average.load_state_dict(content["network"])
    optimiser.load_state_dict(content["optimiser"])
    state.clock = Clock(stage.table, content["step"], content["seconds"])
    state.plateau = Plateau(**content["plateau"])
    state.validated, state.finished = content["validated"], content["finished"] and state.clock.progress >= 1
    return state


def _save(stage: Stage, state: State, path: Path, world: World) -> None:
    if not world.leads:
        return
    content = {
        "identity": dict(stage.identity),
        "network": state.average.state_dict(),
        "at_step": stage.trained.state_dict() if stage.table.average else {},
        "by": stage.table.optimiser,
        "optimiser": state.optimiser.state_dict(),
        "step": state.clock.step,
        "seconds": state.clock.seconds,
        "plateau": state.plateau.state(),
        "validated": state.validated,
        "finished": state.finished,
    }
    save_checkpoint(path, content)
    state.clock.skip()


def _step(stage: Stage, objective: nn.Module, state: State, world: World, share: int, context: Context) -> Terms:
    table, clock = stage.table, state.clock
    seed = f"{stage.identity['seed']} {stage.name} {clock.step} {world.rank}"
    draw = random.Random(seed)
    torch.manual_seed(draw.getrandbits(63))
    rate = learning_rate(table, clock, state.plateau)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group["rate"]
    with context():
        terms: Terms = objective(stage.batch(draw, share), draw, clock.progress)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(terms.loss)
    clipped = [p for group in state.optimiser.param_groups if group["clipped"] for p in group["params"]]
    nn.utils.clip_grad_norm_(clipped, table.clip)
    state.optimiser.step()
    clock.tick()
    state.average.update(clock.step)
    if world.size > 1:
        clock.seconds = world.agree([clock.seconds])[0]
    return terms


def _report_step(stage: Stage, state: State, terms: Terms, world: World, report: Reporter) -> None:
    if world.leads:
        report.step(stage.name, state.clock, {key: value.item() for key, value in terms.figures.items()})


def _validate_if_due(stage: Stage, state: State, world: World, report: Reporter) -> None:
    table, clock = stage.table, state.clock
    every = table.validate_steps
    position = float(clock.step) if every else clock.seconds / 60
    if state.validated < 0 or position - state.validated >= (every or table.validate_minutes):
        state.validated = position
        _validate(stage, state, world, report)


def _validate(stage: Stage, state: State, world: World, report: Reporter) -> None:
    loss = 0.0
    if world.leads:
        with state.average.shown():
            validation = stage.validate()
        loss = validation.loss
        report.validation(stage.name, state.clock, validation)
    state.plateau.observe(world.agree([loss])[0], stage.table)
    state.clock.skip()


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Hold Ctrl-C and SIGTERM back until the step is done; a second one acts at once. Ignored ones stay ignored."""
    stopped: list[int] = []
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    held = [number for number, handler in old.items() if handler is not signal.SIG_IGN]

    def hold(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, old[signal.Signals(number)])
        stopped.append(number)

    try:
        for number in held:
            signal.signal(number, hold)
        yield stopped
    finally:
        for number in held:
            signal.signal(number, old[number])
