"""A recipe that runs in a second, and how to run it without the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from slic_cli.console import Console
from slic_cli.training import finish
from slic_cli.training.recipe import parse_recipe
from slic_cli.training.run import Settings, train

RECIPE = """
[model]
name = "small-mse-q4"
quality = 4
n = 8
m = 12

[data]
patch = 64
validation = 1

[base]
steps = 3
batch = 2
validate_steps = 2

[slic]
steps = 4
batch = 4
metric = "mse"
log_share = 0.5
edits = [{ name = "blur" }, { name = "jpeg" }]
"""


def run(data: Path, out: Path, text: str = RECIPE, **settings: Any) -> dict[str, Any]:
    """Train, quietly, on the CPU in float32, registering nothing; tables are fitted to few crops."""
    choices: dict[str, Any] = {"device": "cpu", "precision": "fp32", "register": False} | settings
    with patch.object(finish, "_FITTED", 4):
        return train(parse_recipe(text), text, Settings(data, out, **choices), Console(quiet=True))
