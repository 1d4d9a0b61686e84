"""Warnings at the start about templates that make no valid record (docs/plugins/template.md)."""

from __future__ import annotations

import logging

import pytest

from svcdns.plugins.template import gather
from tests.support import world


@pytest.mark.parametrize(
    ("answer", "warning"),
    [
        pytest.param("{{ .Name }} 60 IN A 192.0.2.1", "", id="a record"),
        pytest.param("{{ .Name }} 60 IN HTTPS 1 . alpn=h2 ech=AAT+DQAA", "", id="HTTPS"),
        pytest.param('{{ .Name }} 60 IN CAA 0 issue \\"ca.example\\; x=y\\"', "", id="an escape"),
        pytest.param("{{ .Name }} 60 IN A 192.0.2", "A data is wrong", id="no address"),
        pytest.param("{{ .Name }} 60 IN NOTHING x", "unknown type NOTHING", id="no type"),
        pytest.param("{{ .Name }} 60 IN A {{ index .Match 1 }}", "", id="what depends on the query is not known"),
        pytest.param("{{ .Name }} 60 IN A {{ .Zone.x }}", "", id="what cannot be rendered is no record's fault"),
    ],
)
def test_templates_that_make_no_record_are_warned_of(
    answer: str, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has the position of the template, and the start continues."""
    options = world.options(
        "template", f'template IN ANY example.org {{\n authority "{{{{ .Zone }}}} 60 IN NS ns."\n answer "{answer}"\n}}'
    )
    assert gather(options, {}) == {}
    assert [record.levelno for record in caplog.records] == ([logging.WARNING] if warning else [])
    assert ("its answers are SERVFAIL position=Corefile:4:9" in caplog.text) == bool(warning)
    assert warning in caplog.text


def test_the_root_zone_has_names_too(caplog: pytest.LogCaptureFixture) -> None:
    """The sample name for the root zone must be valid, so that no wrong warning is written."""
    options = world.options("template", 'template IN TXT . {\n answer "{{ .Name }} 60 IN TXT x"\n}')
    assert gather(options, {}) == {}
    assert not caplog.records
