"""What others have published, to stand beside what is measured here; nothing below was measured by this program.

Huang & Wu, "A Secure Learned Image Codec for Authenticity Verification via Self-Destructive Compression", Big Data and
Cognitive Computing 2025, 9(1), 14; and the curve that CompressAI publishes for its bmshj2018-hyperprior.
"""

from __future__ import annotations

from slic_cli.attacks import Attack, parse_attack

EIGHT = ("crop", "blur", "median", "lighten", "sharpen", "equalize", "affine", "jpeg")
CLEAN = "about 5"
EDITED = "< 10"
JPEG_85 = "8.69"
OWN_BASE = "about 17"
DESTROYED_DB = 10.0  # what all eight edits stay below in the paper

# The paper's Table 2 is not at hand: these are the strengths of its reference code, and of its Fig. 1.
_AT_STRENGTH = frozenset(
    parse_attack(text)
    for text in (
        "crop", "blur:radius=2", "median:size=5", "lighten", "sharpen", "equalize", "jpeg", "affine",
        "affine:degrees=5,scale=1,shift=0",
    )
)  # fmt: skip

# (bits per pixel, PSNR in dB) on the Kodak set at quality 1 to 8, trained for mean squared error.
BALLE2018_KODAK = (
    (0.131, 27.58), (0.209, 29.20), (0.320, 30.97), (0.478, 32.84),
    (0.669, 34.53), (0.939, 36.74), (1.259, 38.58), (1.660, 40.56),
)  # fmt: skip


def psnr_after(edit: Attack | None) -> str | None:
    """The paper's PSNR in dB after an edit and re-compression, in words; None where it has none."""
    if edit is None:
        return CLEAN
    if edit not in _AT_STRENGTH:
        return None
    return JPEG_85 if edit.name == "jpeg" else EDITED
