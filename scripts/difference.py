"""Keep a model as what differs from another: python scripts/difference.py MODEL OTHER TARGET.safetensors

For a vanilla base beside the SLIC model with the same weights (docs/model-format.md, Differences). OTHER must be found
wherever TARGET is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from slic_cli.model_file import save_difference
from slic_cli.registry import find_model, read_spec


def main() -> None:
    """Write one, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a registered model or a .safetensors file")
    parser.add_argument("other", help="the whole model that it is to differ from")
    parser.add_argument("target", type=Path)
    parser.add_argument("--force", action="store_true", help="replace the target")
    given = parser.parse_args()
    model, other = find_model(given.model), find_model(given.other)
    save_difference(given.target, model, other, given.force)
    spec = read_spec(given.target)
    sizes = [f"{path.stat().st_size / 1e6:.1f} MB" for path in (given.target, model.path)]
    print(f"{given.target}: {spec.digest[:12]}, {sizes[0]} for the {sizes[1]} of {model.name} ({model.digest[:12]})")


if __name__ == "__main__":
    main()
