"""Figures follow from the kind of a measurement, are drawn once, and fit into any page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from method_cards.measurement import Pictures
from method_cards.record import Execution, SeriesData
from method_cards.render import figures
from method_cards.render.charts import Chart, charts
from method_cards.render.figures import Curve, Drawer, Drawing, Histogram, Line, Roc
from method_cards.render.pictures import DIVERGING, MOST_COLUMNS, MOST_ROWS, sheet
from method_cards.verdict import CriterionResult, Outcome

CURVE = Curve(
    (Line("signed", (0, 1, 2), (1, 0.5, 0.1), (1, 0.4, 0.0), (1, 0.6, 0.2)),), "stage", "similarity", range=(-1, 1)
)
ROC = Roc((1.0, 2.0, 3.0, 2.5), (0.0, 1.0, 0.5, 2.2), "loss")
HISTOGRAM = Histogram(tuple(np.linspace(0, 1, 40).tolist()), "gap")


def series(name: str, values: list[float], **details: Any) -> SeriesData:
    settings: dict[str, Any] = {"kind": "mean", "range": (-1.0, 1.0), "values": tuple(values)}
    return SeriesData(name=name, **{**settings, **details})


def execution(*measured: SeriesData) -> Execution:
    facts: dict[str, Any] = {
        "check": "a/b",
        "version": "1",
        "distribution": "d",
        "parameters": {},
        "status": "complete",
    }
    return Execution(**facts, samples=8, seconds=1, forward=0, backward=0, measurements=measured)


def criterion(measurement: str, **details: Any) -> CriterionResult:
    settings: dict[str, Any] = {"claim": "c", "where": {}, "bound": "≤ 0.2", "high_bound": 0.2, "source": "s"}
    return CriterionResult(measurement=measurement, outcome=Outcome.FAILED, reason="", **{**settings, **details})


def only(found: list[Chart]) -> Chart:
    assert len(found) == 1
    return found[0]


def staged(name: str = "similarity", **extra: Any) -> list[SeriesData]:
    return [
        series(name, [1 - stage / 4] * 30, by={"stage": stage, "layer": f"conv{stage}", **extra}) for stage in range(4)
    ]


def test_a_numeric_breakdown_is_drawn_as_a_curve() -> None:
    """A quantity by stage becomes a line over the stages; a breakdown that only names the stages becomes their labels."""
    drawing = only(charts(execution(*staged()), [criterion("similarity", where={"layer": "conv3"})])).drawing
    assert isinstance(drawing, Curve)
    assert [line.x for line in drawing.lines] == [(0.0, 1.0, 2.0, 3.0)]
    assert [text for _, text in drawing.ticks] == ["conv0", "conv1", "conv2", "conv3"]
    assert [(bound.value, bound.at) for bound in drawing.bounds] == [(0.2, 3.0)]


def test_a_second_breakdown_makes_a_line_each() -> None:
    """What varies at one position is told apart by lines; what a position has one of is not."""
    measured = [*staged(map="signed", position="x"), *staged(map="absolute", position="x")]
    drawing = only(charts(execution(*measured), [criterion("similarity")])).drawing
    assert isinstance(drawing, Curve)
    assert [line.label for line in drawing.lines] == ["signed", "absolute"]


def test_a_null_on_the_same_scale_is_drawn_as_a_level() -> None:
    """A quantity that the same verdict rests on stands as a level beside the curve, and is drawn for itself as well."""
    measured = execution(*staged(), series("null_similarity", [0.1, 0.3] * 20))
    found = charts(measured, [criterion("similarity"), criterion("null_similarity")])
    assert isinstance(found[0].drawing, Curve)
    assert [label for label, _ in found[0].drawing.levels] == ["null similarity"]
    assert found[0].drawing.levels[0][1] == pytest.approx(0.2)
    assert [type(chart.drawing) for chart in found] == [Curve, Histogram]


def test_scores_of_two_groups_are_drawn_as_a_roc_curve() -> None:
    """An AUC is shown by its ROC curve and by where both groups lie."""
    scores = series("loss", [1.0, 2.0], kind="auc", range=(None, None), negatives=(0.0, 0.5))
    assert isinstance(only(charts(execution(scores), [criterion("loss")])).drawing, Roc)


def test_a_single_number_is_not_drawn() -> None:
    """There is no chart where a number serves: exact values, constant values, few values."""
    for measured in (series("x", [1.0], kind="exact"), series("x", [1.0] * 99), series("x", [0.1, 0.2])):
        assert charts(execution(measured), [criterion("x")]) == []


@pytest.mark.parametrize("drawing", [CURVE, ROC, HISTOGRAM])
def test_a_drawing_is_a_small_file_for_light_and_dark_pages(drawing: Drawing) -> None:
    """A figure is one line of well-formed SVG with its size, ink and ground for both colour schemes, and nothing from elsewhere."""
    drawn = Drawer()(drawing)
    svg = drawn.svg.decode()
    root = ET.fromstring(svg)
    assert "\n" not in svg
    assert (root.attrib["width"], root.attrib["height"]) == (str(drawn.width), str(drawn.height))
    assert "currentColor" in svg
    assert all(colour in svg for colour in (*figures.LIGHT, *figures.DARK, "prefers-color-scheme:dark"))
    assert not re.search(r"<script|#000|black|" + figures.INK, svg)
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    ids = re.findall(r'id="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= set(ids)
    assert len(svg) < 16_000


def test_the_same_data_is_drawn_once(tmp_path: Path) -> None:
    """A drawing is taken from the cache by the hash of its data, and comes out the same, byte for byte, with or without it."""
    first = Drawer(tmp_path)(CURVE)
    kept = list(tmp_path.iterdir())
    assert [path.name for path in kept] == [first.name]
    before = kept[0].stat().st_mtime_ns
    assert Drawer(tmp_path)(CURVE) == first == Drawer()(CURVE)
    assert kept[0].stat().st_mtime_ns == before
    assert len({Drawer(tmp_path)(drawing).name for drawing in (CURVE, ROC, HISTOGRAM)}) == 3


def test_many_points_weigh_little() -> None:
    """A line of thousands of points is drawn as pixels among vector text: the file stays small and well-formed."""
    walk = np.random.default_rng(0).normal(size=5000).cumsum()
    x = tuple(float(number) for number in range(5000))
    line = Line("long", x, tuple(walk.tolist()), tuple((walk - 1).tolist()), tuple((walk + 1).tolist()))
    svg = Drawer()(Curve((line,), "step", "loss")).svg.decode()
    ET.fromstring(svg)
    assert 'href="data:image/png' in svg
    assert ">step</text>" in svg
    assert len(svg) < 60_000


def test_labels_of_a_record_are_text() -> None:
    """Markup and TeX in a name are shown as they are, and break nothing."""
    line = Line("$\\frac{$ <script>alert(1)</script>", (0, 1, 2), (0, 0, 1), (0, 0, 1), (0, 0, 1))
    svg = Drawer()(Curve((line, line), "$x", "a_b^c")).svg.decode()
    ET.fromstring(svg)
    assert "<script" not in svg
    assert "$x" in svg


def pictures(values: np.ndarray[Any, np.dtype[np.float32]], *, signed: bool) -> Pictures:
    rows, columns = values.shape[:2]
    return Pictures("maps", "Look.", tuple("c" * columns), tuple("r" * rows), values, (signed,) * columns)


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)))


def test_zero_is_white_and_signs_have_their_colours() -> None:
    """In a map with signs zero is the middle colour, and equal amounts of both signs are equally far from it."""
    values = np.array([[[[0.0, 1.0], [-1.0, 0.0]]]], dtype=np.float32)
    image = pixels(sheet(pictures(values, signed=True)).png)[..., :3]
    assert image[0, 0].tolist() == DIVERGING[2].tolist()
    assert image[0, -1].tolist() == DIVERGING[-1].tolist()
    assert image[-1, 0].tolist() == DIVERGING[0].tolist()


@pytest.mark.parametrize("fill", [0.0, 3.0, -2.5, 1e-30, 1e30])
@pytest.mark.parametrize("signed", [True, False])
def test_constant_pictures_can_be_shown(fill: float, signed: bool) -> None:
    """A picture without any contrast is drawn too, since that is what a broken explainer gives."""
    assert sheet(pictures(np.full((1, 2, 4, 4), fill, dtype=np.float32), signed=signed)).png.startswith(b"\x89PNG")


def test_maps_over_positions_become_strips() -> None:
    """A map over the columns of a table or over tokens is drawn as a strip."""
    made = sheet(pictures(np.ones((2, 1, 20), dtype=np.float32), signed=True))
    assert made.width > made.height / 2


def test_many_pictures_are_cut_and_the_page_says_so() -> None:
    """More rows and columns than a page has room for are left out and counted."""
    made = sheet(pictures(np.ones((MOST_ROWS + 3, MOST_COLUMNS + 2, 2, 2), dtype=np.float32), signed=False))
    assert (len(made.rows), len(made.columns), made.left_out) == (MOST_ROWS, MOST_COLUMNS, 5)


def test_large_pictures_are_reduced() -> None:
    """A photograph of many pixels makes no page heavy: its sheet stays within the size that is shown."""
    made = sheet(pictures(np.random.default_rng(0).random((2, 2, 512, 384)).astype(np.float32), signed=False))
    assert (made.height, made.width) == (2 * 128 + 6, 2 * 96 + 6)
    assert len(made.png) < 250_000  # noise, which nothing compresses
