"""Picture files to 8-bit RGB pixels, and those pixels to PNG.

Whatever cannot be carried is refused, or named in `Picture.notes`: nothing is lost in silence.
EXIF travels in one convention, with its b"Exif\\0\\0" prefix, the way Pillow's writers take it. Its
bytes are those of the file apart from the orientation, so maker notes and thumbnails stay whole.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageFile, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from slic_cli.errors import BadImage

MAX_PIXELS = 2**28
MAX_SIDE = 65535
_SIZE = f"1 to {MAX_SIDE} pixels a side and at most {MAX_PIXELS} in all"

# Formats a photograph comes in. The others Pillow knows start outside programs (EPS), hold several pictures
# without saying so (ICO), or are recognised in almost any bytes (TGA). AVIF is last: see _open.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "JPEG2000", "GIF", "BMP", "PPM", "QOI", "AVIF")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF_PREFIX = b"Exif\0\0"
# A JPEG can hold an ICC profile of nearly 16 MiB; what came in must also come back from our own PNG.
_MAX_PNG_TEXT = 2**24
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A TIFF keeps EXIF among the tags that lay out its own pixels; only these speak of the picture.
_TIFF_EXIF_TAGS = {270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 316, 33432, 34665, 34853}
_ICC_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_IPTC = "IPTC and Photoshop data"
_LEFT_BEHIND = {"xmp": "XMP", "photoshop": _IPTC, "comment": "comment", "gamma": "PNG gamma"}

_MARK = "slic-decoded-by"  # PNG text chunk

_pillow_lock = threading.Lock()
# Without a handler of its own, Python prints what Pillow logs on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright 8-bit RGB picture and what travels with it (compared by identity).

    pixels: (H, W, 3) uint8, RGB, C-contiguous, orientation applied.
    icc:    RGB profile the pixels are in, or empty (then sRGB is meant).
    exif:   b"Exif\\0\\0" and the EXIF block, orientation 1 or absent; or empty.
    notes:  one short phrase for each thing changed or left behind on the way in.
    decoded_by: the model whose first decode this is, as a PNG made by encode_png says; or empty.
    """

    pixels: npt.NDArray[np.uint8]
    icc: bytes = b""
    exif: bytes = b""
    notes: tuple[str, ...] = ()
    decoded_by: str = ""


def decode_image(data: bytes, name: str, background: tuple[int, int, int] | None = None) -> Picture:
    """Decode a picture file of 1 to 65535 pixels a side, at most 2**28 in all, 8 bits a channel.

    data:       the whole file.
    name:       what error messages call it.
    background: RGB, 0 to 255 each, in the picture's own colour space, to flatten transparency onto.
    Raises BadImage, one line "NAME: expected ..., got ...", for whatever is not one intact such picture,
    and for transparency without a background.
    """
    try:
        with _pillow_held() as caught:
            picture = _decode(data, background)
    except BadImage as error:
        raise BadImage(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"{name}: expected {_SIZE}, got more: {_one_line(error)}") from error
    except MemoryError as error:
        raise BadImage(f"{name}: expected a picture that fits in memory, got one that does not") from error
    except Exception as error:  # damaged data makes Pillow raise about anything
        raise BadImage(f"{name}: expected an intact picture, got damage: {_one_line(error)}") from error
    warned = (f"Pillow: {_one_line(w.message)}" for w in caught if issubclass(w.category, UserWarning))
    return replace(picture, notes=tuple(dict.fromkeys((*picture.notes, *warned))))


def encode_png(picture: Picture) -> bytes:
    """The picture as an 8-bit RGB PNG with its ICC profile, EXIF and mark; decode_image gives all four back."""
    buffer = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    if picture.decoded_by:
        text.add_text(_MARK, picture.decoded_by)
    # Level 3, measured on the Kodak set: the size and decoding time of the default 6, within a percent
    # or so, at well under half its encoding time. Lower levels save little more and start to cost size.
    Image.fromarray(picture.pixels).save(
        buffer,
        "PNG",
        compress_level=3,
        icc_profile=picture.icc or None,
        exif=picture.exif or None,
        pnginfo=text,
    )
    return buffer.getvalue()


@contextmanager
def _pillow_held() -> Iterator[list[warnings.WarningMessage]]:
    """Our limits in place of Pillow's, and its warnings collected.

    Both are global to the process: hence the lock, and the old values put back. Another thread that uses
    Pillow directly meanwhile sees our limits, which are finite too.
    """
    with _pillow_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow itself refuses beyond twice this, we beyond this
        PngImagePlugin.MAX_TEXT_CHUNK = _MAX_PNG_TEXT
        try:
            yield caught
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before


