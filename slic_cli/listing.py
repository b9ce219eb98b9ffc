"""What `slic models` and `slic info` print."""

from __future__ import annotations

import json

from slic_cli import operations
from slic_cli.console import Console, write_line
from slic_cli.registry import DEFAULT_MODEL, list_models


def print_models(console: Console) -> None:
    """A line, or with --json an object, for each model; unusable files are named on stderr."""
    models, problems = list_models()
    for problem in problems:
        console.log(f"skipped {problem}")
    for spec in models:
        record = {
            "name": spec.name, "architecture": spec.architecture, "quality": spec.quality, "metric": spec.metric,
            "digest": spec.digest, "path": str(spec.path), "default": spec.name == DEFAULT_MODEL,
        }  # fmt: skip
        mark = "*" if record["default"] else " "
        line = (
            f"{mark} {spec.name:28} {spec.architecture:22} quality {spec.quality}  {spec.metric:6} {spec.digest[:12]}"
        )
        write_line(json.dumps(record) if console.json else line)


def print_info(name: str, console: Console) -> None:
    """All that one .slic file says, as lines of `key: value` or one JSON object."""
    record = operations.describe(name)
    if console.json:
        write_line(json.dumps(record))
        return
    strips = record["strip_bytes"]
    write_line(
        f"{record['input']}: .slic version {record['format_version']}, {record['bytes']} bytes, checksums intact\n"
        f"  picture   {record['width']} x {record['height']} pixels, {record['bpp']:.3f} bits per pixel\n"
        f"  model     {record['model']} ({'available' if record['model_available'] else 'not available here'})\n"
        f"  digest    {record['digest']}\n"
        f"  strips    {len(strips)} of up to {record['strip_rows']} rows, {sum(strips)} bytes\n"
        f"  metadata  ICC {record['icc_bytes']} bytes, EXIF {record['exif_bytes']} bytes"
    )
