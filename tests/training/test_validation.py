"""What is measured while a codec trains."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photograph
from torch import Tensor, nn

pytest.importorskip("compressai")

from slic_cli.metrics import psnr_db
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.validation import validate


class Square(nn.Module):
    """The mean squared error."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean((1, 2, 3))


def measured(distance: nn.Module | None, tau: float = 1.0) -> Any:
    torch.manual_seed(0)
    codec = Hyperprior(8, 12, 3.0)
    photo = torch.from_numpy(photograph(128, 192)).permute(2, 0, 1)
    result = validate(codec, [photo, photo], 0.013, nullcontext, distance, 2.0, tau)
    assert codec.training
    return result


def test_a_vanilla_codec_is_not_edited() -> None:
    result = measured(None)
    assert set(result.row) == {"bpp", "psnr_db", "worst_block_db", "clean_db"}
    assert result.picture.shape == (128, 3 * 192, 3)


def test_a_row_agrees_with_its_picture() -> None:
    result = measured(Square())
    original, first, second, _ = np.split(result.picture, 4, 1)
    assert np.array_equal(original, photograph(128, 192))
    assert result.row["psnr_db"] == pytest.approx(psnr_db(original, first))
    assert result.row["clean_db"] == pytest.approx(psnr_db(first, second))
    assert result.row["worst_block_db"] <= result.row["psnr_db"]
    assert {"crop-0.9_db", "blur-r=1_db", "median-3_db", "jpeg-85_db", "resize-x0.95_db", "d_clean"} <= set(result.row)
    assert "loss" not in result.row and result.loss > result.row["bpp"]


def test_the_loss_counts_distances_in_units_of_tau() -> None:
    one, half = (measured(Square(), tau) for tau in (1.0, 0.5))
    assert one.loss - half.loss == pytest.approx(2.0 * one.row["d_clean"])
