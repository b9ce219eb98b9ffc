"""What the encoder does at the edges of a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from slic_cli.errors import BadModelFile
from slic_cli.transform.edges import COLOUR, DEPTH, FILTER, EdgeFilter, Sides, edge_filter_of, filter_edges
from slic_cli.transform.tiling import analyse_tiles

MATRIX = torch.eye(DEPTH) + 0.1 * torch.randn(DEPTH, DEPTH, generator=torch.Generator().manual_seed(0))
COLOURS = torch.tensor([0.4, 0.5, 0.6])


def picture(rows: int, columns: int) -> torch.Tensor:
    return torch.randint(0, 256, (rows, columns, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_only_the_outermost_pixels_change() -> None:
    x = torch.rand(2, 3, 32, 48)
    y = filter_edges(x, MATRIX, COLOURS)
    torch.testing.assert_close(y[..., DEPTH:-DEPTH, DEPTH:-DEPTH], x[..., DEPTH:-DEPTH, DEPTH:-DEPTH])
    assert ((y - x).abs().amax((0, 1)) > 0).sum() == 32 * 48 - 16 * 32


def test_all_sides_are_alike() -> None:
    x = torch.rand(3, 32, 32)
    y = filter_edges(x, MATRIX, COLOURS)
    torch.testing.assert_close(filter_edges(x.flip(1), MATRIX, COLOURS).flip(1), y)
    torch.testing.assert_close(filter_edges(x.transpose(1, 2), MATRIX, COLOURS).transpose(1, 2), y)


def test_the_neutral_colour_stays() -> None:
    x = COLOURS.view(3, 1, 1).expand(3, 32, 32)
    torch.testing.assert_close(filter_edges(x, MATRIX, COLOURS), x.clone())


def test_tiles_see_what_the_whole_picture_shows() -> None:
    pixels, edges = picture(96, 80), EdgeFilter(MATRIX, COLOURS)

    def means(piece: torch.Tensor) -> torch.Tensor:
        rows, columns = (side // 16 for side in piece.shape[:2])
        return piece.float().view(rows, 16, columns, 16, 3).mean((1, 3)).permute(2, 0, 1)

    whole = means(edges(pixels, Sides()))
    tiled = torch.cat([analyse_tiles(means, pixels, rows, 3, 2, 1, edges) for rows in ((0, 3), (3, 6))], 1)
    torch.testing.assert_close(tiled, whole)
    assert (analyse_tiles(means, pixels, (0, 6), 3, 2, 1) - whole).abs().max() > 0.1


def test_a_model_without_one() -> None:
    assert edge_filter_of({}) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {FILTER: np.eye(DEPTH)},
        {COLOUR: np.zeros(3)},
        {FILTER: np.eye(4), COLOUR: np.zeros(3)},
        {FILTER: np.full((DEPTH, DEPTH), np.nan), COLOUR: np.zeros(3)},
    ],
)
def test_faults_are_refused(tensors: dict[str, npt.NDArray[np.float64]]) -> None:
    with pytest.raises(BadModelFile, match=r"expected encoder[.]edge_"):
        edge_filter_of(tensors)
