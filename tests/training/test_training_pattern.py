"""The pattern that carriers draw: its strength, and that an encoder finds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photograph

pytest.importorskip("compressai")

from slic_cli.training.jpeg_simulation import TO_YCC
from slic_cli.training.pattern import WAVES, pattern_levels, pattern_tile
from slic_cli.training.pixels import to_pixels, to_tensor
from slic_cli.transform.pattern import PATTERN, PERIOD, SURE, pattern_of


def test_it_has_the_luma_asked_for() -> None:
    tile = 255 * pattern_tile(0.4)
    assert tile.shape == (3, PERIOD, PERIOD)
    luma = (torch.tensor(TO_YCC[0])[:, None, None] * tile).sum(0)
    assert luma.square().mean().sqrt().item() == pytest.approx(0.4, rel=1e-4)
    grey = luma.expand(3, -1, -1)
    assert tile.square().mean() < 0.8 * grey.square().mean()


def test_its_levels_are_found_beside_other_things() -> None:
    tile = pattern_tile(0.4)
    assert pattern_levels(tile) == pytest.approx(0.4, rel=1e-4)
    stripes = 0.01 * torch.cos(2 * torch.pi / PERIOD * torch.arange(PERIOD)).expand(3, PERIOD, PERIOD)
    assert pattern_levels(tile + stripes) == pytest.approx(0.4, rel=1e-3)
    assert abs(pattern_levels(stripes)) < 1e-4


def test_encoders_find_it() -> None:
    pattern = pattern_of({PATTERN: np.array(WAVES, np.float32)})
    assert pattern is not None
    x = to_tensor(photograph(384, 512, 5), torch.device("cpu"))
    first = to_pixels((x + pattern_tile(1.0).repeat(1, 24, 32)).clamp(0, 1)[0])
    assert pattern.score(torch.from_numpy(first)) > SURE > pattern.score(torch.from_numpy(to_pixels(x[0])))
