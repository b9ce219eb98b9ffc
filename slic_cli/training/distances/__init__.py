"""Perceptual distances to train with: how far two batches of pictures are apart to an eye, differentiably.

Light to import: torch is loaded where a distance is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slic_cli.errors import UsageError

if TYPE_CHECKING:
    from slic_cli.training.distances.base import Distance

# Of equation 6. lpips has the paper's, which is 1.3 times what it gives for a ruined picture; so have the others
# (docs/training.md, Distances).
TAUS = {"lpips": 1.0, "dists": 0.66, "vgg": 150.0, "gmsd": 0.37, "nlpd": 2.1, "mse": 0.34, "ms-ssim": 1.2}
DISTANCES: tuple[str, ...] = tuple(TAUS)


def make_distance(name: str, backbone: Path | None = None) -> Distance:
    """A distance of DISTANCES, frozen and in eval mode, on the CPU.

    It maps two float32 batches (n, 3, h, w) of one shape, sRGB in [0, 1] with h, w >= 64, to n float32 values: 0 for
    equal pictures, larger for more different ones. Each distance has its own scale. Gradients reach both batches and
    are finite, for equal pictures too. VGG's convolutions follow the caller's autocast; all else is float32.

    `backbone` is a file of VGG16 weights for lpips, dists and vgg (vgg16_weights.py says which, and what is tried
    without one). Raises UsageError for another name, MissingModel or BadModelFile for weights that cannot be had.
    """
    from slic_cli.training.distances import feature_distances, nlpd, pixel_distances
    from slic_cli.training.distances.vgg16_weights import load_vgg16_weights

    on_features = {
        "lpips": feature_distances.Lpips,
        "dists": feature_distances.Dists,
        "vgg": feature_distances.VggLoss,
    }
    on_pixels = {
        "gmsd": pixel_distances.Gmsd,
        "nlpd": nlpd.Nlpd,
        "mse": pixel_distances.Mse,
        "ms-ssim": pixel_distances.MsSsim,
    }
    if name in on_pixels:
        distance: Distance = on_pixels[name]()
    elif name in on_features:
        distance = on_features[name](load_vgg16_weights(backbone))
    else:
        raise UsageError(f"distance: expected one of {', '.join(DISTANCES)}, got {name!r}")
    return distance.eval().requires_grad_(False)
