"""Channels that are zero for every picture, left out: a model that uses fewer than N of them runs the faster for it."""

from __future__ import annotations

from slic_cli.errors import BadModelFile
from slic_cli.transform.layers import Arrays

_INNER = (0, 2, 4)  # the convolutions that another one follows


def trim(tensors: Arrays) -> Arrays:
    """g_a and g_s of bmshj2018-hyperprior without the inner channels whose weights and bias are all zero.

    Normalisation leaves zeros zero, so nothing that is computed changes. At least one channel of each layer stays.
    Raises BadModelFile.
    """
    trimmed = dict(tensors)
    names = [f"{net}.{index}.{part}" for net in ("g_a", "g_s") for index in _INNER for part in ("weight", "bias")]
    names += [f"{net}.{index + 1}.{part}" for net in ("g_a", "g_s") for index in _INNER for part in ("beta", "gamma")]
    for name in (*names, "g_a.6.weight", "g_s.6.weight"):
        if name not in tensors:
            raise BadModelFile(f"expected the tensor {name}, got a model without it")
    for net, out in (("g_a", 0), ("g_s", 1)):
        for index in _INNER:
            layer, norm, following = f"{net}.{index}", f"{net}.{index + 1}", f"{net}.{index + 2}.weight"
            weight = trimmed[f"{layer}.weight"]
            live = weight.any(axis=tuple(axis for axis in range(4) if axis != out)) | (trimmed[f"{layer}.bias"] != 0)
            live[0] = True
            trimmed[f"{layer}.weight"] = weight.compress(live, out)
            trimmed[following] = trimmed[following].compress(live, 1 - out)
            trimmed[f"{norm}.gamma"] = trimmed[f"{norm}.gamma"][live][:, live]
            for name in (f"{layer}.bias", f"{norm}.beta"):
                trimmed[name] = trimmed[name][live]
    return trimmed
