"""Which models there are: name -> ModelSpec, read from the headers of safetensors files.

Models come from four places, and the first that knows a name wins: a path given by the user, the directories in the
environment variable SLIC_MODELS (separated like PATH), the user's own models (slic/models in the XDG data directory;
`slic train` puts them there), and the weights this package ships. Only headers are read
here, with the standard library, so that listing models costs nothing; the tensors are loaded where they are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slic_cli.errors import BadModelFile, MissingModel

DEFAULT_MODEL = "balle2018-lpips-q8"
MODELS_VARIABLE = "SLIC_MODELS"
MODEL_FORMAT = "slic-model-1"
DIFFERS_FROM = "differs_from"  # metadata: the digest of the whole model that a file is a difference from
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SUFFIX = ".safetensors"
_MAX_HEADER_BYTES = 1 << 22
_DIGEST_KEY = "weights_digest"
_REQUIRED = ("format", "architecture", "quality", "metric", _DIGEST_KEY)


@dataclass(frozen=True)
class ModelSpec:
    """One usable model.

    `digest` is the SHA-256 (hex) that `weights_digest` computes; files made with the model carry it. `quality` is
    CompressAI's quality scale, 1 to 8; `metric` the perceptual distance it was fine-tuned with ("none" for a codec that
    does not self-destruct); `metadata` everything the file says about itself.
    """

    name: str
    architecture: str
    quality: int
    metric: str
    digest: str
    path: Path
    metadata: Mapping[str, str]


def read_header(path: Path) -> tuple[dict[str, object], int]:
    """Read a safetensors header: (parsed JSON, offset of the tensor data). Raises BadModelFile."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size):
                raise BadModelFile(f"{path}: expected a safetensors file, got a header of {length} bytes")
            header = json.loads(stream.read(length))
    except OSError as error:
        raise BadModelFile(f"{path}: expected a readable safetensors file, got: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"{path}: expected a safetensors file, got a header that is no JSON") from error
    if not isinstance(header, dict):
        raise BadModelFile(f"{path}: expected a safetensors header, got {type(header).__name__}")
    return header, 8 + length


def weights_digest(header: Mapping[str, object], data: bytes | memoryview) -> str:
    """SHA-256 (hex) of a model: its header as sorted JSON without the digest itself, then the tensor data."""
    metadata = header.get("__metadata__")
    kept = {k: v for k, v in metadata.items() if k != _DIGEST_KEY} if isinstance(metadata, dict) else {}
    canonical = json.dumps({**header, "__metadata__": kept}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode())
    digest.update(data)
    return digest.hexdigest()


def read_spec(path: Path) -> ModelSpec:
    """Describe the model in a file, without loading it. Raises BadModelFile."""
    header, _ = read_header(path)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != MODEL_FORMAT:
        raise BadModelFile(f"{path}: expected a model of format {MODEL_FORMAT}, got a file without that mark")
    missing = [key for key in _REQUIRED if not isinstance(metadata.get(key), str)]
    if missing:
        raise BadModelFile(f"{path}: expected the metadata {', '.join(_REQUIRED)}, got none of {missing[0]}")
    name = path.name.removesuffix(_SUFFIX).lower()
    if not NAME_PATTERN.fullmatch(name):
        raise BadModelFile(f"{path}: expected a file name of a-z, 0-9, '.', '_', '-', got {path.name!r}")
    if not re.fullmatch("[0-9a-f]{64}", metadata[_DIGEST_KEY]) or not re.fullmatch("[0-9]{1,2}", metadata["quality"]):
        raise BadModelFile(f"{path}: expected a SHA-256 digest and a whole quality, got damaged metadata")
    return ModelSpec(
        name,
        metadata["architecture"],
        int(metadata["quality"]),
        metadata["metric"],
        metadata[_DIGEST_KEY],
        path,
        metadata,
    )


def _shipped_directory() -> Path:
    """The wheel holds weights/ inside the package; a checkout holds it beside the package."""
    package = Path(__file__).parent
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"


def _given_directories() -> list[Path]:
    return [Path(part) for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part]


def own_models_directory() -> Path:
    """Where the user's own models go: the first of SLIC_MODELS, else the user's data directory."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111 - never raises
    return next(iter(_given_directories()), Path(data) / "slic" / "models")


def search_path() -> list[Path]:
    """Directories that are searched for models, first match first."""
    return list(dict.fromkeys([*_given_directories(), own_models_directory(), _shipped_directory()]))


def _files() -> Iterator[Path]:
    for directory in search_path():
        try:
            found = sorted(directory.glob(f"*{_SUFFIX}"))
        except OSError:  # a directory that cannot be one (too long a name, a loop of links) holds no models
            continue
        yield from found


def _specs(problems: list[str]) -> Iterator[ModelSpec]:
    return _readable(_files(), problems)


def _readable(paths: Iterable[Path], problems: list[str]) -> Iterator[ModelSpec]:
    for path in paths:
        try:
            yield read_spec(path)
        except BadModelFile as error:
            problems.append(str(error))


def list_models() -> tuple[list[ModelSpec], list[str]]:
    """All models by name, and one line for each file in the search path that is no usable model."""
    models: dict[str, ModelSpec] = {}
    problems: list[str] = []
    for spec in _specs(problems):
        models.setdefault(spec.name, spec)
    return sorted(models.values(), key=lambda spec: spec.name), problems


def find_model(name_or_path: str) -> ModelSpec:
    """The model of a registry name or of a .safetensors file. Raises MissingModel, BadModelFile."""
    if name_or_path.endswith(_SUFFIX) or os.sep in name_or_path:
        path = Path(name_or_path)
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for overlong names
            raise MissingModel(f"{path}: expected a weights file, got none there")
        return read_spec(path)
    for path in _files():
        if path.name.removesuffix(_SUFFIX).lower() == name_or_path.lower():
            return read_spec(path)
    known = ", ".join(spec.name for spec in list_models()[0]) or "none"
    raise MissingModel(f"no model {name_or_path!r}; expected a {_SUFFIX} file or one of: {known}")


def find_model_for(digest: str, name: str, given: str | None = None) -> ModelSpec:
    """The model a .slic file was made with: `given` (a name or path) or any registered one with that digest.

    Raises MissingModel where the weights differ: decoding with others would give noise.
    """
    candidates = [find_model(given)] if given else list(_specs([]))
    for spec in candidates:
        if spec.digest == digest:
            return spec
    got = f"{candidates[0].name} ({candidates[0].digest[:12]})" if given else "no registered model with that digest"
    raise MissingModel(
        f"expected the weights {name} ({digest[:12]}), got {got}; add it with --model or {MODELS_VARIABLE}"
    )


def find_other(spec: ModelSpec) -> ModelSpec:
    """The whole model that the file of `spec` is a difference from: beside it, or any registered one.

    Raises MissingModel, BadModelFile.
    """
    digest = spec.metadata[DIFFERS_FROM]
    for other in (*_readable(sorted(spec.path.parent.glob(f"*{_SUFFIX}")), []), *_specs([])):
        if other.digest == digest:
            if DIFFERS_FROM in other.metadata:
                raise BadModelFile(
                    f"{spec.path}: expected to differ from a whole model, got {other.name}, a difference"
                )
            return other
    raise MissingModel(
        f"{spec.path}: expected the model that it differs from ({digest[:12]}) beside it or registered, got neither"
    )
