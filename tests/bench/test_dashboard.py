"""The pictures of `bench.dashboard`, with a Prometheus that is replaced by fixed series."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.dashboard import DASHBOARD, Prometheus, Series, draw, name_of, nice, numbers, value_text

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "dashboard.svg"
SVG = "{http://www.w3.org/2000/svg}"


class Fixed(Prometheus):
    """Returns the same two lines for each expression, or none."""

    def __init__(self, *series: Series) -> None:
        super().__init__("")
        self.series = list(series)

    def range(self, expression: str, begin: float, end: float, legend: str) -> list[Series]:
        return self.series


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def titles() -> list[str]:
    return [panel["title"] for panel in json.loads(DASHBOARD.read_text())["panels"]]


def test_every_panel_is_drawn() -> None:
    series = (Series("a & b", [(0.0, 1.0), (10.0, 4.0)]), Series("other", [(0.0, 0.0)]))
    picture = draw(json.loads(DASHBOARD.read_text()), Fixed(*series), 0, 10, "a note")
    assert set(titles()) <= set(texts(picture))
    assert "a & b" in texts(picture)
    assert "no data" not in texts(picture)


def test_a_panel_without_data_says_so() -> None:
    picture = draw(json.loads(DASHBOARD.read_text()), Fixed(), 0, 10, "")
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert texts(picture).count("no data") == len(panels)


def test_the_picture_of_the_page_has_the_panels_of_the_dashboard() -> None:
    """If this fails, run `python -m bench.dashboard`."""
    found = texts(PICTURE.read_text())
    assert set(titles()) <= set(found)
    assert "no data" not in found


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0123, "s", "12.3 ms"), (1500, "reqps", "1.5 k/s"), (0.5, "percentunit", "50 %"), (0, "s", "0 s"), (0.5, "short", "0.5")],
)  # fmt: skip
def test_values_with_their_units(value: float, unit: str, text: str) -> None:
    assert value_text(value, unit) == text


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (7, 10), (30, 50)])
def test_the_top_of_an_axis(value: float, top: float) -> None:
    assert nice(value) == pytest.approx(top)


def test_names_and_numbers_of_series() -> None:
    assert name_of("p99 {{zone}} {{no}}", {"zone": "."}) == "p99 . "
    assert numbers([(1, "2"), (2, "NaN"), (3, "+Inf")]) == [(1.0, 2.0)]
    assert not any(math.isnan(value) for _, value in numbers([(1, "NaN")]))
