from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, PngImagePlugin

from slic_cli import image_io
from slic_cli.errors import BadImage
from slic_cli.image_io import Picture, decode_image, encode_png

Pixels = npt.NDArray[np.uint8]

SIZES = [(1, 1), (1, 7), (7, 1), (6, 5)]
LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"big_tiff": True}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("PPM", {}),
    ("QOI", {}),
    ("JPEG2000", {}),
    ("JPEG2000", {"no_jp2": True}),
]
# What a viewer does to the stored rows and columns, from the EXIF standard's words rather than from Pillow.
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def noise(height: int = 6, width: int = 5, channels: int = 3) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int = 32, width: int = 48) -> Pixels:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 5, columns * 5, rows + columns + 40], axis=2).astype(np.uint8)


def save(image: Image.Image | Pixels, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def refused(data: bytes, expected: str, got: str, background: tuple[int, int, int] | None = None) -> None:
    with pytest.raises(BadImage) as caught:
        decode_image(data, "some file", background)
    message = str(caught.value)
    assert message.startswith("some file: expected ") and "\n" not in message
    before, _, after = message.partition(", got ")
    assert expected in before and got in after, message


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    chunks = (header, *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(tags: dict[int, tuple[int, ...]], strip: bytes) -> bytes:
    """A little-endian TIFF of one strip; every tag is of SHORTs."""
    tags = {278: (1,), 279: (len(strip),), 273: (0,), **tags}
    spill = 8 + 2 + 12 * len(tags) + 4
    outside, entries = b"", b""
    start = spill + sum(2 * len(value) for value in tags.values() if len(value) > 2)
    for tag, value in sorted({**tags, 273: (start,)}.items()):
        packed = struct.pack(f"<{len(value)}H", *value)
        if len(packed) > 4:
            outside, packed = outside + packed, struct.pack("<I", spill + len(outside))
        entries += struct.pack("<HHI", tag, 3, len(value)) + packed.ljust(4, b"\0")
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + outside + strip


def exif_block(orientation: int | None, order: str = ">", kind: int = 3, more: bytes = b"") -> bytes:
    """IFD0 with a Make, perhaps an orientation, and bytes after it as maker notes and thumbnails lie there."""
    entries = [struct.pack(order + "HHI", 271, 2, 4) + b"Abc\0"]
    if orientation is not None:
        value = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], orientation)
        entries.append(struct.pack(order + "HHI", 274, kind, 1) + value.ljust(4, b"\0"))
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "IH", 8, len(entries))
    return b"Exif\0\0" + head + b"".join(entries) + bytes(4) + more


def icc_profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    header = struct.pack(">II4s4s4s4s12x4s28x", start + len(body), 0, b"\2\x40\0\0", kind, space, pcs, b"acsp")
    header += struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + table + body


WHITE = b"XYZ \0\0\0\0" + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# A grey whose values are proportional to light, far from what a screen expects.
GREY = icc_profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": WHITE, b"kTRC": b"curv\0\0\0\0\0\0\0\x01\x01\0"})