def _one_line(message: object) -> str:
    return " ".join(str(message).split()) or type(message).__name__


def _decode(data: bytes, background: tuple[int, int, int] | None) -> Picture:
    notes: list[str] = []
    image = _open(data)
    _check_size(image)
    _check_depth(image, data)
    _check_single(image, notes)
    # Pillow turns a TIFF upright as it loads it, and forgets the tag.
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) if image.format == "TIFF" else 1
    image.load()
    orientation, exif = _take_exif(image, notes)
    notes += [f"applied EXIF orientation {tag}" for tag in {turned, orientation} & _TRANSPOSED.keys()]
    _note_left_behind(image, data, notes)
    base, alpha = _split_alpha(image, background is not None, notes)
    rgb, icc = _to_rgb(base, _find_icc(image, data), notes)
    if alpha is not None and background is not None:
        notes.append("flattened onto background {},{},{}".format(*background))
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, background), alpha)
    if orientation in _TRANSPOSED:
        rgb = rgb.transpose(_TRANSPOSED[orientation])
    decoded_by = str(image.info.get(_MARK, "")) if image.format == "PNG" else ""
    return Picture(np.array(rgb, dtype=np.uint8), icc, exif, tuple(notes), decoded_by)


def _open(data: bytes) -> ImageFile.ImageFile:
    if not data:
        raise BadImage("expected a picture, got an empty file")
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data)
    file = io.BytesIO(data)
    try:
        image = Image.open(file, formats=_FORMATS)
    except (UnidentifiedImageError, KeyError) as error:  # KeyError: this Pillow does not know AVIF at all
        known = ", ".join(_FORMATS)
        raise BadImage(f"expected 8-bit {known}, got none of them, or a damaged one") from error
    # A JPEG filled up with zeros after a failed copy decodes to grey without complaint. Pillow has read
    # up to the compressed data, in which an end marker hardly occurs by chance.
    if image.format == "JPEG" and data.find(b"\xff\xd9", file.tell()) < 0:
        raise BadImage("expected an intact JPEG, got one without its end marker")
    return image


