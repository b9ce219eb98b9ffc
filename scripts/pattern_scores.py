"""How sure encoders are of the pattern.

python scripts/pattern_scores.py PHOTOS [--model NAME] [--op EDIT[+EDIT]] [--limit N]

Scores (slic_cli/transform/pattern.py) of photographs as they are and of a model's first decodes of them, both edited
alike; `+` joins edits that follow each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from slic_cli.attacks import parse_attack
from slic_cli.codec import Codec
from slic_cli.errors import BadInput
from slic_cli.evaluation.photographs import find_photographs
from slic_cli.image_io import decode_image
from slic_cli.model_file import load_tensors
from slic_cli.registry import DEFAULT_MODEL, find_model
from slic_cli.transform.pattern import SURE, pattern_of

Pixels = npt.NDArray[np.uint8]

_EDITS = ("crop", "grey", "jpeg", "jpeg:quality=50", "webp", "resize:scale=0.5", "affine", "grey+jpeg:quality=75")


def main() -> None:
    """Print a table: the highest scores of photographs, the lowest of first decodes, and what share is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", help="a folder, whose own files are taken, or a file")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--op", action="append", help=f"an edit, or several joined by +; else {', '.join(_EDITS)}")
    parser.add_argument("--limit", type=int, default=100, help="of the photographs, evenly over their names")
    given = parser.parse_args()
    spec = find_model(given.model)
    pattern = pattern_of(load_tensors(spec))
    if pattern is None:
        parser.error(f"expected a model that draws a pattern, got {spec.name}")
    try:
        (paths,) = find_photographs([given.photographs], None).values()
    except BadInput as error:
        parser.error(str(error))
    chosen = paths[:: max(1, len(paths) // given.limit)][: given.limit]
    codec = Codec(spec, "cpu")
    scores: dict[str, list[tuple[float, float]]] = {"none": []} | {op: [] for op in given.op or _EDITS}
    for path in chosen:
        pixels = decode_image(path.read_bytes(), str(path)).pixels
        first = codec.decode(codec.encode(pixels))
        for op, rows in scores.items():
            plain, marked = (pattern.score(torch.tensor(edited(picture, op))) for picture in (pixels, first))
            rows.append((plain, marked))
    print(f"{len(chosen)} photographs, {spec.name} {spec.digest[:12]}; found from {SURE} on\n")
    print(*table(scores), sep="\n")


def edited(pixels: Pixels, ops: str) -> Pixels:
    """After all the edits in a row."""
    for op in ops.split("+"):
        pixels = pixels if op == "none" else parse_attack(op).apply(pixels)
    return pixels


def table(scores: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    """Its lines, in Markdown."""
    yield "| edit | photographs: most | nine in ten | first decodes: least | one in ten at most | half | found |"
    yield "|---|---|---|---|---|---|---|"
    for op, rows in scores.items():
        plain, marked = np.array(rows).T
        low, half = np.quantile(marked, (0.1, 0.5))
        figures = (plain.max(), np.quantile(plain, 0.9), marked.min(), low, half)
        cells = (op, *(f"{figure:.1f}" for figure in figures), f"{100 * (marked >= SURE).mean():.0f}%")
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
