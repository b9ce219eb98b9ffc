"""What share of a batch is edited, in which groups, and how it comes back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from conftest import photograph
from torch import Tensor

from slic_cli.errors import UsageError
from slic_cli.training.attacker import CLEAN, AttackedBatch, Attacker
from slic_cli.training.edits import Edit, make_edit


def batch(count: int) -> Tensor:
    pictures = np.stack([photograph(32, 48, seed) for seed in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def edits(*names: str, weight: float = 1.0) -> list[Edit]:
    return [make_edit({"name": name, "weight": weight}) for name in names]


def test_clean_share_comes_first_and_stays() -> None:
    x = batch(8)
    attacked = Attacker(edits("darken"), 0.25, 1.0, 4)(x, random.Random(0))
    assert attacked.groups == ((CLEAN, 2), ("darken", 4), ("darken", 2)) and attacked.clean == 2
    assert torch.allclose(attacked.pictures[:2], x[:2], atol=1e-6)
    assert ((attacked.pictures - x)[2:].abs().mean((1, 2, 3)) > 0.05).all()


def test_order_is_kept() -> None:
    x = batch(7)
    attacked = Attacker(edits("darken"), 0.3, 0.0, 2)(x, random.Random(0))
    darker = make_edit({"name": "darken", "factor": [0.6, 0.6]})(x, random.Random(0))
    for picture in attacked.pictures[attacked.clean :]:
        nearest = [float((picture - other).abs().mean()) for other in darker]
        assert nearest.index(min(nearest)) == next(
            index for index in range(7) if torch.equal(picture, attacked.pictures[index])
        )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_small_batches_get_their_clean_share_on_average(share: float) -> None:
    attacker, draw, x = Attacker(edits("none"), share, 0.0, 2), random.Random(0), batch(2)
    assert np.mean([attacker(x, draw).clean for _ in range(300)]) == pytest.approx(2 * share, abs=0.1)


def test_edits_are_drawn_by_weight() -> None:
    chosen = [*edits("none", weight=3), *edits("darken"), *edits("blur", weight=0)]
    attacked = Attacker(chosen, 0.0, 0.0, 1)(batch(2).repeat(100, 1, 1, 1), random.Random(0))
    counts = {name: len(values) for name, values in attacked.by_name(torch.arange(200))}
    assert set(counts) == {"none", "darken"} and 130 < counts["none"] < 170


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_groups_are_shifted_with_their_probability(probability: float) -> None:
    x = batch(2).repeat(60, 1, 1, 1)
    pictures = Attacker(edits("none"), 0.0, probability, 1)(x, random.Random(0)).pictures
    moved = float(((pictures - x).abs().mean((1, 2, 3)) > 1e-3).float().mean())
    assert moved == pytest.approx(probability, abs=0.12)


def test_pictures_of_a_group_share_a_draw() -> None:
    x = batch(1).repeat(6, 1, 1, 1)
    pictures = Attacker(edits("affine"), 0.0, 1.0, 3)(x, random.Random(0)).pictures
    assert torch.equal(pictures[0], pictures[2]) and torch.equal(pictures[3], pictures[5])
    assert not torch.equal(pictures[2], pictures[3])


def test_result_is_eight_bits_with_gradients() -> None:
    x = (batch(4) * 1.2 - 0.1).requires_grad_()
    attacked = Attacker(edits("blur", "lighten"), 0.25, 0.5, 1)(x, random.Random(0))
    levels = attacked.pictures.detach() * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3) and levels.min() >= 0 and levels.max() <= 255
    attacked.pictures.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad.abs().sum((1, 2, 3)) > 0).all()


def test_same_draws_same_batch() -> None:
    attacker, x = Attacker(edits("blur", "affine", "jpeg", "shift"), 0.25, 0.5, 2), batch(8)
    first, again, other = (attacker(x, random.Random(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.pictures, again.pictures) and first.groups == again.groups
    assert not torch.equal(first.pictures, other.pictures)


def test_values_are_sorted_by_name() -> None:
    attacked = AttackedBatch(torch.zeros(6, 3, 1, 1), ((CLEAN, 1), ("blur", 2), ("jpeg", 1), ("blur", 2)))
    sorted_values = {name: values.tolist() for name, values in attacked.by_name(torch.arange(6.0))}
    assert sorted_values == {CLEAN: [0], "blur": [1, 2, 4, 5], "jpeg": [3]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((edits("none"), 1.1, 0.5, 2), "clean_share: expected 0 to 1, got 1.1"),
        ((edits("none"), 0.1, -0.5, 2), "shift: expected 0 to 1, got -0.5"),
        ((edits("none"), 0.1, 0.5, 0), "group: expected 1 or more, got 0"),
        (([], 0.1, 0.5, 2), "edits: expected one or more of positive weight, got 0 without"),
        ((edits("none", weight=0), 0.1, 0.5, 2), "edits: expected one or more of positive weight, got 1 without"),
    ],
)
def test_wrong_numbers_are_refused(values: tuple[list[Edit], float, float, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Attacker(*values)
