"""What a carrier learns to survive, unless a recipe says otherwise: everyday edits, the harder ones more often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARRIER_EDITS: tuple[Mapping[str, Any], ...] = (
    {"name": "none", "weight": 1.5},
    {"name": "blur", "weight": 1.5, "variance": [0.3, 5.0], "kernel": 9},
    {"name": "affine", "weight": 3, "degrees": [7, 12], "outside": "reflect"},
    {"name": "affine", "weight": 3, "degrees": [-12, -7], "outside": "reflect"},
    {"name": "affine", "weight": 2, "outside": "reflect"},
    {"name": "jpeg", "weight": 4, "quality": [55, 95]},
    {"name": "resize", "weight": 3.5, "scale": [0.62, 0.78]},
    {"name": "resize", "weight": 1.4, "scale": [0.78, 0.98]},
    {"name": "webp", "weight": 5, "quality": [65, 95], "simulation": "libwebp"},
    {"name": "turn", "weight": 3},
    {"name": "sharpen", "weight": 1},
    {"name": "lighten", "weight": 0.7},
    {"name": "darken", "weight": 0.7},
    {"name": "equalize", "weight": 0.7},
    {"name": "noise", "weight": 0.5},
)
