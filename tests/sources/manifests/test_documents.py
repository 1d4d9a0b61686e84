"""YAML as kubectl reads it. Errors name file, line and the expected value."""

from pathlib import Path

import msgspec
import pytest

from svcdns.sources.manifests.documents import Document, documents
from svcdns.sources.manifests.errors import ManifestError, WrongTypeError

HEAD = "apiVersion: v1\nkind: Thing\n"
LIST = "apiVersion: v1\nkind: List\nitems:"


def read(tmp_path: Path, text: str | bytes) -> list[Document]:
    """Returns the documents of a manifest with this text. Raises ManifestError."""
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = list(documents(str(path)))
    for one in found:
        if isinstance(one, ManifestError):
            raise one
    return [one for one in found if isinstance(one, Document)]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("# only a comment\n", [], id="comment"),
        pytest.param("---\n---\n" + HEAD + "---\n", ["Thing"], id="empty-documents"),
        pytest.param(HEAD + "---\napiVersion: v1\nkind: Other\n", ["Thing", "Other"], id="two"),
        pytest.param(LIST + "\n- {apiVersion: v1, kind: A}\n- {apiVersion: v1, kind: B}\n", ["A", "B"], id="list"),
        pytest.param("apiVersion: v1\nkind: PodList\nitems:\n- {metadata: {name: x}}\n", ["Pod"], id="typed-list"),
        pytest.param(LIST + " []\n", [], id="empty-list"),
        pytest.param("apiVersion: x/v1\nkind: AllowList\nspec: {}\n", ["AllowList"], id="kind-that-ends-in-list"),
        pytest.param(b'\xef\xbb\xbf{"apiVersion": "v1",\n\t"kind": "Thing"}', ["Thing"], id="json-with-tab-and-bom"),
    ],
)
def test_objects_of_a_file(tmp_path: Path, text: str | bytes, kinds: list[str]) -> None:
    """The items of a List are separate documents. Empty documents are left out."""
    assert [document.kind for document in read(tmp_path, text)] == kinds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("text", "text", id="text"),
        pytest.param("'3'", "3", id="quoted"),
        pytest.param("3", 3, id="number"),
        pytest.param("0x10", 16, id="hexadecimal"),
        pytest.param("true", True, id="true"),
        pytest.param("off", False, id="off-is-false"),
        pytest.param("1.5", 1.5, id="float"),
        pytest.param("12:30:45", "12:30:45", id="no-base-60"),
        pytest.param("2025-01-02", "2025-01-02", id="date-is-text"),
        pytest.param("[1, a]", [1, "a"], id="list"),
        pytest.param("{a: {b: c}}", {"a": {"b": "c"}}, id="mapping"),
        pytest.param("{a: null, b: ~, c: }", {}, id="null-is-left-out"),
        pytest.param("{1: a, true: b}", {"1": "a", "true": "b"}, id="keys-are-text"),
    ],
)
def test_values(tmp_path: Path, text: str, value: object) -> None:
    """Scalars have the types that the YAML parser of Kubernetes gives them."""
    (document,) = read(tmp_path, f"{HEAD}value: {text}\n")
    assert document.fields["value"] == value


def test_anchors_and_merges(tmp_path: Path) -> None:
    """An alias repeats a value. `<<` merges a mapping. Keys next to `<<` have priority."""
    (document,) = read(tmp_path, HEAD + "base: &base {a: 1, b: 2}\nsame: *base\nmore:\n  a: 3\n  <<: *base\n")
    assert document.fields["same"] == {"a": 1, "b": 2}
    assert document.fields["more"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        pytest.param(
            "- a\n", 1, "expected an object with apiVersion, kind and metadata, found a list", id="list-at-the-top"
        ),
        pytest.param(
            "text\n",
            1,
            "expected an object with apiVersion, kind and metadata, found text 'text'",
            id="text-at-the-top",
        ),
        pytest.param("\nkind: Thing\n", 2, "expected the text of apiVersion", id="no-version"),
        pytest.param("apiVersion: v1\n", 1, "expected the text of kind", id="no-kind"),
        pytest.param("apiVersion: 1\nkind: A\n", 1, "expected the text of apiVersion", id="version-is-a-number"),
        pytest.param(HEAD + "a: b: c\n", 3, "expected YAML: mapping values are not allowed", id="syntax"),
        pytest.param(HEAD + "a:\n\tb\n", 4, "expected YAML: found character that cannot start any token", id="tab"),
        pytest.param(HEAD + "a: *nobody\n", 3, "expected YAML: found undefined alias", id="alias"),
        pytest.param(HEAD + "a: [1,\n", 4, "expected YAML:", id="open-bracket"),
        pytest.param(
            HEAD + "a:\n  b: 1\n  c: 2\n  b: 3\n", 6, "expected each key once, 'b' is in line 4 already", id="key-twice"
        ),
        pytest.param(
            HEAD + "a: {b: 1, b: 2}\n", 3, "expected each key once, 'b' is in line 3 already", id="key-twice-in-a-line"
        ),
        pytest.param(HEAD + "a:\n  ? [x]\n  : 1\n", 4, "expected text as the key of a mapping", id="key-is-a-list"),
        pytest.param(HEAD + "a:\n  <<: 1\n", 4, "expected YAML: expected a mapping", id="merge-of-a-number"),
        pytest.param(HEAD + "a: &a\n  b: *a\n", 3, "found an alias of a node that contains it", id="endless-alias"),
        pytest.param(LIST + " {}\n", 3, "items: expected a list", id="items-no-list"),
        pytest.param(
            LIST + "\n- apiVersion: v1\n  kind: List\n  items: []\n", 4, "found a List inside a List", id="nested"
        ),
        pytest.param(LIST + "\n- apiVersion: v1\n- kind: A\n", 4, "expected the text of kind", id="item"),
        pytest.param(b"a: b\nc: \xff\xfe\xff", 2, "expected UTF-8 text", id="no-utf-8"),
        pytest.param(
            HEAD + "a: \x01\n", 3, "expected YAML: control characters are not allowed", id="control-character"
        ),
        pytest.param(
            HEAD + "a: " + "[" * 100 + "]" * 100, 3, "expected at most 100 levels of lists and mappings", id="deep"
        ),
        pytest.param(HEAD + "a: !!int x\n", 3, "expected a value of type int, found 'x'", id="bad-tagged-value"),
    ],
)
def test_broken_text(tmp_path: Path, text: str | bytes, line: int, expected: str) -> None:
    """The error is one line with the file, the line and what was expected."""
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'a.yaml'}:{line}: ")
    assert expected in message
    assert "\n" not in message


