"""Channels that are always zero are left out, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_N, photograph, tiny_anchor_state, tiny_state

from slic_cli.errors import BadModelFile
from slic_cli.transform.balle2018 import Balle2018Transform
from slic_cli.transform.cheng2020 import Cheng2020Transform
from slic_cli.transform.trimming import anchor_part, hyperprior_part, trim_anchor, trim_hyperprior

State = dict[str, npt.NDArray[Any]]

CPU = torch.device("cpu")
DEAD = [1, TINY_N - 1]
LEFT = TINY_N - len(DEAD)


def silence(state: State, layer: str, out: int = 0, shuffled: bool = False) -> None:
    """No weights and no bias for DEAD channels of a layer; four outputs are one channel before a pixel shuffle."""
    rows = np.add.outer(4 * np.array(DEAD), range(4)).ravel() if shuffled else DEAD
    np.moveaxis(state[f"{layer}.weight"], out, 0)[rows] = 0
    state[f"{layer}.bias"][rows] = 0


def hyperprior() -> State:
    """The tiny model with two channels of each inner layer silenced, but still listened to."""
    state = {name: array.copy() for name, array in tiny_state().items()}
    for net, out in (("g_a", 0), ("g_s", 1)):
        for index in (0, 2, 4):
            silence(state, f"{net}.{index}", out)
    for index in (0, 2):
        silence(state, f"h_a.{index}")
    return state


def anchor() -> State:
    """The same of cheng2020-anchor: inside each block, and on the path that two blocks add to."""
    state = {name: array.copy() for name, array in tiny_anchor_state().items()}
    for index in range(6):
        for part in ("conv1", "conv2", *(["skip"] if index % 2 == 0 else [])):
            silence(state, f"g_a.{index}.{part}")
    silence(state, "g_s.0.conv1")
    for index in range(1, 7):
        for part in ("conv1", "conv2") if index % 2 == 0 else ("conv",):
            silence(state, f"g_s.{index}.{part}")
        if index % 2:
            silence(state, f"g_s.{index}.subpel_conv.0", shuffled=True)
            silence(state, f"g_s.{index}.upsample.0", shuffled=True)
    for index in range(4):
        silence(state, f"h_a.{2 * index}")
    return state


def test_dead_channels_go() -> None:
    trimmed = trim_hyperprior(hyperprior())
    for net, out in (("g_a", 0), ("g_s", 1)):
        for index in (0, 2, 4):
            assert trimmed[f"{net}.{index}.weight"].shape[out] == LEFT
            assert trimmed[f"{net}.{index}.bias"].shape == (LEFT,)
            assert trimmed[f"{net}.{index + 1}.gamma"].shape == (LEFT, LEFT)
            assert trimmed[f"{net}.{index + 2}.weight"].shape[1 - out] == LEFT


@pytest.mark.parametrize(("trim", "state", "hidden"), [(trim_hyperprior, hyperprior, 2), (trim_anchor, anchor, 4)])
def test_dead_channels_of_the_hyper_analysis_go(
    trim: Callable[[State], State], state: Callable[[], State], hidden: int
) -> None:
    before, trimmed = state(), trim(state())
    for index in range(hidden + 1):
        out, inputs = before[f"h_a.{2 * index}.weight"].shape[:2]
        expected = (LEFT if index < hidden else out, LEFT if index else inputs)
        assert trimmed[f"h_a.{2 * index}.weight"].shape[:2] == expected
        assert trimmed[f"h_a.{2 * index}.bias"].shape == expected[:1]


def test_dead_channels_of_residual_blocks_go() -> None:
    trimmed, outer = trim_anchor(anchor()), {"g_a.0.conv1": 3, "g_a.0.skip": 3, "g_s.0.conv1": TINY_N}
    for name, array in trimmed.items():
        layer, part = name.rsplit(".", 1)
        if not name.startswith(("g_a", "g_s")) or layer in ("g_a.6", "g_s.7.0", "g_s.0.conv2") or part == "bias":
            continue
        if part in ("beta", "gamma"):
            assert set(array.shape) == {LEFT}, name
            continue
        inputs = outer.get(layer, TINY_N if layer.startswith("g_s.1.") and not layer.endswith(".conv") else LEFT)
        assert array.shape[:2] == (LEFT * (4 if layer.endswith(".0") else 1), inputs), name
    assert trimmed["g_a.6.weight"].shape[:2] == (TINY_N, LEFT)
    assert trimmed["g_s.0.conv2.weight"].shape[:2] == (TINY_N, LEFT)
    assert trimmed["g_s.7.0.weight"].shape[:2] == (12, LEFT)


@pytest.mark.parametrize(("trim", "state"), [(trim_hyperprior, tiny_state), (trim_anchor, tiny_anchor_state)])
def test_a_model_in_full_use_stays_as_it_is(trim: Callable[[State], State], state: Callable[[], State]) -> None:
    trimmed = trim(state())
    for name, array in state().items():
        np.testing.assert_array_equal(trimmed[name], array, err_msg=name)


def test_a_bias_keeps_its_channel() -> None:
    state = hyperprior()
    state["g_a.2.bias"][DEAD[0]] = 0.5
    assert trim_hyperprior(state)["g_a.2.weight"].shape[0] == LEFT + 1


@pytest.mark.parametrize("layer", ["g_a.2.conv2", "g_a.2.skip", "g_a.3.conv2", "g_s.3.upsample.0"])
def test_whatever_adds_to_a_path_keeps_its_channel(layer: str) -> None:
    state = anchor()
    state[f"{layer}.bias"][4 * DEAD[0] + 2 if layer.endswith("upsample.0") else DEAD[0]] = 0.5
    trimmed = trim_anchor(state)
    path, conv = ("g_a", "conv2") if layer.startswith("g_a") else ("g_s", "conv")
    other = f"{path}.{layer[4]}.{conv}" if layer != "g_a.3.conv2" else "g_a.2.conv2"
    assert trimmed[f"{other}.weight"].shape[0] == LEFT + 1


@pytest.mark.parametrize(
    ("transform", "trim", "state", "step"),
    [
        (Balle2018Transform, "balle2018.trim_hyperprior", hyperprior, 1),
        (Cheng2020Transform, "cheng2020.trim_anchor", anchor, 8),
    ],
)
def test_the_transform_does_not_change(
    transform: Any, trim: str, state: Callable[[], State], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`step` scales latents to what the tiny synthesis is made for."""
    pixels = torch.from_numpy(photograph(64, 96))
    trimmed = transform(state(), CPU, torch.float32)
    monkeypatch.setattr(f"slic_cli.transform.{trim}", lambda tensors: tensors)
    whole = transform(state(), CPU, torch.float32)
    y = trimmed.analysis(pixels)
    np.testing.assert_allclose(y.numpy(), whole.analysis(pixels).numpy(), rtol=0, atol=1e-4)
    z = trimmed.hyper_analysis(y)
    assert z.std() > 0.1
    np.testing.assert_allclose(z.numpy(), whole.hyper_analysis(y).numpy(), rtol=0, atol=1e-4)
    assert trimmed.channels == whole.channels == len(y)
    y_hat = (y / step).round()
    pictures = trimmed.synthesis(y_hat).int()
    assert pictures.float().std() > 10
    assert (pictures - whole.synthesis(y_hat).int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("trim", "state", "name"),
    [
        (trim_hyperprior, tiny_state, "g_a.3.gamma"),
        (trim_hyperprior, tiny_state, "g_s.6.weight"),
        (trim_hyperprior, tiny_state, "h_a.4.weight"),
        (trim_anchor, tiny_anchor_state, "g_a.2.skip.bias"),
        (trim_anchor, tiny_anchor_state, "g_s.5.igdn.beta"),
        (trim_anchor, tiny_anchor_state, "g_s.7.0.weight"),
    ],
)
def test_missing_tensors_are_named(trim: Callable[[State], State], state: Callable[[], State], name: str) -> None:
    with pytest.raises(BadModelFile, match=f"tensor {name}, got a model without"):
        trim({key: value for key, value in state().items() if key != name})


