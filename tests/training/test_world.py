"""Several processes under torchrun train one network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("compressai")

from small import RECIPE, run

from slic_cli.errors import UsageError
from slic_cli.training.world import World


def test_a_batch_is_shared_equally() -> None:
    world = World(0, 4, torch.device("cpu"))
    assert world.share(16) == 4
    with pytest.raises(UsageError, match="expected a multiple of 4 processes, got 6"):
        world.share(6)


def test_one_process_is_a_world_of_its_own() -> None:
    world = World(0, 1, torch.device("cpu"))
    module = torch.nn.Linear(1, 1)
    assert world.leads and world.agree([1.5]) == [1.5] and world.wrap(module) is module


def test_two_processes_under_torchrun(photograph_folder: Path, tmp_path: Path) -> None:
    """Each takes half of a batch of its own draws, and the gradients are averaged; rank 0 alone writes."""
    (tmp_path / "small.toml").write_text(RECIPE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "slic_cli"]
    arguments = ["train", "small.toml", "--data", str(photograph_folder), "--out", "two", "--no-register"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *arguments, "--precision", "fp32"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("validation at step 0") == 2  # one a stage: the second process is silent
    run(photograph_folder, tmp_path / "one", stages=("base",))
    states = [torch.load(tmp_path / out / "base.ckpt", weights_only=True) for out in ("one", "two")]
    assert states[0]["step"] == states[1]["step"] == 3
    one, two = (state["network"]["net.g_a.0.weight"] for state in states)
    assert torch.isfinite(two).all() and not torch.equal(one, two)
    assert torch.allclose(one, two, atol=5e-3)  # the same start, and only three steps
