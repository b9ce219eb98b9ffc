"""Fronts cover a strip once and in an order in which nothing is needed before it is there."""

from __future__ import annotations

from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slic_cli.entropy.byte_product import LIMIT
from slic_cli.entropy.wavefront import Front, LatentPlane, along, fronts

TAPS = list(product((-2, -1, 0), (-2, -1, 0, 1, 2)))[:12]
sizes = st.tuples(st.integers(1, 12), st.integers(1, 17))


def places(front: Front) -> list[tuple[int, int]]:
    return [(front.row + i, front.column - 3 * i) for i in range(front.count)]


@settings(deadline=None)
@given(sizes)
def test_every_position_once_and_after_what_it_sees(size: tuple[int, int]) -> None:
    rows, columns = size
    when = {place: number for number, front in enumerate(fronts(rows, columns)) for place in places(front)}
    assert sum(front.count for front in fronts(rows, columns)) == rows * columns
    assert when.keys() == {(r, c) for r in range(rows) for c in range(columns)}
    for (row, column), number in when.items():
        seen = [(row + k, column + l) for k, l in TAPS]  # noqa: E741
        assert all(when[place] < number for place in seen if place in when)


def integers(seen: torch.Tensor) -> torch.Tensor:
    """What an operand stands for: one part, or low and high bytes."""
    return (seen * torch.tensor([1, 256])[: len(seen), None, None]).sum(0)


@settings(deadline=None)
@given(sizes)
def test_neighbours_are_those_of_the_masked_kernel(size: tuple[int, int]) -> None:
    """Written front by front and read back: zeros outside and where nothing is decoded yet, else what was written."""
    rows, columns = size
    values = torch.arange(1, rows * columns * 2 + 1, dtype=torch.float32).view(rows, columns, 2)
    plane = LatentPlane(2, rows, columns)
    for front in fronts(rows, columns):
        seen = integers(plane.neighbours(front))
        for index, (row, column) in enumerate(places(front)):
            taps = [(row + k, column + l) for k, l in TAPS]  # noqa: E741
            inside = [(0 <= r < rows and 0 <= c < columns, r, c) for r, c in taps]
            expected = [values[r, c].tolist() if there else [0, 0] for there, r, c in inside]
            assert seen[index].view(-1, 2).tolist() == expected
        assert along(values, front).tolist() == [values[place].tolist() for place in places(front)]
        plane.write(front, along(values, front))
    assert torch.equal(plane.latents(), values.permute(2, 0, 1))


def test_the_context_sees_large_latents_clipped() -> None:
    plane = LatentPlane(2, 1, 2)
    plane.write(Front(0, 0, 1), torch.tensor([[1e6, -1e6]]))
    assert plane.latents()[:, 0, 0].tolist() == [1e6, -1e6]
    assert integers(plane.neighbours(Front(0, 1, 1)))[0, -2:].tolist() == [LIMIT, -LIMIT]
