"""Table A2: its cells worked out again, weights of UNetJPEG right and wrong, and that it needs no model."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import photograph
from PIL import Image
from test_cli import Result, names, psnr, slic

from evaluation.conftest import HEIGHT, WIDTH
from slic_cli.evaluation import measure
from slic_cli.evaluation.simulations import QUALITIES
from slic_cli.metrics import ms_ssim
from slic_cli.training.jpeg_simulation import cubic_round, simulate_jpeg
from slic_cli.training.unet_jpeg import UNetJpeg, load_unet, save_unet

Pixels = npt.NDArray[np.uint8]

LABELS = ["straight-through rounding", "cubic rounding", "UNetJPEG", "no JPEG"]
PICTURES = [photograph(HEIGHT, WIDTH, seed) for seed in range(2)]  # off the grid of 16 pixels


@pytest.fixture(autouse=True)
def _photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with photographs and weights, on a machine without any model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("slic_cli.registry.search_path", list)
    Path("photos").mkdir()
    for number, pixels in enumerate(PICTURES):
        Image.fromarray(pixels).save(Path("photos", f"{number}.png"))
    save(Path("unet.safetensors"), 0)


def save(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    save_unet(path, UNetJpeg(4), {})


def evaluate(*options: str) -> Result:
    return slic("evaluate", "photos", "--tables", "a2", *options)


def rows() -> list[dict[str, object]]:
    (table,) = json.loads(Path("report/tables.json").read_text())["tables"]
    found: list[dict[str, object]] = table["rows"]
    return found


def real(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(file))


def simulated(pixels: Pixels, quality: int, label: str) -> Pixels:
    """By the functions of training, with conversions of the test's own."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None] / np.float32(255))
    with torch.no_grad():
        if label == "UNetJPEG":
            y = load_unet(Path("unet.safetensors"))(x, torch.tensor([quality]))
        elif label == "no JPEG":
            y = x
        else:
            y = simulate_jpeg(x, quality, "4:2:0", cubic_round if label == "cubic rounding" else torch.round)
    return np.rint(y[0].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)


@pytest.mark.parametrize("label", LABELS)
def test_cell(label: str) -> None:
    assert evaluate("--unet", "unet.safetensors").code == 0
    pairs = [(real(pixels, 75), simulated(pixels, 75, label)) for pixels in PICTURES]
    values = [psnr(*pair) for pair in pairs]
    (row,) = (row for row in rows() if (row["quality"], row["simulation"]) == (75, label))
    assert row["psnr_db"] == pytest.approx(np.mean(values), abs=0.005)
    assert row["lowest_db"] == pytest.approx(min(values), abs=0.005) and values[0] != values[1]
    assert row["ms_ssim"] == pytest.approx(np.mean([ms_ssim(*pair) for pair in pairs]), abs=1e-4)
    assert (row["pictures"], row["lpips"]) == (2, None)


def test_one_row_for_each_quality_and_simulation() -> None:
    result = evaluate()
    assert result.code == 0 and "UNetJPEG is left out" in result.err and "--unet" in result.err
    kept = [label for label in LABELS if label != "UNetJPEG"]
    assert [(row["quality"], row["simulation"]) for row in rows()] == [(q, label) for q in QUALITIES for label in kept]
    result = evaluate("--unet", "unet.safetensors")
    assert "UNetJPEG is left out" not in result.err
    assert [row["simulation"] for row in rows()] == LABELS * len(QUALITIES)
    for name in ("tables.md", "records.csv", "report.html"):
        assert "simulat" in Path("report", name).read_text()


def test_a_stopped_run_goes_on_and_other_weights_are_measured_again() -> None:
    assert evaluate("--unet", "unet.safetensors").code == 0
    before, journal = rows(), Path("report/records.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-3]))
    shutil.move("unet.safetensors", "moved.safetensors")
    with patch.object(measure, "compare", wraps=measure.compare) as compared:
        assert evaluate("--unet", "moved.safetensors").code == 0
        assert compared.call_count == 3
        assert rows() == before
        save(Path("unet.safetensors"), 1)
        assert evaluate("--unet", "unet.safetensors").code == 0
        assert compared.call_count == 3 + len(PICTURES) * len(QUALITIES)
    changed = [row["simulation"] for row, old in zip(rows(), before, strict=True) if row != old]
    assert changed == ["UNetJPEG"] * len(QUALITIES)


@pytest.mark.parametrize("content", [None, b"", b"no weights", "model"])
def test_wrong_weights_are_refused_before_any_work(content: bytes | str | None, tiny_model: Path) -> None:
    if content == "model":
        shutil.copy(tiny_model, "wrong.safetensors")
    elif isinstance(content, bytes):
        Path("wrong.safetensors").write_bytes(content)
    result = evaluate("--unet", "wrong.safetensors")
    assert "wrong.safetensors" in result.error(4) and "expected" in result.error(4)
    assert "report" not in names(Path())


def test_damaged_weights_are_refused() -> None:
    Path("unet.safetensors").write_bytes(Path("unet.safetensors").read_bytes()[:-50])
    assert "UNetJPEG" in evaluate("--unet", "unet.safetensors").error(4)
    assert "report" not in names(Path())


def test_other_tables_need_a_model() -> None:
    assert "--model" in slic("evaluate", "photos", "--tables", "A2,4").error(4)