def apart(state: State, own: int) -> State:
    """The last `own` channels of every layer of g_a see no others, and no others see them."""
    state = {name: array.copy() for name, array in state.items()}
    for name, array in state.items():
        if not name.startswith("g_a.") or array.ndim == 1:
            continue
        array[-own:, :-own] = 0 if array.shape[1] > 3 else array[-own:, :-own]
        array[:-own, -own:] = 0 if array.shape[1] > 3 else array[:-own, -own:]
    return state


@pytest.mark.parametrize(
    ("part", "trim", "kind", "state"),
    [
        (hyperprior_part, trim_hyperprior, Balle2018Transform, tiny_state),
        (anchor_part, trim_anchor, Cheng2020Transform, tiny_anchor_state),
    ],
)
def test_a_part_has_what_its_latents_depend_on(
    part: Callable[..., State], trim: Callable[[State], State], kind: Any, state: Callable[[], State]
) -> None:
    whole, own = apart(state(), 2), 2
    latents = np.array([len(whole["g_a.6.bias"]) - 1, len(whole["g_a.6.bias"]) - 2])
    pixels = torch.from_numpy(photograph(64, 80))
    transform = kind(whole, CPU, torch.float32)
    expected = transform.analyse_rows(pixels, 1, 4)[latents.tolist()]
    torch.testing.assert_close(transform.part(latents).analyse_rows(pixels, 1, 4), expected, rtol=1e-4, atol=1e-5)
    small = trim(part(whole, latents))
    first = "g_a.0" if kind is Balle2018Transform else "g_a.0.conv2"
    assert len(small[f"{first}.bias"]) == own + 1  # one that is zero stays with them
    assert len(small["g_s.0.bias"] if kind is Balle2018Transform else small["g_s.0.conv1.bias"]) == 1


def test_a_part_hears_what_its_norms_hear() -> None:
    whole, latents = apart(tiny_state(), 2), np.array([len(tiny_state()["g_a.6.bias"]) - 1])
    whole["g_a.3.gamma"][-1, 0] = 0.3
    transform, pixels = Balle2018Transform(whole, CPU, torch.float32), torch.from_numpy(photograph(64, 80))
    expected = transform.analyse_rows(pixels, 0, 4)[latents.tolist()]
    torch.testing.assert_close(transform.part(latents).analyse_rows(pixels, 0, 4), expected, rtol=1e-4, atol=1e-5)
    assert len(trim_hyperprior(hyperprior_part(whole, latents))["g_a.2.bias"]) == 3
