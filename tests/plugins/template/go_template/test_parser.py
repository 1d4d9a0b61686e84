"""Templates: rendered text, and errors."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.template.go_template import RenderError, Struct, TemplateError, parse_template

DATA = Struct(
    Name="a.b.",
    N=3,
    Zero=0,
    Match=["a.b.", "a", "b"],
    Group={"x": "1", "y": "2"},
    Sub=Struct(Name="inner", Twice=lambda text: text + text),
    Empty=[],
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{{ .Name }} 60 IN A", "a.b. 60 IN A", id="a field"),
        pytest.param("{{.Sub.Name}}{{(.Sub).Name}}{{$.Name}}", "innerinnera.b.", id="fields of fields"),
        pytest.param("{{ .Group.x }}{{ .Group.z }}", "1<no value>", id="keys of a map"),
        pytest.param("{{ index .Match 1 }}-{{ index .Group `y` }}-{{ index .Group `z` }}", "a-2-", id="index"),
        pytest.param('{{ .Sub.Twice "x" }}{{ "y" | .Sub.Twice }}', "xxyy", id="a function of a struct"),
        pytest.param('{{ .Name | printf "%s-%d" "x" | len }}', "18", id="pipes"),
        pytest.param("{{ len (print .Name (len .Match)) }}", "5", id="parentheses"),
        pytest.param("{{ if .Empty }}a{{ else if eq .N 3 }}b{{ else }}c{{ end }}", "b", id="if, else if"),
        pytest.param("{{ if .Zero }}a{{ end }}.", ".", id="if without else"),
        pytest.param("{{ if and .N .Zero }}a{{ else }}{{ or .Zero .Name }}{{ end }}", "a.b.", id="and, or"),
        pytest.param("{{ .Zero | or .N }}", "3", id="or at the end of a pipe"),
        pytest.param("{{ and .Zero (index .Match 9) }}", "0", id="and does not evaluate more than it needs"),
        pytest.param("{{ with .Sub }}{{ .Name }}{{ $.Name }}{{ else }}x{{ end }}", "innera.b.", id="with"),
        pytest.param("{{ with .Empty }}x{{ else }}{{ .Name }}{{ end }}", "a.b.", id="with an empty value"),
        pytest.param("{{ with .Empty }}x{{ else with .Sub }}{{ .Name }}{{ end }}", "inner", id="else with"),
        pytest.param("{{ range .Match }}[{{ . }}]{{ end }}", "[a.b.][a][b]", id="range"),
        pytest.param(
            "{{ range $i, $e := .Match }}{{ $i }}{{ $e }},{{ end }}", "0a.b.,1a,2b,", id="range with variables"
        ),
        pytest.param("{{ range $k, $v := .Group }}{{ $k }}={{ $v }} {{ end }}", "x=1 y=2 ", id="range over a map"),
        pytest.param("{{ range $e := .Group }}{{ $e }}{{ end }}", "12", id="range with one variable"),
        pytest.param("{{ range 3 }}{{ . }}{{ end }}", "012", id="range over a number"),
        pytest.param("{{ range .Empty }}x{{ else }}none{{ end }}", "none", id="range over an empty list"),
        pytest.param(
            "{{ range .Match }}{{ if eq . `a` }}{{ continue }}{{ end }}{{ . }}{{ end }}", "a.b.b", id="continue"
        ),
        pytest.param("{{ range 9 }}{{ if eq . 2 }}{{ break }}{{ end }}{{ . }}{{ end }}", "01", id="break"),
        pytest.param(
            "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ $y }}{{ end }}{{ $x }}", "32", id="variables"
        ),
        pytest.param(
            "{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21", id="a variable of an inner body"
        ),
        pytest.param("{{ if $x := .N }}{{ $x }}{{ end }}", "3", id="a variable of a condition"),
        pytest.param("{{ true }}{{ nil | not }}{{ 'a' }}{{ 1.5 }}", "truetrue971.5", id="literals"),
        pytest.param("a {{- /* c */ -}} b", "ab", id="a comment"),
    ],
)
def test_rendering(text: str, expected: str) -> None:
    assert parse_template(text).render(DATA) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{{ if .N }}", id="no end"), pytest.param("{{ end }}", id="end alone"), pytest.param("{{ else }}", id="else alone"),
        pytest.param("{{ if .N }}{{ else }}{{ else }}{{ end }}", id="two elses"), pytest.param("{{ if }}{{ end }}", id="no condition"),
        pytest.param("{{ unknown }}", id="an unknown function"), pytest.param("{{ $x }}", id="an unknown variable"),
        pytest.param("{{ $x = 1 }}", id="a variable that is not declared"), pytest.param("{{ (.N }}", id="open parenthesis"),
        pytest.param("{{ .N ) }}", id="closed one"), pytest.param("{{ .N | }}", id="half a pipe"), pytest.param("{{ break }}", id="break"),
        pytest.param("{{ define `x` }}{{ end }}", id="define"), pytest.param('{{ "a""b" }}', id="no space between"),
        pytest.param("{{ if .N }}{{ $x := 1 }}{{ end }}{{ $x }}", id="a variable outside of its body"),
        pytest.param("{{ range $a, $b, $c := .N }}{{ end }}", id="three variables"), pytest.param("{{ if .N }}{{ end .N }}", id="more"),
        pytest.param("{{ with .N }}{{ else if .N }}{{ end }}", id="another kind of else"),
        pytest.param("{{ if 1 }}" * 60 + "{{ end }}" * 60, id="too deep"), pytest.param("{{" + "(" * 60 + "1" + ")" * 60 + "}}", id="deep"),
    ],
)  # fmt: skip
def test_invalid_templates(text: str) -> None:
    """The error is raised when the template is compiled."""
    with pytest.raises(TemplateError):
        parse_template(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{{ .Other }}", id="an unknown field"), pytest.param("{{ .Name.X }}", id="a field of a string"),
        pytest.param("{{ .Sub }}", id="a struct"), pytest.param("{{ . }}", id="the data"), pytest.param("{{ .Name 1 }}", id="no function"),
        pytest.param("{{ .Sub.Name 1 }}", id="a field that is not a function"), pytest.param("{{ 1 2 }}", id="a number is not a function"),
        pytest.param("{{ .Sub.Twice }}", id="too few arguments"), pytest.param("{{ index .Match 9 }}", id="no such element"),
        pytest.param("{{ range .Name }}{{ end }}", id="range over a string"), pytest.param("{{ print and }}", id="and without arguments"),
        pytest.param("{{ and }}", id="and alone"), pytest.param("{{ range 99999999 }}{{ end }}", id="range too long"),
        pytest.param("{{ range 1000 }}{{ range 100 }}xxx{{ end }}{{ end }}", id="too long"),
        pytest.param("{{ . 1 }}", id="dot is not a function"),
    ],
)  # fmt: skip
def test_render_errors(text: str) -> None:
    with pytest.raises(RenderError):
        parse_template(text).render(DATA)


def test_a_template_can_be_rendered_again() -> None:
    template = parse_template("{{ $x := .N }}{{ range $x }}{{ . }}{{ end }}")
    rendered: list[Any] = [template.render(Struct(N=n)) for n in (2, 0, 1)]
    assert rendered == ["01", "", "0"]


def test_fields() -> None:
    """`fields` has the names of all fields that the template reads."""
    template = parse_template("{{ .A.B }}{{ with $.C }}{{ (index .D 1).E }}{{ end }}")
    assert template.fields == {"A", "B", "C", "D", "E"}
    assert template == parse_template(template.text) != parse_template("")
