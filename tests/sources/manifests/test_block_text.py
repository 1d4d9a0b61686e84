"""The plain form of YAML, which is read without the YAML parser."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from svcdns.sources.manifests import block_text
from svcdns.sources.manifests.documents import Document, documents

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: web
  labels:
    app: "web"  
    tier: 'back end'
  annotations: {}
# a comment
spec:
  clusterIP: 10.96.0.7
  clusterIPs:
  - 10.96.0.7

  ports:
    - name: http
      port: 80
      appProtocol:
    - port: 443
  publishNotReadyAddresses: true
  externalIPs: []
status:
"""  # noqa: W291  white space after a value is part of the example


def test_a_service() -> None:
    """Values have the types that the YAML parser gives them, and a field that is null is missing."""
    (found,) = block_text.documents(SERVICE) or []
    assert found.line == 0
    assert found.fields == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"app": "web", "tier": "back end"}, "annotations": {}},
        "spec": {
            "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7"],
            "ports": [{"name": "http", "port": 80}, {"port": 443}],
            "publishNotReadyAddresses": True,
            "externalIPs": [],
        },
    }


def test_lines_of_documents() -> None:
    """Each document has the number of lines before its first key."""
    found = block_text.documents("# first\n---\n\na: x\n---\n# second\nb: x\n")
    assert found == [({"a": "x"}, 3), ({"b": "x"}, 6)]


def test_lines_of_items() -> None:
    """Each item of a sequence has the number of lines before its dash."""
    found = block_text.items("  - a: x\n    b:\n    - c: x\n\n  - d: x\n")
    assert found == [({"a": "x", "b": [{"c": "x"}]}, 0), ({"d": "x"}, 4)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: &x y\n", id="anchor"),
        pytest.param("a: *x\n", id="alias"),
        pytest.param("a: !!str y\n", id="tag"),
        pytest.param("a: |\n  y\n", id="block-scalar"),
        pytest.param("a: x\n  y\n", id="continued-scalar"),
        pytest.param("a: x\n  b: y\n", id="mapping-below-a-scalar"),
        pytest.param("a: x # y\n", id="comment-after-a-value"),
        pytest.param('a: "\\n"\n', id="escape"),
        pytest.param("a: x\na: y\n", id="key-twice"),
        pytest.param("a:\na: y\n", id="null-key-twice"),
        pytest.param("a:\n    b: x\n  c: y\n", id="indentation"),
        pytest.param("a:\n\tb: x\n", id="tab"),
        pytest.param("a: yes\n", id="yes"),
        pytest.param("on: x\n", id="key-on"),
        pytest.param("a: 0x1f\n", id="hexadecimal"),
        pytest.param("a: 010\n", id="octal"),
        pytest.param("a: 1.5\n", id="float"),
        pytest.param("a: 1:30\n", id="base-60"),
        pytest.param("a: {{ .Values.x }}\n", id="template"),
        pytest.param("- a: x\n", id="sequence"),
        pytest.param("a: x\n...\n", id="document-end"),
        pytest.param("a: x\r\n", id="carriage-return"),
        pytest.param("a: \u00e9\n", id="not-ascii"),
        pytest.param("".join(f"{' ' * level}a:\n" for level in range(60)), id="many-levels"),
    ],
)
def test_other_forms(text: str) -> None:
    """A text in any other form is left to the YAML parser."""
    assert block_text.documents(text) is None


LINES = st.builds(
    lambda indent, dash, key, value: f"{' ' * indent}{dash}{key}{value}",
    st.sampled_from([0, 0, 1, 2, 2, 4, 6]),
    st.sampled_from(["", "", "", "- ", "-  "]),
    st.sampled_from(["a:", "a:", "b: ", "c: ", "d:  ", "true: ", "x/y.z: ", ""]),
    st.sampled_from(
        [
            "",
            "",
            "x",
            "x y ",
            "80",
            "0",
            "10.0.0.1",
            "true",
            "Null",
            "~",
            "1e5",
            "'x'",
            '"y: z"',
            "{}",
            "[]",
            "a:b",
            "a:",
        ]
    ),
)
TEXTS = st.lists(st.one_of(LINES, st.sampled_from(["", "  # note", "---", "- b", "  - c"])), min_size=1, max_size=12)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


@given(TEXTS)
def test_same_values_as_the_yaml_parser(lines: list[str]) -> None:
    """A text that is read here has the values, and the lines, that the YAML parser gives it."""
    text = "\n".join(lines) + "\n"
    if (found := block_text.documents(text)) is not None:
        assert [item.fields for item in found] == [_without_nulls(value) for value in yaml.safe_load_all(text)]
        assert [item.line for item in found] == [node.start_mark.line for node in yaml.compose_all(text)]
    if (found := block_text.items(text)) is not None:
        (node,) = yaml.compose_all(text)
        assert [item.fields for item in found] == _without_nulls(yaml.safe_load(text))
        assert [item.line for item in found] == [item.start_mark.line for item in node.value]


def test_line_of_a_field(tmp_path: Any) -> None:
    """The line of a field is right, though the YAML parser has not read the file before."""
    path = tmp_path / "services.yaml"
    path.write_text(f"{SERVICE}---\n{SERVICE}")
    first, second = documents(str(path), is_unused=lambda _, __: False)
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert (first.position().line, second.position().line) == (1, 24)
    assert first.position(("spec", "ports", 1, "port")).line == 19
    assert second.position(("spec", "ports", 1, "port")).line == 42