def cmyk_profile() -> bytes:
    """An odd press: bare paper is white, full cyan prints red, everything else is black."""
    corners = bytearray(bytes([0, 128, 128]) * 16)
    corners[0:3] = bytes([255, 128, 128])
    corners[3 * 8 : 3 * 8 + 3] = bytes([138, 208, 195])
    identity = struct.pack(">9I", *(0x10000 if i % 4 == 0 else 0 for i in range(9)))
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(corners) + ramp * 3
    return icc_profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": WHITE, b"A2B0": table})


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lossless_formats_keep_every_value(kind: str, options: dict[str, Any], height: int, width: int) -> None:
    pixels = noise(height, width)
    picture = decode_image(save(pixels, kind, **options), "x")
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.flags.c_contiguous
    assert picture.icc == b"" and picture.exif == b""
    assert [note for note in picture.notes if note != "comment not carried"] == []  # JPEG 2000 signs itself


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "WEBP"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lossy_formats_keep_the_size(kind: str, height: int, width: int) -> None:
    assert decode_image(save(noise(height, width), kind), "x").pixels.shape == (height, width, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    grey = noise(channels=1)[:, :, 0]
    picture = decode_image(save(grey, kind), "x")
    np.testing.assert_array_equal(picture.pixels, np.repeat(grey[:, :, None], 3, axis=2))
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_bilevel_becomes_black_and_white(kind: str) -> None:
    bilevel = noise(channels=1)[:, :, 0] > 127
    picture = decode_image(save(Image.fromarray(bilevel), kind), "x")
    np.testing.assert_array_equal(picture.pixels, np.repeat(bilevel[:, :, None], 3, axis=2) * np.uint8(255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_palette_becomes_its_colours(kind: str) -> None:
    palette = Image.fromarray(noise()).quantize(8)
    picture = decode_image(save(palette, kind), "x")
    np.testing.assert_array_equal(picture.pixels, np.array(palette.convert("RGB")))


def test_shallow_channels_are_scaled_up() -> None:
    picture = decode_image(b"P6 2 1 15\n" + bytes([0, 5, 15, 15, 10, 0]), "x")
    assert picture.pixels.tolist() == [[[0, 85, 255], [255, 170, 0]]]


def test_grey_profile_is_applied_and_dropped() -> None:
    grey = np.array([[0, 128, 255]], dtype=np.uint8)
    picture = decode_image(save(grey, "PNG", icc_profile=GREY), "x")
    assert picture.icc == b""
    assert picture.notes == ("grey converted to sRGB through its ICC profile",)
    np.testing.assert_allclose(picture.pixels[0], [[0] * 3, [188] * 3, [255] * 3], atol=2)


def test_grey_profile_is_applied_beneath_transparency() -> None:
    pixels = np.array([[[128, 255], [128, 0]]], dtype=np.uint8)
    picture = decode_image(save(Image.fromarray(pixels, "LA"), "PNG", icc_profile=GREY), "x", (9, 8, 7))
    np.testing.assert_allclose(picture.pixels[0], [[188] * 3, [9, 8, 7]], atol=2)
    assert picture.icc == b""


def test_rgb_profile_travels_with_rgb_grey_and_palette() -> None:
    image = Image.fromarray(noise())
    for mode in ("RGB", "L", "P"):
        picture = decode_image(save(image.convert(mode), "PNG", icc_profile=SRGB), "x")
        assert picture.icc == SRGB and picture.notes == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_rgb_profile_is_found_in_every_container(kind: str) -> None:
    assert decode_image(save(noise(), kind, icc_profile=SRGB), "x").icc == SRGB


def test_rgb_profile_is_found_in_jpeg_2000() -> None:
    data = save(noise(), "JPEG2000")
    start = data.index(b"colr") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    box = struct.pack(">I4sBBB", 11 + len(SRGB), b"colr", 2, 0, 0) + SRGB
    outer = data.index(b"jp2h") - 4
    size = int.from_bytes(data[outer : outer + 4], "big") + len(box) - length
    changed = data[:outer] + struct.pack(">I", size) + data[outer + 4 : start] + box + data[start + length :]
    picture = decode_image(changed, "x")
    assert picture.icc == SRGB
    np.testing.assert_array_equal(picture.pixels, noise())


@pytest.mark.parametrize("profile", [GREY, cmyk_profile()])
def test_profile_of_another_space_never_travels_with_rgb(profile: bytes) -> None:
    picture = decode_image(save(noise(), "PNG", icc_profile=profile), "x")
    assert picture.icc == b""
    assert len(picture.notes) == 1 and picture.notes[0].startswith("ICC profile for another colour space")
    np.testing.assert_array_equal(picture.pixels, noise())


@pytest.mark.parametrize("profile", [b"junk" * 50, SRGB[:200], SRGB[:16] + b"GRAY" + SRGB[20:], b"x"])
def test_garbage_profile_is_dropped_with_a_note(profile: bytes) -> None:
    picture = decode_image(save(noise(), "PNG", icc_profile=profile), "x")
    assert picture.icc == b"" and picture.notes == ("unusable ICC profile dropped",)
    np.testing.assert_array_equal(picture.pixels, noise())


def test_profile_that_pillow_cannot_put_together_is_noted() -> None:
    data = save(smooth(), "JPEG", icc_profile=SRGB).replace(b"ICC_PROFILE\0\x01\x01", b"ICC_PROFILE\0\x01\x02")
    picture = decode_image(data, "x")
    assert picture.icc == b"" and picture.notes == ("unusable ICC profile dropped",)


def cmyk_paper_and_cyan() -> Image.Image:
    return Image.fromarray(np.array([[[0, 0, 0, 0], [255, 0, 0, 0]]], dtype=np.uint8), "CMYK")


def test_cmyk_goes_through_its_profile() -> None:
    picture = decode_image(save(cmyk_paper_and_cyan(), "TIFF", icc_profile=cmyk_profile()), "x")
    assert picture.icc == b"" and picture.notes == ("CMYK converted to sRGB through its ICC profile",)
    paper, cyan = picture.pixels[0].astype(int)
    assert paper.min() > 250
    assert cyan[0] > 220 and cyan[1] < 60 and cyan[2] < 60


@pytest.mark.parametrize("profile", [b"", SRGB, b"junk" * 50])
def test_cmyk_without_a_profile_of_its_own_is_still_converted(profile: bytes) -> None:
    picture = decode_image(save(cmyk_paper_and_cyan(), "TIFF", icc_profile=profile), "x")
    assert picture.pixels.tolist() == [[[255, 255, 255], [0, 255, 255]]]
    assert "CMYK converted to RGB without a profile" in picture.notes


def test_inverted_adobe_jpeg_is_not_a_negative() -> None:
    data = save(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    error = decode_image(data, "x").pixels.astype(int) - smooth()
    assert abs(error).mean() < 3


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_are_converted_with_a_note(mode: str) -> None:
    image = Image.fromarray(smooth())
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert converted is not None
    picture = decode_image(save(converted if mode == "LAB" else image.convert(mode), "TIFF"), "x")
    assert f"{mode} converted to RGB without a profile" in picture.notes and picture.icc == b""
    assert abs(picture.pixels.astype(int) - smooth()).mean() < 3


def transparent_files() -> dict[str, bytes]:
    """Every way a file can be transparent, each with the first pixel, and only that, see-through."""
    rgba = noise(channels=4)
    rgba[:, :, 3] = 255
    rgba[0, 0, 3] = 0
    colour = Image.fromarray(rgba[:, :, :3])
    one = np.array([[0, 1, 1]], dtype=np.uint8)
    palette = Image.fromarray(one, "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    return {
        "RGBA PNG": save(rgba, "PNG"),
        "RGBA WebP": save(rgba, "WEBP", lossless=True),
        "RGBA TIFF": save(rgba, "TIFF"),
        "RGBA AVIF": save(rgba, "AVIF"),
        "RGBA JPEG 2000": save(rgba, "JPEG2000"),
        "premultiplied TIFF": tiff(
            {256: (2,), 257: (1,), 258: (8,) * 4, 259: (1,), 262: (2,), 277: (4,), 338: (1,)},
            bytes([0, 0, 0, 0, 1, 2, 3, 255]),
        ),
        "LA PNG": save(Image.fromarray(rgba[:, :, 2:], "LA"), "PNG"),
        "PA TIFF": save(Image.fromarray(np.stack([one, one * 255], axis=2), "PA"), "TIFF"),
        "palette PNG, index": save(palette, "PNG", transparency=0),
        "palette PNG, table": save(palette, "PNG", transparency=b"\0\xff"),
        "palette GIF": save(palette, "GIF", transparency=0),
        "RGB PNG, colour": save(colour, "PNG", transparency=tuple(int(v) for v in rgba[0, 0, :3])),
        "L PNG, value": save(one, "PNG", transparency=0),
        "1 PNG, value": save(Image.fromarray(one).point(lambda v: 255 * v, "1"), "PNG", transparency=0),
    }


@pytest.mark.parametrize("name", transparent_files())
def test_transparency_needs_a_background(name: str) -> None:
    refused(transparent_files()[name], "opaque", "--background")


@pytest.mark.parametrize("name", transparent_files())
def test_transparency_is_flattened_onto_the_background(name: str) -> None:
    picture = decode_image(transparent_files()[name], "x", (11, 222, 133))
    np.testing.assert_allclose(picture.pixels[0, 0], [11, 222, 133], atol=1)  # AVIF loses a little of the alpha
    assert abs(picture.pixels[0, 1].astype(int) - [11, 222, 133]).max() > 20
    assert "flattened onto background 11,222,133" in picture.notes


def test_half_transparency_is_blended() -> None:
    picture = decode_image(save(np.array([[[200, 100, 0, 51]]], dtype=np.uint8), "PNG"), "x", (0, 0, 100))
    assert picture.pixels.tolist() == [[[40, 20, 80]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_opaque_alpha_is_dropped_with_a_note(mode: str) -> None:
    image = Image.fromarray(noise()).convert("P" if mode == "PA" else mode).convert(mode)
    picture = decode_image(save(image, "TIFF"), "x", (1, 2, 3))
    np.testing.assert_array_equal(picture.pixels, np.array(image.convert("RGB")))
    assert picture.notes == ("fully opaque alpha channel dropped",)


def test_premultiplied_grey_is_divided_out() -> None:
    image = Image.fromarray(np.array([[[100, 128]]], dtype=np.uint8), "LA").convert("La")
    base, alpha = image_io._split_alpha(image, True, [])
    assert base.mode == "L" and alpha is not None
    assert base.getpixel((0, 0)) == pytest.approx(100, abs=1) and alpha.getpixel((0, 0)) == 128


def deep_files() -> dict[str, tuple[bytes, str]]:
    deep = Image.fromarray(np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000)
    tags = {256: (1,), 257: (1,), 258: (16,) * 3, 259: (1,), 262: (2,), 277: (3,)}
    avif = bytearray(save(smooth(), "AVIF"))
    avif[avif.index(b"av1C\x81") + 6] |= 0x40
    depths = avif.index(b"pixi") + 9
    avif[depths : depths + 3] = bytes([10] * 3)
    return {
        "grey PNG": (save(deep, "PNG"), "16"),
        "RGB PNG": (png(1, 1, 16, 2, bytes(7)), "16"),
        "RGBA PNG": (png(1, 1, 16, 6, bytes(9)), "16"),
        "grey TIFF": (save(deep, "TIFF"), "16"),
        "RGB TIFF": (tiff(tags, bytes(6)), "16"),
        "integer TIFF": (save(deep.convert("I"), "TIFF"), "32"),
        "float TIFF": (save(deep.convert("F"), "TIFF"), "32"),
        "JPEG 2000": (save(deep, "JPEG2000"), "16"),
        "JPEG 2000 stream": (save(deep, "JPEG2000", no_jp2=True), "16"),
        "grey PPM": (b"P5 1 1 65535\n" + bytes(2), "16"),
        "RGB PPM": (b"P6 1 1 65535\n" + bytes(6), "16"),
        "10-bit PPM": (b"P6 # c\n1 1 1023\n" + bytes(6), "10"),
        "plain PPM": (b"P3 1 1 300 1 2 300 ", "9"),
        "float PPM": (save(deep.convert("F"), "PPM"), "32"),
        "AVIF": (bytes(avif), "10"),
    }


@pytest.mark.parametrize("name", deep_files())
def test_more_than_8_bits_are_refused(name: str) -> None:
    data, depth = deep_files()[name]
    refused(data, "8 bits a channel", depth)


def test_deep_files_differ_from_good_ones_only_in_depth() -> None:
    tags = {256: (1,), 257: (1,), 258: (8,) * 3, 259: (1,), 262: (2,), 277: (3,)}
    for data in (png(1, 1, 8, 2, b"\0\1\2\3"), tiff(tags, b"\1\2\3")):
        assert decode_image(data, "x").pixels.tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.roll(smooth(), 9 * i, axis=0)) for i in range(3)]
    refused(save(frames[0], kind, save_all=True, append_images=frames[1:]), "one picture", "3 frames")


def test_first_picture_of_a_camera_mpo_is_taken() -> None:
    first, second = smooth(), 255 - smooth()
    data = save(first, "MPO", save_all=True, append_images=[Image.fromarray(second)], quality=95)
    picture = decode_image(data, "x")
    assert abs(picture.pixels.astype(int) - first).mean() < 3
    assert picture.notes == ("took the first of several pictures in the file",)


def test_thumbnail_of_a_camera_raw_file_is_refused() -> None:
    refused(save(noise(), "TIFF", tiffinfo={254: 1}), "full picture", "reduced preview")


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "JPEG"])
def test_orientation_is_applied_and_reset(kind: str, orientation: int) -> None:
    stored = smooth()
    block: bytes | Image.Exif = exif_block(orientation)
    if kind == "TIFF":
        (exif := Image.Exif()).load(exif_block(orientation))
        block = exif
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("JPEG", "AVIF") else {}
    picture = decode_image(save(stored, kind, exif=block, **options), "x")
    upright = UPRIGHT[orientation](stored)
    assert picture.pixels.shape == upright.shape and picture.pixels.flags.c_contiguous
    assert abs(picture.pixels.astype(int) - upright).mean() < (3 if "quality" in options else 1e-9)
    assert (f"applied EXIF orientation {orientation}" in picture.notes) == (orientation != 1)
    carried = Image.Exif()
    carried.load(picture.exif)
    assert carried.get(274, 1) == 1
    assert carried[271] == "Abc"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_exif_bytes_are_kept_apart_from_the_orientation(order: str, kind: int) -> None:
    maker = b"maker notes with absolute offsets"
    picture = decode_image(save(noise(), "JPEG", exif=exif_block(6, order, kind, maker)), "x")
    assert picture.exif == exif_block(1, order, kind, maker)
    plain = decode_image(save(noise(), "JPEG", exif=exif_block(None, order, more=maker)), "x")
    assert plain.exif == exif_block(None, order, more=maker)


@pytest.mark.parametrize("orientation", [0, 9])
def test_unknown_orientation_is_noted(orientation: int) -> None:
    picture = decode_image(save(noise(), "PNG", exif=exif_block(orientation)), "x")
    np.testing.assert_array_equal(picture.pixels, noise())
    assert picture.exif == exif_block(1)
    assert picture.notes == (f"unknown EXIF orientation {orientation} taken as 1",)


def test_exif_in_the_old_png_text_is_read() -> None:
    block = exif_block(3)
    profile = f"\nexif\n{len(block):8}\n{block.hex()}\n"
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", profile, zip=True)
    picture = decode_image(save(noise(), "PNG", pnginfo=info), "x")
    np.testing.assert_array_equal(picture.pixels, noise()[::-1, ::-1])
    assert picture.exif == exif_block(1) and picture.notes == ("applied EXIF orientation 3",)


@pytest.mark.parametrize("big", [False, True])
def test_tiff_exif_carries_the_picture_and_not_the_file(big: bool) -> None:
    exif = Image.Exif()
    exif[271], exif[34665] = "Abc", {0x9003: "2024:05:06 07:08:09"}
    loaded = Image.Exif()
    loaded.load(exif.tobytes())
    carried = Image.Exif()
    carried.load(decode_image(save(noise(), "TIFF", exif=loaded, big_tiff=big), "x").exif)
    assert set(carried) == {271, 34665}
    assert carried.get_ifd(34665) == {0x9003: "2024:05:06 07:08:09"}


@pytest.mark.parametrize("block", [b"junk", b"II*\0", b"MM\0*\xff\xff\xff\xff", exif_block(6)[6:-20]])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_is_dropped_with_a_note(kind: str, block: bytes) -> None:
    picture = decode_image(save(smooth(), kind, exif=b"Exif\0\0" + block), "x")
    assert picture.exif == b"" and "unreadable EXIF dropped" in picture.notes
    assert abs(picture.pixels.astype(int) - smooth()).mean() < 9


def test_what_cannot_be_carried_is_named() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "somebody")
    assert decode_image(save(noise(), "PNG", pnginfo=info), "x").notes == ("PNG text not carried",)
    jpeg = save(noise(), "JPEG", xmp=b"<x/>", comment=b"hello")
    assert decode_image(jpeg, "x").notes == ("XMP not carried", "comment not carried")
    assert decode_image(jpeg + b"jumb...c2pa", "x").notes[-1] == "C2PA manifest not carried"
    iptc = save(noise(), "TIFF", tiffinfo={33723: b"caption"})
    assert decode_image(iptc, "x").notes == ("IPTC and Photoshop data not carried",)
    extra = save(Image.fromarray(noise()).convert("RGBX"), "TIFF")
    assert decode_image(extra, "x").notes == ("extra channel of unknown meaning not carried",)


@pytest.mark.parametrize(
    ("kind", "options"),
    [*LOSSLESS, ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("AVIF", {}), ("WEBP", {})],
)
def test_a_file_cut_short_is_refused(kind: str, options: dict[str, Any]) -> None:
    data = save(smooth(), kind, **options)
    decode_image(data, "x")
    for part in (0.1, 0.3, 0.5, 0.7, 0.9):
        refused(data[: int(len(data) * part)], "", "")


def test_a_png_without_its_end_is_refused() -> None:
    data = save(noise(), "PNG")
    for missing in (1, 4, 12, 20):
        refused(data[:-missing], "whole PNG", "cut short")


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(save(noise(), "PNG"))
    data[data.index(b"IDAT") + 30] ^= 1
    refused(bytes(data), "intact PNG", "checksum")


def test_a_jpeg_filled_up_with_zeros_is_refused() -> None:
    data = save(smooth(64, 64), "JPEG", quality=95)
    half = len(data) // 2
    refused(data[:half] + bytes(len(data) - half), "intact JPEG", "without its end")


def test_what_is_no_picture_is_refused() -> None:
    refused(b"", "a picture", "an empty file")
    for data in (
        b"\0",
        b"hello, world",
        b"<svg></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    ):
        refused(data, "JPEG, PNG", "none of them")


def test_size_is_bounded_before_pixels_are_touched() -> None:
    refused(png(65536, 1, 8, 2, b""), "65535 pixels a side", "65536x1")
    refused(png(2**14, 2**14 + 1, 8, 2, b""), "268435456 in all", "16384x16385")
    refused(png(60000, 60000, 8, 2, b""), "268435456 in all", "3600000000")
    refused(png(0, 5, 8, 2, b""), "", "")
    assert decode_image(png(65535, 1, 1, 0, bytes(8193)), "x").pixels.shape == (1, 65535, 3)
    refused(png(2**14, 2**14, 1, 0, b""), "intact", "truncated")


def test_pillows_own_limit_neither_refuses_nor_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(save(noise(), "PNG"), "x").notes == ()
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("data", [save(noise(), "PNG"), b"junk"])
def test_pillow_is_left_as_it_was(data: bytes) -> None:
    def state() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, warnings.filters[:]

    before = state()
    if data == b"junk":
        refused(data, "", "")
    else:
        decode_image(data, "x")
    assert state() == before


def test_pillow_warnings_become_notes(capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = save(noise(), "JPEG")
    body = b"MPF\0II*\0\x08\0\0\0\0\0"
    data = jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = decode_image(data, "x").notes
    assert any(note.startswith("Pillow: ") and "malformed MPO" in note for note in notes), notes
    assert capfd.readouterr().err == ""


def test_pillow_log_has_a_handler_so_that_python_prints_nothing() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("PIL").handlers)


@pytest.mark.parametrize(
    "error",
    [
        OSError("a\nb"),
        SyntaxError(),
        ValueError("v"),
        struct.error("s"),
        EOFError(),
        KeyError(1),
    ],
)
def test_whatever_pillow_raises_is_a_bad_image(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    refused(save(noise(), "PNG"), "", "")


def test_lack_of_memory_is_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    refused(save(noise(), "PNG"), "fits in memory", "one that does not")


def fuzzed() -> list[bytes]:
    image = Image.fromarray(smooth(12, 10))
    options = {"exif": exif_block(6), "icc_profile": SRGB}
    files = [save(image, kind, **options) for kind in ("JPEG", "PNG", "WEBP", "AVIF")]
    files += [save(image, kind) for kind in ("TIFF", "GIF", "BMP", "PPM", "JPEG2000", "QOI")]
    files.append(save(image.quantize(8), "GIF", transparency=3))
    return files


FUZZED = fuzzed()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    file=st.integers(0, len(FUZZED) - 1),
    hits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_gives_a_picture_or_a_bad_image(file: int, hits: list[tuple[int, int]]) -> None:
    data = bytearray(FUZZED[file])
    for position, value in hits:
        data[position % len(data)] = value
    try:
        picture = decode_image(bytes(data), "x", (1, 2, 3))
    except BadImage as error:
        assert "\n" not in str(error)
    else:
        assert picture.pixels.ndim == 3 and picture.pixels.shape[2] == 3


@settings(max_examples=30, deadline=None)
@given(
    pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    icc=st.sampled_from([b"", SRGB]),
    exif=st.sampled_from([b"", exif_block(1), exif_block(None, "<", more=b"notes")]),
)
def test_png_round_trip(pixels: Pixels, icc: bytes, exif: bytes) -> None:
    data = encode_png(Picture(pixels, icc, exif))
    back = decode_image(data, "x")
    np.testing.assert_array_equal(back.pixels, pixels)
    assert (back.icc, back.exif, back.notes) == (icc, exif, ())
    assert data[24:26] == b"\x08\x02"  # 8 bits, RGB


def test_png_round_trip_of_a_profile_beyond_pillows_text_limit() -> None:
    padding = np.random.default_rng(1).bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1)
    count = int.from_bytes(SRGB[128:132], "big")
    tags = {}
    for i in range(count):
        name, start, size = struct.unpack_from(">4sII", SRGB, 132 + 12 * i)
        tags[name] = SRGB[start : start + size]
    large = icc_profile(b"mntr", b"RGB ", b"XYZ ", {**tags, b"priv": b"data\0\0\0\0" + padding})
    assert decode_image(encode_png(Picture(noise(), large)), "x").icc == large


def test_png_round_trip_of_the_decoded_by_mark() -> None:
    back = decode_image(encode_png(Picture(noise(), decoded_by="some-model")), "x")
    assert back.decoded_by == "some-model" and back.notes == ()
    assert decode_image(encode_png(Picture(noise())), "x").decoded_by == ""
