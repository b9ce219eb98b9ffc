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


_ONE_ALONE = """
import gc, os, time
import torch
import torch.distributed as dist
from slic_cli.training import world

def threads():
    names = (open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task"))
    return sum("gloo" in name for name in names)

def alone(backend, start=dist.init_process_group):
    start(backend, rank=0, world_size=1, store=dist.HashStore())

os.environ["WORLD_SIZE"] = "2"
dist.init_process_group = alone
joined = world.join_world(torch.device("cpu"))
module = joined.wrap(torch.nn.Linear(2, 2))
torch.autograd.backward(module(torch.ones(1, 2)).sum())
torch.optim.Adam(module.parameters()).step()
print(threads())
del module
world.leave_world(joined)
deadline = time.monotonic() + 20
while threads() and time.monotonic() < deadline:
    gc.collect()
    time.sleep(0.1)
print(threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc")
def test_no_thread_of_a_group_outlives_it() -> None:
    """Threads that run while the interpreter ends abort it now and then, after all work is done."""
    command = [sys.executable, "-c", _ONE_ALONE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    during, after = map(int, done.stdout.split())
    assert during > 0 and after == 0


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
