"""Turn a CompressAI state dict (safetensors) into a SLIC model file.

python scripts/convert_compressai.py IN.safetensors OUT.safetensors --quality 8 --metric lpips
"""

from __future__ import annotations

import argparse
from pathlib import Path

import safetensors

from slic_cli.architectures import ARCHITECTURES
from slic_cli.export import export_model


def main() -> None:
    """Parse, read, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--quality", type=int, required=True, choices=range(1, 9))
    parser.add_argument("--metric", required=True, help="perceptual distance it was fine-tuned with, or none")
    parser.add_argument("--architecture", choices=ARCHITECTURES, help="default: what IN says, else the first of them")
    parser.add_argument("--force", action="store_true", help="replace TARGET")
    arguments = parser.parse_args()
    with safetensors.safe_open(arguments.source, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = dict(file.metadata() or {})
    metadata["architecture"] = arguments.architecture or metadata.get("architecture", next(iter(ARCHITECTURES)))
    metadata |= {"quality": str(arguments.quality), "metric": arguments.metric}
    export_model(arguments.target, tensors, metadata, arguments.force)


if __name__ == "__main__":
    main()
