"""Reports about directives and options that CoreDNS treats differently."""

from __future__ import annotations

from pathlib import Path

from svcdns.inspection.coredns import differences
from svcdns.inspection.problem import Severity
from svcdns.inspection.reading import read


def test_own_options_and_directives_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n rrl {\n  responses-per-second 5\n }\n forward . 127.0.0.1 {\n  leak_guard off\n }\n}\n}\n")
    reading = read(str(path), environ={"SVCDNS_REBIND": "block"})
    found = list(differences(reading))
    assert [one.position.line for one in found] == [2, 6, 9]
    assert {one.severity for one in found} == {Severity.NOTE}
    assert "SVCDNS_LEAK_GUARD" in found[1].mend


def test_the_stock_corefile_has_no_differences(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(".:53 {\n errors\n health\n ready\n kubernetes cluster.local\n forward . 1.1.1.1\n cache 30\n}\n")
    assert list(differences(read(str(path), environ={}))) == []
