"""What sleeps on photographs is stored as zeros, and what they are coded to stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_METADATA, TINY_N, TINY_STATES, photograph, tiny_state

from slic_cli.architectures import find_architecture
from slic_cli.codec import Codec
from slic_cli.container import serialise
from slic_cli.export import export_model
from slic_cli.registry import read_spec
from slic_cli.training.sleeping import let_sleep

Arrays = dict[str, npt.NDArray[Any]]

HYPERPRIOR = "bmshj2018-hyperprior"
DEAD = [2, 5]
STILL = [1, 4, 6]
DEEP = -1e4  # a bias under which a channel never wakes


def dozing(architecture: str) -> Arrays:
    """A tiny model some of whose hyper-latents never change, and hidden channels that never wake where they could."""
    state: Arrays = {name: array.copy() for name, array in TINY_STATES[architecture]().items()}
    last = "h_a.8" if architecture == "cheng2020-anchor" else "h_a.4"
    state[f"{last}.weight"][STILL] *= 1e-4
    state[f"{last}.bias"][STILL] = state["entropy_bottleneck.quantiles"][STILL, 0, 1] + 0.3
    if architecture == HYPERPRIOR:
        for layer in ("h_a.0", "h_a.2", "h_s.0", "h_s.2"):
            state[f"{layer}.bias"][DEAD] = DEEP / 20 if layer.startswith("h_s") else DEEP
    return state


def latents(state: Arrays, architecture: str) -> list[npt.NDArray[np.float32]]:
    transform = find_architecture(architecture).transform(state, torch.device("cpu"), torch.float32)
    pictures = [torch.from_numpy(photograph(128, 128, seed)) for seed in range(3)]
    return [transform.analyse_rows(pixels, 0, 8).numpy() for pixels in pictures]


def exported(path: Path, state: Arrays, architecture: str) -> Codec:
    export_model(path, state, TINY_METADATA | {"architecture": architecture}, force=False)
    return Codec(read_spec(path), "cpu", "fp32")


def test_dead_channels_become_zeros_at_both_sides() -> None:
    state = dozing(HYPERPRIOR)
    slept = let_sleep(state, HYPERPRIOR, latents(state, HYPERPRIOR))
    for writer, out, reader, into in (
        ("h_a.0", 0, "h_a.2", 1), ("h_a.2", 0, "h_a.4", 1), ("h_s.0", 1, "h_s.2", 0), ("h_s.2", 1, "h_s.4", 1)
    ):  # fmt: skip
        assert not slept[f"{writer}.weight"].take(DEAD, out).any()
        assert not slept[f"{writer}.bias"][DEAD].any()
        assert not slept[f"{reader}.weight"].take(DEAD, into).any()
        assert slept[f"{writer}.weight"].any()
    assert state["h_a.0.bias"][DEAD[0]] == DEEP  # what was given is left alone


@pytest.mark.parametrize("architecture", TINY_STATES)
def test_still_hyper_latents_are_their_medians_and_heard_once(architecture: str) -> None:
    state = dozing(architecture)
    slept = let_sleep(state, architecture, latents(state, architecture))
    last = "h_a.8" if architecture == "cheng2020-anchor" else "h_a.4"
    assert not slept[f"{last}.weight"][STILL].any()
    np.testing.assert_allclose(slept[f"{last}.bias"][STILL], state["entropy_bottleneck.quantiles"][STILL, 0, 1], 1e-3)
    heard = np.moveaxis(slept["h_s.0.weight"], 1 if architecture == "cheng2020-anchor" else 0, 0).any((1, 2, 3))
    assert heard[STILL].sum() == 1
    assert heard.sum() == TINY_N - len(STILL) + 1


@pytest.mark.parametrize("architecture", TINY_STATES)
def test_photographs_are_coded_as_before(architecture: str, tmp_path: Path) -> None:
    state = dozing(architecture)
    slept = let_sleep(state, architecture, latents(state, architecture))
    before, after = (exported(tmp_path / f"{index}.safetensors", arrays, architecture)
                     for index, arrays in enumerate((state, slept)))  # fmt: skip
    pixels = photograph(128, 128, 1)
    first, second = before.encode(pixels), after.encode(pixels)
    assert len(serialise(second)) == pytest.approx(len(serialise(first)), rel=0.002, abs=4)
    if architecture == HYPERPRIOR:  # a context model may round a mean otherwise
        np.testing.assert_allclose(before.latents(first), after.latents(second), atol=1)
    difference = before.decode(first).astype(int) - after.decode(second)
    assert np.abs(difference).mean() < 0.5


def test_what_nothing_reads_goes() -> None:
    state = {name: array.copy() for name, array in tiny_state().items()}
    state["h_s.4.weight"][:, 3] = 0
    state["h_a.4.weight"][:, 3] = 0
    slept = let_sleep(state, HYPERPRIOR, latents(state, HYPERPRIOR))
    assert state["h_s.2.weight"][:, 3].any()
    assert not slept["h_s.2.weight"][:, 3].any()
    assert not slept["h_a.2.weight"][3].any()


def test_a_channel_that_is_only_just_asleep_stays() -> None:
    """On these latents it is always 0, on twice as large ones not."""
    state = {name: array.copy() for name, array in tiny_state().items()}
    y = latents(state, HYPERPRIOR)
    state["h_a.0.weight"][3] = 0
    state["h_a.0.weight"][3, 0, 1, 1] = 1
    peak = max(float(np.abs(own[0]).max()) for own in y)
    state["h_a.0.bias"][3] = -1.5 * peak
    assert let_sleep(state, HYPERPRIOR, y)["h_a.0.weight"][3].any()
    state["h_a.0.bias"][3] = -2.5 * peak
    assert not let_sleep(state, HYPERPRIOR, y)["h_a.0.weight"][3].any()
