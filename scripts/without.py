"""A model without some of what it tells encoders: python scripts/without.py MODEL TARGET.safetensors TENSOR [...]

With encoder.coherence and encoder.pattern, what the network destroys by itself is left.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from slic_cli.model_file import load_tensors, save_model
from slic_cli.registry import find_model, read_spec


def main() -> None:
    """Write one, and say which it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a registered model or a .safetensors file")
    parser.add_argument("target", type=Path)
    parser.add_argument("tensors", nargs="+", help="names that begin with encoder.")
    given = parser.parse_args()
    spec = find_model(given.model)
    tensors = load_tensors(spec)
    for name in given.tensors:
        if not name.startswith("encoder.") or name not in tensors:
            own = ", ".join(other for other in tensors if other.startswith("encoder."))
            parser.error(f"expected one of {own}, got {name}")
    kept = {name: array for name, array in tensors.items() if name not in given.tensors}
    save_model(given.target, kept, spec.metadata, force=False)
    print(f"{given.target}: {read_spec(given.target).digest[:12]}")


if __name__ == "__main__":
    main()
