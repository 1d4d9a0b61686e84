"""The report of `svcdns check`, and its JSON schema in docs/."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from svcdns.inspection.reading import read
from svcdns.inspection.report import Report, report, schema

ROOT = Path(__file__).parents[2]


def test_the_documented_schema_is_that_of_the_report() -> None:
    assert json.loads((ROOT / "docs/schemas/check.json").read_text()) == schema()


def test_problems_are_in_the_order_of_their_places(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n forward . 127.0.0.1 {\n  policy x\n }\n cahce\n log {\n  class y\n }\n}\n")
    found = report(read(str(path), environ={}))
    assert [one.line for one in found.problems] == [3, 5, 7]
    assert (found.starts, found.errors, found.warnings) == (False, 3, 0)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found
