"""Stopping and going on: interrupted runs equal uninterrupted ones, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

pytest.importorskip("compressai")

from small import RECIPE, run

from slic_cli.errors import BadModelFile, OutputError
from slic_cli.registry import read_spec
from slic_cli.training import loop


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C acts, even where the tests run in the background and were started with it ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def network(out: Path, stage: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(out / f"{stage}.ckpt", weights_only=True)["network"]
    return state


def interrupt_after(steps: int, number: int = signal.SIGINT) -> Any:
    """A patch under which the process gets a signal in the middle of that step."""
    taken = [0]
    step = loop._step

    def with_signal(*arguments: Any) -> Any:
        taken[0] += 1
        if taken[0] == steps:
            os.kill(os.getpid(), number)
        return step(*arguments)

    return patch.object(loop, "_step", with_signal)


def test_two_interruptions_change_nothing(photograph_folder: Path, tmp_path: Path) -> None:
    run(photograph_folder, tmp_path / "whole")
    with interrupt_after(2), pytest.raises(KeyboardInterrupt):  # in base
        run(photograph_folder, tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / "base.ckpt", weights_only=True)["step"] == 2
    with interrupt_after(3), pytest.raises(KeyboardInterrupt):  # one step of base, two of slic
        run(photograph_folder, tmp_path / "parts", resume=True)
    assert torch.load(tmp_path / "parts" / "slic.ckpt", weights_only=True)["step"] == 2
    run(photograph_folder, tmp_path / "parts", resume=True)
    for stage in ("base", "slic"):
        whole, parts = network(tmp_path / "whole", stage), network(tmp_path / "parts", stage)
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    digests = {read_spec(tmp_path / out / "small-mse-q4.safetensors").digest for out in ("whole", "parts")}
    assert len(digests) == 1


def test_means_of_weights_survive_an_interruption(photograph_folder: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("steps = 3", "steps = 3\naverage = 0.9")
    run(photograph_folder, tmp_path / "whole", text, stages=("base",))
    with interrupt_after(2), pytest.raises(KeyboardInterrupt):
        run(photograph_folder, tmp_path / "parts", text, stages=("base",))
    run(photograph_folder, tmp_path / "parts", text, stages=("base",), resume=True)
    run(photograph_folder, tmp_path / "last", stages=("base",))
    whole, parts, last = (network(tmp_path / out, "base") for out in ("whole", "parts", "last"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    content = torch.load(tmp_path / "whole" / "base.ckpt", weights_only=True)["at_step"]
    assert all(torch.equal(content[name], last[name]) for name in last)  # the steps are the same with and without
    assert not torch.equal(whole["net.g_a.0.weight"], last["net.g_a.0.weight"])
    digests = {read_spec(tmp_path / out / "small-mse-q4.safetensors").digest for out in ("whole", "parts")}
    assert len(digests) == 1


def test_soap_goes_on_where_it_was_stopped(photograph_folder: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("steps = 3", 'steps = 3\noptimiser = "soap"')
    run(photograph_folder, tmp_path / "whole", text, stages=("base",))
    with interrupt_after(2), pytest.raises(KeyboardInterrupt):
        run(photograph_folder, tmp_path / "parts", text, stages=("base",))
    with pytest.raises(BadModelFile, match="expected a checkpoint by the optimiser adam, got one by soap"):
        run(photograph_folder, tmp_path / "parts", stages=("base",), resume=True)
    run(photograph_folder, tmp_path / "parts", text, stages=("base",), resume=True)
    run(photograph_folder, tmp_path / "adam", stages=("base",))
    whole, parts, adam = (network(tmp_path / out, "base") for out in ("whole", "parts", "adam"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not torch.equal(whole["net.g_a.0.weight"], adam["net.g_a.0.weight"])


def test_training_changes_the_network_and_the_seed_matters(photograph_folder: Path, tmp_path: Path) -> None:
    run(photograph_folder, tmp_path / "a", stages=("base",))
    run(photograph_folder, tmp_path / "b", RECIPE.replace("[data]", "[data]\nseed = 1"), stages=("base",))
    a, b = network(tmp_path / "a", "base"), network(tmp_path / "b", "base")
    assert not torch.equal(a["net.g_a.0.weight"], b["net.g_a.0.weight"])


def test_a_finished_stage_is_not_repeated(photograph_folder: Path, tmp_path: Path) -> None:
    run(photograph_folder, tmp_path / "out", stages=("base",))
    with patch.object(loop, "_step", side_effect=AssertionError):
        run(photograph_folder, tmp_path / "out", stages=("base",), resume=True)


def test_a_larger_budget_goes_on(photograph_folder: Path, tmp_path: Path) -> None:
    run(photograph_folder, tmp_path / "out", stages=("base",))
    longer = RECIPE.replace("steps = 3", "steps = 5")
    run(photograph_folder, tmp_path / "out", longer, stages=("base",), resume=True)
    assert torch.load(tmp_path / "out" / "base.ckpt", weights_only=True)["step"] == 5


def test_metrics_and_pictures(photograph_folder: Path, tmp_path: Path) -> None:
    run(photograph_folder, tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    rows = [(r["stage"], r["step"]) for r in records if r["kind"] == "validation"]
    assert rows == [("base", 0), ("base", 2), ("base", 3), ("slic", 0), ("slic", 4)]
    assert {"bpp", "psnr_db", "clean_db", "jpeg-85_db", "d_clean"} <= records[-1].keys()
    pictures = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert pictures == {f"{stage}-{step:07d}.png" for stage, step in rows}
    assert (tmp_path / "out" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_plateau_ends_a_stage_early(photograph_folder: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("steps = 3\n", 'steps = 50\nschedule = "plateau"\npatience = 1\nstop_after = 2\n')
    text = text.replace("validate_steps = 2", "validate_steps = 1\nlearning_rate = 0.3")
    run(photograph_folder, tmp_path / "out", text, stages=("base",))
    content = torch.load(tmp_path / "out" / "base.ckpt", weights_only=True)
    assert content["finished"] and content["step"] < 50
    assert content["plateau"]["stopped"] and content["plateau"]["factor"] < 1


def test_a_checkpoint_of_another_size_is_refused(photograph_folder: Path, tmp_path: Path) -> None:
    run(photograph_folder, tmp_path / "out", stages=("base",))
    wider = RECIPE.replace("n = 8", "n = 16")
    with pytest.raises(BadModelFile, match="expected a checkpoint with n 16, got 8"):
        run(photograph_folder, tmp_path / "out", wider, stages=("base",), resume=True)


def test_a_full_disk_loses_nothing(photograph_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photograph_folder, out, stages=("base",))
    longer = RECIPE.replace("steps = 3", "steps = 5")
    with (
        patch("slic_cli.files.os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OutputError, match="No space left"),
    ):
        run(photograph_folder, out, longer, stages=("base",), resume=True)
    assert torch.load(out / "base.ckpt", weights_only=True)["step"] == 3
    run(photograph_folder, out, longer, stages=("base",), resume=True)
    assert torch.load(out / "base.ckpt", weights_only=True)["step"] == 5


def test_sigterm_ends_a_run_after_saving(photograph_folder: Path, tmp_path: Path) -> None:
    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    old = signal.signal(signal.SIGTERM, end)
    try:
        with interrupt_after(2, signal.SIGTERM), pytest.raises(SystemExit) as ended:
            run(photograph_folder, tmp_path / "out", stages=("base",))
    finally:
        signal.signal(signal.SIGTERM, old)
    assert ended.value.code == 143
    assert torch.load(tmp_path / "out" / "base.ckpt", weights_only=True)["step"] == 2


def test_an_ignored_signal_stays_ignored(photograph_folder: Path, tmp_path: Path) -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt_after(2):
            run(photograph_folder, tmp_path / "out", stages=("base",))
    finally:
        signal.signal(signal.SIGINT, old)
    assert torch.load(tmp_path / "out" / "base.ckpt", weights_only=True)["step"] == 3