def test_unreadable_file(tmp_path: Path) -> None:
    """The error has the file's name."""
    (error,) = documents(str(tmp_path / "nobody.yaml"))
    assert str(error) == f"{tmp_path}/nobody.yaml: No such file or directory; a readable file was expected"


class Part(msgspec.Struct):
    """A part of Shape."""

    port: int
    target: int | str | None = None


class Shape(msgspec.Struct):
    """A class with fields of each type that manifests have."""

    replicas: int = 1
    name: str = ""
    parts: list[Part] = []
    labels: dict[str, str] = {}
    part: Part | None = None
    on: bool = False


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        pytest.param("replicas: three\n", 3, "replicas: expected a whole number, found text 'three'", id="number"),
        pytest.param("\n\nname: 3\n", 5, "name: expected text, found a whole number 3", id="text"),
        pytest.param("parts:\n  port: 1\n", 3, "parts: expected a list, found a mapping", id="list"),
        pytest.param("parts:\n- port: 1\n- target: x\n", 5, "parts[1]: expected port, which is missing", id="missing"),
        pytest.param(
            "parts:\n- port: 1\n  target: []\n",
            5,
            "parts[0].target: expected a whole number or text, found a list",
            id="either",
        ),
        pytest.param("labels:\n  a: b\n  c: 1\n", 5, "labels.c: expected text, found a whole number 1", id="label"),
        pytest.param("part: []\n", 3, "part: expected a mapping, found a list", id="mapping"),
        pytest.param("on: 'yes'\n", 3, "on: expected true or false, found text 'yes'", id="bool"),
        pytest.param("name: true\n", 3, "name: expected text, found true", id="bool-as-text"),
        pytest.param(
            "parts:\n- port: 1\n- null\n", 5, "parts[1]: expected a mapping, found nothing", id="null-in-a-list"
        ),
    ],
)
def test_wrong_types(tmp_path: Path, text: str, line: int, expected: str) -> None:
    """The error has the field's path and line."""
    (document,) = read(tmp_path, HEAD + text)
    found: list[ManifestError] = []
    try:
        document.convert(Shape, found.append)
    except ManifestError as raised:
        found.append(raised)
    (error,) = found
    of_file = f"{tmp_path / 'a.yaml'}:{line}: {expected}"
    assert str(error) in (of_file, f"{of_file}; {expected.partition(':')[0]} is left out")


@pytest.mark.parametrize(
    ("text", "expected", "left_out"),
    [
        pytest.param("replicas: '3'\nname: a\n", Shape(name="a"), ["replicas"], id="a field"),
        pytest.param("labels: {a: b, c: 1}\n", Shape(labels={"a": "b"}), ["labels.c"], id="a value of a mapping"),
        pytest.param(
            "parts:\n- {port: '1'}\n- {port: 2}\n- {port: '3'}\n- {port: 4, target: true}\n",
            Shape(parts=[Part(2), Part(4)]),
            ["parts[0]", "parts[2]", "parts[3].target"],
            id="items of a list",
        ),
        pytest.param("part: {port: '1'}\n", Shape(), ["part"], id="a mapping without a required field"),
    ],
)
def test_the_rest_of_an_object_with_wrong_types(
    tmp_path: Path, text: str, expected: Shape, left_out: list[str]
) -> None:
    """The smallest part is left out without which the object can be used. Each part has one error, with its line."""
    (document,) = read(tmp_path, HEAD + text)
    found: list[WrongTypeError] = []
    assert document.convert(Shape, found.append) == expected
    assert [str(error).rpartition("; ")[2] for error in found] == [f"{part} is left out" for part in left_out]
    lines = (HEAD + text).splitlines()
    for error, part in zip(found, left_out, strict=True):
        assert part.rpartition(".")[2].partition("[")[0] in "".join(lines[: error.position.line])
    again: list[WrongTypeError] = []
    assert (document.convert(Shape, again.append), again) == (expected, [])


def test_an_object_that_wrong_types_make_useless(tmp_path: Path) -> None:
    """If a required field of the object itself has a wrong type, an error is raised."""
    (document,) = read(tmp_path, HEAD + "port: '1'\n")
    with pytest.raises(ManifestError, match=r":3: port: expected a whole number, found text '1'$"):
        document.convert(Part, lambda error: pytest.fail(str(error)))
