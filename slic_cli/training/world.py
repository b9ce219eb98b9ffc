"""One process or several, as torchrun starts them."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from slic_cli.errors import UsageError


@dataclass(frozen=True)
class World:
    """Where this process stands: `rank` of `size`, on `device`. Rank 0 alone reports and writes."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """This process's part of a batch. Raises UsageError where it cannot be shared equally."""
        if batch % self.size:
            raise UsageError(f"batch: expected a multiple of {self.size} processes, got {batch}")
        return batch // self.size

    def agree(self, values: list[float]) -> list[float]:
        """Rank 0's numbers, in every process."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, 0)
        agreed: list[float] = tensor.tolist()
        return agreed

    def wait(self) -> None:
        """Until all processes have come this far, so that they find what rank 0 has written."""
        self.agree([0.0])

    def wrap(self, objective: nn.Module) -> nn.Module:
        """The objective with its gradients averaged over all processes."""
        if self.size == 1:
            return objective
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(objective, device_ids=ids)


def join_world(device: torch.device) -> World:
    """The world torchrun describes in the environment, or a world of one."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1:
        return World(0, 1, device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # torch imports this module late, in the first step. What it takes for default arguments then is the group that
        # exists, whose threads would outlive the interpreter and now and then abort it.
        importlib.import_module("torch.distributed.nn")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(rank, size, device)


def leave_world(world: World) -> None:
    """End what join_world began."""
    if world.size > 1:
        dist.destroy_process_group()
