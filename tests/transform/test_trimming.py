"""Channels that are always zero are left out, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_N, photograph, tiny_state

from slic_cli.transform.balle2018 import Balle2018Transform
from slic_cli.transform.trimming import trim

CPU = torch.device("cpu")
DEAD = [1, TINY_N - 1]


def with_dead_channels() -> dict[str, npt.NDArray[Any]]:
    """The tiny model with two channels of each inner layer silenced, but still listened to."""
    state = {name: array.copy() for name, array in tiny_state().items()}
    for net, out in (("g_a", 0), ("g_s", 1)):
        for index in (0, 2, 4):
            np.moveaxis(state[f"{net}.{index}.weight"], out, 0)[DEAD] = 0
            state[f"{net}.{index}.bias"][DEAD] = 0
    return state


def test_dead_channels_go() -> None:
    trimmed = trim(with_dead_channels())
    for net, out in (("g_a", 0), ("g_s", 1)):
        for index in (0, 2, 4):
            assert trimmed[f"{net}.{index}.weight"].shape[out] == TINY_N - len(DEAD)
            assert trimmed[f"{net}.{index}.bias"].shape == (TINY_N - len(DEAD),)
            assert trimmed[f"{net}.{index + 1}.gamma"].shape == (TINY_N - len(DEAD),) * 2
            assert trimmed[f"{net}.{index + 2}.weight"].shape[1 - out] == TINY_N - len(DEAD)


def test_a_model_in_full_use_stays_as_it_is() -> None:
    state = tiny_state()
    trimmed = trim(state)
    for name, array in state.items():
        np.testing.assert_array_equal(trimmed[name], array, err_msg=name)


def test_a_bias_keeps_its_channel() -> None:
    state = with_dead_channels()
    state["g_a.2.bias"][DEAD[0]] = 0.5
    assert trim(state)["g_a.2.weight"].shape[0] == TINY_N - len(DEAD) + 1


def test_the_transform_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    state, pixels = with_dead_channels(), torch.from_numpy(photograph(64, 96))
    trimmed = Balle2018Transform(state, CPU, torch.float32)
    monkeypatch.setattr("slic_cli.transform.balle2018.trim", lambda tensors: tensors)
    whole = Balle2018Transform(state, CPU, torch.float32)
    y = trimmed.analysis(pixels)
    np.testing.assert_allclose(y.numpy(), whole.analysis(pixels).numpy(), rtol=0, atol=1e-5)
    difference = trimmed.synthesis(y.round()).int() - whole.synthesis(y.round()).int()
    assert difference.abs().max() <= 1
