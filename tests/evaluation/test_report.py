"""`slic evaluate` from the command line: one cell of each table worked out again with Pillow, NumPy and the codec."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from test_cli import psnr, slic

from evaluation.conftest import EDITS, HEIGHT, SECURED, VANILLA, WIDTH, Report
from slic_cli.attacks import parse_attack
from slic_cli.codec import Codec

Pixels = npt.NDArray[np.uint8]
Codecs = dict[str, Codec]

NEAR_DB = 0.005  # another number of threads rounds a pixel here and there otherwise


def jpeg(pixels: Pixels, **options: object) -> tuple[Pixels, int]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return np.array(Image.open(file)), len(file.getvalue())


def again(codec: Codec, pixels: Pixels) -> Pixels:
    return codec.recompress(pixels)[1]


def test_table_4_cell(report: Report, codecs: Codecs) -> None:
    codec, values = codecs[SECURED], []
    for pixels in report.pictures():
        edited, _ = jpeg(again(codec, pixels), quality=75)
        values.append(psnr(edited, again(codec, edited)))
    (row,) = (row for row in report.rows("4") if row["edit"] == "jpeg 75")
    assert row["psnr_db"] == pytest.approx(np.mean(values), abs=NEAR_DB)
    assert (row["lowest_db"], row["highest_db"]) == pytest.approx((min(values), max(values)), abs=NEAR_DB)
    assert len(set(np.round(values, 6))) == row["pictures"] == 3
    assert 0 < row["ms_ssim"] < 1 and row["lpips"] is None


def test_table_4_has_a_row_for_each_edit_and_the_papers_figures(report: Report) -> None:
    rows = {row["edit"]: row for row in report.rows("4")}
    assert list(rows) == ["no edit", "blur r=1", "jpeg 75", "sharpen", "noise s=2", "inpaint 0.25", "crop 0.9"]
    assert rows["no edit"]["paper"] == "about 5"
    assert rows["sharpen"]["paper"] == "< 10"
    assert rows["noise s=2"]["paper"] is None


def test_the_area_outside_a_local_edit(report: Report, codecs: Codecs) -> None:
    codec, values = codecs[SECURED], []
    top, left, height, width = 61, 67, 41, 45  # the middle quarter of each side
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[top : top + height, left : left + width] = True
    for pixels in report.pictures():
        first = again(codec, pixels)
        edited = parse_attack("inpaint").apply(first)
        assert np.array_equal(edited[~inside], first[~inside])
        values.append([psnr(edited[mask], again(codec, edited)[mask]) for mask in (~inside, inside)])
    (row,) = (row for row in report.rows("4") if row["edit"] == "inpaint 0.25")
    figures = row["psnr_outside_db"], row["psnr_inside_db"]
    assert figures == pytest.approx(tuple(np.mean(values, axis=0)), abs=NEAR_DB)
    assert all(row["psnr_outside_db"] is None for row in report.rows("4") if row["edit"] != "inpaint 0.25")


def test_table_5_cell(report: Report, codecs: Codecs) -> None:
    (row,) = (row for row in report.rows("5") if row["base"] == VANILLA)  # the registry has others
    firsts = [again(codecs[SECURED], pixels) for pixels in report.pictures()]
    assert row["psnr_db"] == pytest.approx(np.mean([psnr(x, again(codecs[VANILLA], x)) for x in firsts]), abs=NEAR_DB)
    whole = [psnr(pixels, again(codecs[VANILLA], pixels)) for pixels in report.pictures()]
    assert row["photograph_db"] == pytest.approx(np.mean(whole), abs=NEAR_DB)
    assert (row["model"], row["base"], row["own"], row["paper"]) == (SECURED, VANILLA, "yes", "about 17")


def test_table_3_cell(report: Report) -> None:
    """From the single figures of records.csv: those of the eight edits that were asked for, and their mean."""
    with (report.output / "records.csv").open() as stream:
        lines = [line for line in csv.DictReader(stream) if line["source"] == SECURED]
    means = {
        edit: np.mean([float(line["psnr_db"]) for line in lines if line["edit"] == edit and line["coder"] == SECURED])
        for edit in ("blur:radius=1", "sharpen", "crop:fraction=0.9")  # JPEG 75 is no default
    }
    (row,) = report.rows("3")
    assert row["metric"] == "lpips"
    assert row["eight_db"] == pytest.approx(np.mean(list(means.values())))
    assert {edit: row[edit] for edit in means} == pytest.approx(means)
    assert "jpeg:quality=75" not in row
    assert "| blur r=1 (dB) |" in (report.output / "tables.md").read_text()
    assert row["destroyed"] == f"{sum(mean < 10 for mean in means.values())} of 3"


def test_rate_curve_cells(report: Report, workplace: Path) -> None:
    rows = {(row["codec"], row["setting"]): row for row in report.rows("rd")}
    made = [jpeg(pixels, quality=75, subsampling="4:2:0", optimize=True) for pixels in report.pictures()]
    row = rows["JPEG", "quality 75"]
    assert row["bpp"] == pytest.approx(np.mean([8 * size / (HEIGHT * WIDTH) for _, size in made]))
    assert row["psnr_db"] == pytest.approx(
        np.mean([psnr(a, b[0]) for a, b in zip(report.pictures(), made, strict=True)])
    )
    sizes = []
    for path in report.photographs.iterdir():
        assert slic("encode", path, "--model", SECURED, "-o", workplace / "x.slic", "--force", "-q").code == 0
        sizes.append((workplace / "x.slic").stat().st_size)
    own = rows["bmshj2018-hyperprior, SLIC lpips", SECURED]
    assert own["bpp"] == pytest.approx(8 * np.mean(sizes) / (HEIGHT * WIDTH))
    assert ("bmshj2018-hyperprior, vanilla", VANILLA) in rows
    assert rows["bmshj2018-hyperprior, published", "quality 8"]["psnr_db"] == 40.56  # for data sets called Kodak alone


def test_difference_at_the_same_rate(report: Report) -> None:
    rows = report.rows("rd")
    (own,) = (row for row in rows if row["setting"] == SECURED)
    rates = [float(np.log(row["bpp"])) for row in rows if row["codec"] == "JPEG"]
    levels = [float(row["psnr_db"]) for row in rows if row["codec"] == "JPEG"]
    (row,) = (row for row in report.rows("rd-differences") if row["against"] == "JPEG")
    assert rates[0] < np.log(own["bpp"]) < rates[-1]
    expected = own["psnr_db"] - np.interp(np.log(own["bpp"]), rates, levels)
    assert row["same_rate_db"] == pytest.approx(expected)
    assert row["bd_psnr_db"] is None  # a single SLIC rate is no curve


def test_harmless_cell(report: Report, codecs: Codecs) -> None:
    codec = codecs[SECURED]
    pairs = []
    for pixels in report.pictures():
        mine, other = (jpeg(x, quality=75)[0] for x in (again(codec, pixels), pixels))
        pairs.append((psnr(mine, again(codec, mine)), psnr(other, again(codec, other))))
    secured, innocent = zip(*pairs, strict=True)
    (row,) = (row for row in report.rows("harmless") if row["edit"] == "jpeg 75")
    assert row["threshold_db"] == pytest.approx(max(secured), abs=NEAR_DB)  # 99% of three are all three
    assert row["innocent_db"] == pytest.approx(np.mean(innocent), abs=NEAR_DB)
    assert row["false_alarms"] == sum(value <= max(secured) + 1e-9 for value in innocent) / 3
    above = [(i > s) + 0.5 * (i == s) for i in innocent for s in secured]  # the area is the chance to rank a pair right
    assert row["area"] == pytest.approx(np.mean(above))
    assert report.rows("harmless")[-1]["pictures"] == 3 * (len(EDITS) + 1)


def test_every_figure_is_in_the_csv(report: Report) -> None:
    lines = list(csv.DictReader(io.StringIO((report.output / "records.csv").read_text())))
    records = [json.loads(line) for line in (report.output / "records.jsonl").read_text().splitlines()]
    assert len(lines) == len(records) == len({tuple(line.values())[:5] for line in lines})
    assert sum(float(line["bytes"]) for line in lines) == sum(record["bytes"] for record in records)


def test_json_and_file_agree(report: Report) -> None:
    printed = {key: value for key, value in report.printed.items() if key != "report"}
    assert printed == json.loads((report.output / "tables.json").read_text())
    assert report.printed["datasets"] == {"kodak-like": ["photo0.png", "photo1.png", "photo2.png"]}


def test_markdown_shows_what_json_holds(report: Report) -> None:
    text = (report.output / "tables.md").read_text()
    (row,) = (row for row in report.rows("4") if row["edit"] == "blur r=1")
    section = text.split("## Table 4")[1].split("\n## ")[0]
    (line,) = (line for line in section.splitlines() if line.startswith("| blur r=1 "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert f"{row['psnr_db']:.2f}" in cells and f"{row['ms_ssim']:.3f}" in cells
    assert "LPIPS" not in text


class Page(HTMLParser):
    """What a browser would have to fetch, and whether all that was opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for key, value in attributes if key in ("src", "href", "xlink:href", "data")]
        if tag not in ("meta", "img", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for key, value in attributes if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_beside_it(report: Report) -> None:
    text = (report.output / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.sources) == 3 and all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    drawings = text.split("<svg")[1:]
    assert len(drawings) == 3
    for drawing in drawings:
        ElementTree.fromstring("<svg" + drawing.split("</svg>")[0] + "</svg>")
    dots = drawings[0].count("<circle")
    assert dots == len(report.rows("4"))
