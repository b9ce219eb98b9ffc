"""The exponential mean of a network's weights over the steps: smoother than any single step's, and better."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_EARLY = 10  # at first the mean reaches back over about a tenth of the steps, and so forgets where they began


class Average:
    """The mean of the parameters of `network`, each step's weighing 1 - `decay`; `decay` 0 follows them exactly.

    Buffers are not averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._means = self._copies() if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step number `step`, from 1 on."""
        if self._decay:
            share = max(1 - self._decay, (_EARLY - 1) / (_EARLY + step))
            torch._foreach_lerp_(self._means, list(self._network.parameters()), share)

    def state_dict(self) -> dict[str, Tensor]:
        """The network's, with means for parameters."""
        state = dict(self._network.state_dict())
        if self._decay:
            names = (name for name, _ in self._network.named_parameters())
            state |= dict(zip(names, self._means, strict=True))
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the means that `state_dict` gave."""
        if self._decay:
            for mean, (name, _) in zip(self._means, self._network.named_parameters(), strict=True):
                mean.copy_(state[name])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The network has its mean weights meanwhile."""
        if not self._decay:
            yield
            return
        own = self._copies()
        self._give(self._means)
        try:
            yield
        finally:
            self._give(own)

    def settle(self) -> None:
        """The network has its mean weights from now on."""
        if self._decay:
            self._give(self._means)

    def _copies(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._network.parameters()]

    @torch.no_grad()
    def _give(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._network.parameters(), values, strict=True):
            parameter.copy_(value)