def _check_png(data: bytes) -> None:
    """Every chunk whole and sound up to IEND: Pillow checks neither the pixels' checksums nor the end."""
    position, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        try:
            length, kind = struct.unpack_from(">I4s", data, position)
            (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        except struct.error as error:
            raise BadImage(f"expected a whole PNG, got one cut short at {len(data)} bytes") from error
        if zlib.crc32(memoryview(data)[position + 4 : position + 8 + length]) != checksum:
            raise BadImage(f"expected an intact PNG, got a wrong checksum in the chunk at byte {position}")
        position += 12 + length


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if max(image.size) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BadImage(f"expected {_SIZE}, got {width}x{height}")


def _check_depth(image: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse more than 8 bits a channel; asks the file, since Pillow often cuts to 8 bits by itself."""
    depth = 32 if image.mode == "F" else 16 if image.mode.startswith("I") else 8
    if image.format == "PNG":
        depth = data[24]
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        depth = max(image.tag_v2.get(258, (1,)))
    elif image.format == "PPM":
        arguments = image.tile[0][3]  # the largest value is the last of them, where it takes a decoder
        depth = max(depth, arguments[-1].bit_length() if isinstance(arguments, tuple) else 0)
    elif image.format == "JPEG2000":
        start = data.find(b"\xff\x4f\xff\x51")
        (channels,) = struct.unpack_from(">H", data, start + 40)
        depth = max((size & 0x7F) + 1 for size in data[start + 42 : start + 42 + 3 * channels : 3])
    elif image.format == "AVIF" and re.search(rb"av1C\x81.[\x40-\x7f\xc0-\xff]", data, re.DOTALL):
        depth = 10  # or 12; the high_bitdepth flag is enough to refuse it
    if depth > 8:
        raise BadImage(f"expected 8 bits a channel, got {depth}")


def _check_single(image: Image.Image, notes: list[str]) -> None:
    frames = getattr(image, "n_frames", 1)
    # Cameras and telephones append previews, depth or gain maps to the photograph.
    if image.format in ("JPEG", "MPO") and "mp" in image.info:
        notes.append("took the first of several pictures in the file")
    elif frames > 1:
        raise BadImage(f"expected one picture, got {frames} frames")
    # Many camera raw files are a TIFF whose first page is but a thumbnail.
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(254, 0) & 1:
        raise BadImage("expected a full picture, got a reduced preview (a camera raw file?)")


def _take_exif(image: Image.Image, notes: list[str]) -> tuple[int, bytes]:
    """The orientation yet to be applied, and the EXIF that holds once it is."""
    try:
        block = _exif_block(image)
        if not block:
            return 1, b""
        orientation, block = _reset_orientation(block)
    except Exception:  # the picture is worth more than its metadata, however broken that is
        notes.append("unreadable EXIF dropped")
        return 1, b""
    if not 1 <= orientation <= 8:
        notes.append(f"unknown EXIF orientation {orientation} taken as 1")
    return orientation, _EXIF_PREFIX + block


def _exif_block(image: Image.Image) -> bytes:
    block: bytes = image.info.get("exif") or b""
    if not block and "Raw profile type exif" in image.info:  # how PNG carried it before it had a chunk for it
        block = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    if image.format == "TIFF":
        exif = image.getexif()
        exif.bigtiff = False
        for tag in set(exif) - _TIFF_EXIF_TAGS:
            del exif[tag]
        block = exif.tobytes() if len(exif) else b""
    return block.removeprefix(_EXIF_PREFIX)


def _reset_orientation(block: bytes) -> tuple[int, bytes]:
    """The orientation in a bare EXIF block (1 if none), and the block with 1 in its place.

    Raises struct.error or KeyError for a block that is no EXIF.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}[block[:4]]
    (directory,) = struct.unpack_from(order + "I", block, 4)
    (entries,) = struct.unpack_from(order + "H", block, directory)
    orientation, patched = 1, bytearray(block)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, _, _ = struct.unpack_from(order + "HHII", block, entry)
        if tag == ExifTags.Base.Orientation:
            layout = order + {1: "B", 3: "H", 4: "I"}[kind]
            (orientation,) = struct.unpack_from(layout, block, entry + 8)
            struct.pack_into(layout, patched, entry + 8, 1)
    return orientation, bytes(patched)


def _note_left_behind(image: Image.Image, data: bytes, notes: list[str]) -> None:
    found = [phrase for key, phrase in _LEFT_BEHIND.items() if image.info.get(key)]
    if set(getattr(image, "text", ())) - {"Raw profile type exif", "XML:com.adobe.xmp", _MARK}:
        found.append("PNG text")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found += [_IPTC] if {33723, 34377} & set(image.tag_v2) else []
        found += ["extra channel of unknown meaning"] if 0 in image.tag_v2.get(338, ()) else []
    if b"jumb" in data and b"c2pa" in data:
        found.append("C2PA manifest")
    notes += [f"{phrase} not carried" for phrase in dict.fromkeys(found)]


def _find_icc(image: Image.Image, data: bytes) -> bytes:
    """The file's ICC profile, in whatever state, or empty."""
    start = data.find(b"colr\x02") if image.format == "JPEG2000" else -1  # Pillow does not look for it there
    if start >= 4:
        return data[start + 7 : start - 4 + int.from_bytes(data[start - 4 : start], "big")]
    if "icc_profile" in image.info:
        return image.info["icc_profile"] or b"\0"  # None: Pillow could not put its pieces together
    return b""


def _split_alpha(image: Image.Image, flatten: bool, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """The picture without transparency (L if it was grey), and its alpha unless all of it is opaque."""
    if not image.has_transparency_data:
        return image, None
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    base = rgba.getchannel("R") if image.mode in ("1", "L", "LA", "La") else rgba.convert("RGB")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        notes.append("fully opaque alpha channel dropped")
        return base, None
    if not flatten:
        raise BadImage("expected an opaque picture, got transparent pixels; flatten them with --background")
    return base, alpha


def _to_rgb(image: Image.Image, icc: bytes, notes: list[str]) -> tuple[Image.Image, bytes]:
    """RGB pixels and the profile they are in; a profile for another colour space never stays with them."""
    mode = ""
    if icc:
        try:
            mode = _ICC_MODES[icc[16:20]]
            transform = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(icc)),
                ImageCms.createProfile("sRGB"),
                mode,
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (KeyError, OSError, ImageCms.PyCMSError):
            notes.append("unusable ICC profile dropped")
            icc = b""
        else:
            if image.mode == mode != "RGB":
                notes.append(f"{'grey' if mode == 'L' else mode} converted to sRGB through its ICC profile")
                return transform.apply(image), b""
    if image.mode not in ("RGB", "L", "1", "P"):
        notes.append(f"{image.mode} converted to RGB without a profile")
    if icc and mode != "RGB":
        notes.append(f"ICC profile for another colour space ({mode}) dropped")
        icc = b""
    return image.convert("RGB"), icc
