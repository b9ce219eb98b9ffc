"""What this machine's processor is quick at."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")  # where there is none, as on Windows, the platform's name of the processor says it


def multiplies_bfloat16() -> bool:
    """Whether convolutions are quicker in bfloat16 than in float32.

    So they are with tiles (AMX), and with AVX512-BF16 where AMD makes it. Intel's AVX512-BF16 has half of float32's
    throughput.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and not _is_by_intel()


def _is_by_intel() -> bool:
    description = _CPU_INFO.read_text() if _CPU_INFO.is_file() else platform.processor()
    return "GenuineIntel" in description
