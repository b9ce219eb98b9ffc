"""Which precision this machine is quick with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slic_cli import processor
from slic_cli.codec import choose_precision

INTEL, AMD = "vendor_id\t: GenuineIntel\n", "vendor_id\t: AuthenticAMD\n"


@pytest.mark.parametrize(
    ("tiles", "vectors", "vendor", "quick"),
    [
        (True, True, INTEL, True),
        (False, True, INTEL, False),
        (False, True, AMD, True),
        (False, False, AMD, False),
    ],
)
def test_bfloat16_is_chosen_where_it_is_quicker(
    tiles: bool, vectors: bool, vendor: str, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    (tmp_path / "cpuinfo").write_text(vendor)
    monkeypatch.setattr(processor, "_CPU_INFO", tmp_path / "cpuinfo")
    assert processor.multiplies_bfloat16() is quick
    assert choose_precision("auto", torch.device("cpu")) == (torch.bfloat16 if quick else torch.float32)


@pytest.mark.parametrize(("name", "quick"), [("Intel64 Family 6 Model 143, GenuineIntel", False), ("", True)])
def test_the_platform_names_the_maker_where_there_is_no_cpuinfo(
    name: str, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(processor, "_CPU_INFO", tmp_path / "none")
    monkeypatch.setattr("platform.processor", lambda: name)
    assert processor.multiplies_bfloat16() is quick
