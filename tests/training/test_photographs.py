"""Reading a folder: what is kept, split, cut and counted."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photograph, save_photographs
from PIL import Image

from slic_cli.errors import BadInput
from slic_cli.training.photographs import Photographs, read_photographs
from slic_cli.training.recipe import DataTable

TABLE = DataTable(patch=64, validation=2)
CPU = torch.device("cpu")


def test_a_folder_is_read_split_and_counted(tmp_path: Path) -> None:
    save_photographs(tmp_path / "some", 3)
    save_photographs(tmp_path / "more", 2, first_seed=3)
    save_photographs(tmp_path / "narrow", 2, size=(40, 300))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    read = read_photographs(tmp_path, TABLE, CPU)
    assert (len(read.train), len(read.validation), read.unreadable, read.too_small) == (3, 2, 1, 2)
    pictures = {photograph(128, 192, seed).tobytes() for seed in range(5)}
    assert all(np.ascontiguousarray(photo.permute(1, 2, 0)).tobytes() in pictures for photo in read.train)
    assert [tuple(photo.shape) for photo in read.validation] == [(3, 128, 192)] * 2


def test_the_same_seed_gives_the_same_split(photograph_folder: Path) -> None:
    def first(seed: int) -> list[bytes]:
        read = read_photographs(photograph_folder, DataTable(patch=64, validation=2, seed=seed), CPU)
        return [photo.numpy().tobytes() for photo in read.validation]

    assert first(0) == first(0)
    assert len({tuple(first(seed)) for seed in range(4)}) > 1


def test_validation_is_the_middle_in_whole_latents(tmp_path: Path) -> None:
    save_photographs(tmp_path, 1, size=(700, 300))
    save_photographs(tmp_path, 2, first_seed=1)
    read = read_photographs(tmp_path, DataTable(patch=64, validation=2, seed=1), CPU)
    for photo in read.validation:
        assert all(side % 64 == 0 for side in photo.shape[1:])
        assert max(photo.shape[1:]) <= 512


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for seed in range(2):
        Image.fromarray(photograph(100, 200, seed)).save(tmp_path / f"{seed}.png", exif=exif)
    read = read_photographs(tmp_path, DataTable(patch=64, validation=1), CPU)
    assert tuple(read.train[0].shape) == (3, 200, 100)


def test_memory_is_bounded_by_windows(tmp_path: Path) -> None:
    save_photographs(tmp_path, 4, size=(300, 300))
    budget = 4 * 3 * 100 * 100 / 2**30
    read = read_photographs(tmp_path, DataTable(patch=64, validation=1, memory_gib=budget), CPU)
    assert all(min(photo.shape[1:]) >= 64 and photo.shape[1] * photo.shape[2] <= 100 * 100 for photo in read.train)
    tiny = read_photographs(tmp_path, DataTable(patch=64, validation=1, memory_gib=1e-9), CPU)
    assert all(tuple(photo.shape) == (3, 64, 64) for photo in tiny.train)


def test_large_photographs_are_sometimes_scaled_down(tmp_path: Path) -> None:
    save_photographs(tmp_path, 8, size=(420, 420))
    read = read_photographs(tmp_path, DataTable(patch=64, validation=1), CPU)
    assert {photo.shape[1] for photo in read.train} <= {252, 315, 420}
    assert len({photo.shape[1] for photo in read.train}) > 1


def test_photographs_are_scaled_as_the_recipe_says(tmp_path: Path) -> None:
    save_photographs(tmp_path, 8, size=(120, 100))
    read = read_photographs(tmp_path, DataTable(patch=64, validation=1, scales=(0.5, 1.5)), CPU)
    assert {tuple(photo.shape[1:]) for photo in read.train} == {(120, 100), (180, 150)}


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_photographs(count: int, tmp_path: Path) -> None:
    save_photographs(tmp_path, count)
    (tmp_path / "broken.jpg").touch()
    with pytest.raises(BadInput, match=rf"expected more than 2 photographs.*got {count} \(1 unreadable, 0 too small\)"):
        read_photographs(tmp_path, TABLE, CPU)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a folder of photographs, got none"):
        read_photographs(tmp_path / "nope", TABLE, CPU)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="got a file"):
        read_photographs(tmp_path / "file", TABLE, CPU)


def test_crops_are_cut_from_the_photographs() -> None:
    ramp = torch.arange(100 * 80 * 3, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 100, 80)
    read = Photographs([ramp], [], 0, 0)
    crops = read.crops(random.Random(1), 6, 64)
    assert crops.shape == (6, 3, 64, 64) and crops.dtype == torch.float32
    places = [ramp[:, top : top + 64, left : left + 64].float() / 255 for top in range(37) for left in range(17)]
    for crop in crops:
        assert any(torch.equal(crop, place) or torch.equal(crop, place.flip(2)) for place in places)
    assert torch.equal(crops, read.crops(random.Random(1), 6, 64))
    assert not torch.equal(crops, read.crops(random.Random(2), 6, 64))
