"""Reading a Corefile with several errors. One reading finds all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from svcdns.corefile.load import CorefileMissingError
from svcdns.inspection.reading import Reading, read, read_given
from svcdns.inspection.rules import apply

BROKEN = Path(__file__).parent / "broken_corefiles"
COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook.md"
RECIPES = dict(re.findall(r"^## (.+?)$.*?^```corefile\n(.*?)^```", COOKBOOK.read_text(), re.MULTILINE | re.DOTALL))

EXPECTED = {
    "acl-action-unknown": (10, "option"),
    "cache-negative-ttl": (9, "option"),
    "environment-unset": (9, "option"),
    "external-k8s-gateway": (3, "unknown-directive"),
    "external-mdns": (9, "unknown-directive"),
    "forward-16-upstreams": (9, "option"),
    "forward-policy-unknown": (10, "option"),
    "forward-without-upstream": (9, "option"),
    "health-twice-same-port": (15, "page-twice"),
    "import-of-itself": (1, "syntax"),
    "import-override-second-kubernetes": (10, "option"),
    "loadbalance-unknown": (9, "option"),
    "missing-closing-brace": (10, "syntax"),
    "namespaces-and-namespace-labels": (7, "option"),
    "old-federation": (9, "unknown-directive"),
    "old-kubernetes-resyncperiod": (7, "option"),
    "old-kubernetes-upstream": (7, "option"),
    "plugin-twice": (11, "option"),
    "port-too-large": (1, "syntax"),
    "reload-too-short": (9, "option"),
    "reverse-zones-bare": (4, "no-cluster-zone"),
    "rewrite-bad-regex": (9, "option"),
    "snippet-defined-twice": (4, "syntax"),
    "template-bad-text": (10, "option"),
    "template-type-by-number": (9, "option"),
    "two-plugins-on-a-line": (9, "option"),
    "unknown-plugin": (9, "unknown-directive"),
    "zone-empty-label": (11, "syntax"),
    "zone-file-missing": (9, "file"),
    "zone-in-two-blocks": (11, "overlap"),
}


def reading_of(tmp_path: Path, text: str, **environ: str) -> Reading:
    path = tmp_path / "Corefile"
    path.write_text(text)
    return read(str(path), environ=environ)


def places(reading: Reading) -> list[tuple[int, str]]:
    return [(one.position.line, one.rule) for one in sorted(reading.problems, key=lambda one: one.place)]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_only_defect_is_found_at_its_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    reading = read(f"{name}.Corefile", environ={})
    apply(reading)
    assert [place for place in places(reading) if place[1] != "second-directive"] == [EXPECTED[name]]


def test_an_option_of_a_second_directive_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first directive is the place for it."""
    monkeypatch.chdir(BROKEN)
    reading = read("import-override-second-kubernetes.Corefile", environ={})
    found = next(one for one in reading.problems if one.rule == "second-directive")
    assert (found.position.line, found.message) == (12, "'pods verified' is only in the second 'kubernetes'")
    assert found.mend == "write it in the first one, at line 4, and remove the second one"


def test_every_broken_corefile_is_expected() -> None:
    assert {path.stem for path in BROKEN.glob("*.Corefile")} == set(EXPECTED)


def test_all_errors_are_found_at_once(tmp_path: Path) -> None:
    text = """. {
    import nothing.conf
    cahce 30
    forward . 127.0.0.1 {
        policy fastest
        max_fails many
        expire 5s
    }
    errors {
        consolidate x
    }
}
corp..test {
    whoami x
}
"""
    assert places(reading_of(tmp_path, text)) == [
        (2, "syntax"),
        (3, "unknown-directive"),
        (5, "option"),
        (6, "option"),
        (10, "option"),
        (13, "syntax"),
        (14, "option"),
    ]


def test_what_is_right_is_planned_beside_what_is_wrong(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, ". {\n cache 30 {\n  prefetch x\n  keepttl\n }\n whoami\n}\n")
    assert places(reading) == [(3, "option")]
    assert reading.plans[0].options["cache"].keepttl
    assert "whoami" in reading.plans[0].options


def test_all_keys_that_overlap_are_found(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "a.test b.test {\n whoami\n}\na.test {\n whoami\n}\nb.test {\n whoami\n}\n")
    assert places(reading) == [(4, "overlap"), (7, "overlap")]


def test_a_block_with_a_view_may_have_the_keys_of_another(tmp_path: Path) -> None:
    inner = "a.test {\n view inner {\n  expr incidr(client_ip(), '10.0.0.0/8')\n }\n whoami\n}\n"
    assert places(reading_of(tmp_path, inner + "a.test {\n whoami\n}\n")) == []
    assert places(reading_of(tmp_path, "a.test {\n whoami\n}\na.test {\n whoami\n}\n")) == [(4, "overlap")]


def test_warnings_of_a_start_are_problems(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "a.test {\n whoami\n health { lameduck 5s }\n}\n}\n")
    assert (5, "ignored-text") in places(reading)


def test_errors_of_variables_have_the_variable_as_file(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, ". {\n forward . 127.0.0.1\n}\n", SVCDNS_LEAK_GUARD="never")
    assert [(one.position.file, one.rule) for one in reading.problems] == [("SVCDNS_LEAK_GUARD", "option")]


def test_options_that_conflict_with_those_of_another_block(tmp_path: Path) -> None:
    """The ACME options of one domain must be the same everywhere."""
    block = "tls://.:{} {{\n tls {{\n  acme a.example\n  email {}\n }}\n whoami\n}}\n"
    text = block.format(853, "a@a.example") + block.format(854, "b@b.example")
    assert places(reading_of(tmp_path, text)) == [(9, "option")]


def test_a_block_with_tls_needs_a_certificate(tmp_path: Path) -> None:
    assert places(reading_of(tmp_path, "tls://. {\n whoami\n}\n")) == [(1, "certificate")]


def test_an_unknown_interface_is_found(tmp_path: Path) -> None:
    assert places(reading_of(tmp_path, ". {\n bind nosuch0\n whoami\n}\n")) == [(2, "bind")]


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(CorefileMissingError):
        read(str(tmp_path / "absent"), environ={})


def test_without_a_corefile_the_built_in_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reading = read(None, environ={})
    assert not reading.problems
    assert "whoami" in reading.plans[0].options


@pytest.mark.parametrize("heading", sorted(RECIPES))
def test_recipes_of_the_cookbook_have_only_files_that_are_missing(heading: str, tmp_path: Path) -> None:
    reading = reading_of(tmp_path, RECIPES[heading])
    apply(reading)
    assert [one for one in reading.problems if one.rule not in ("file", "ignored-text", "bind")] == []


def test_an_unset_environment_variable_is_named() -> None:
    text = ".:53 {\n forward . {$NO_SUCH_RESOLVER}\n}\n"
    [problem] = read_given(text, "Corefile", environ={}).problems
    assert problem.message.endswith("; the environment variable NO_SUCH_RESOLVER is not set")
