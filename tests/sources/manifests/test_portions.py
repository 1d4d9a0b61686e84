"""Reading large files in portions. The result is the same as in one piece, and unused objects are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.sources.manifests.documents import Document, documents
from svcdns.sources.manifests.errors import FilePosition, ManifestError
from svcdns.sources.manifests.portions import SIZE, Portion, UnusedObject, documents_of, items_of, list_text

FILLER = "# " + "x" * SIZE + "\n"


def not_a_service(_api_version: str, kind: str) -> bool:
    """Returns True for an object that is neither a Service nor a List."""
    return kind != "Service" and not kind.endswith("List")


def read(path: Path, text: str, *, divided: bool = True) -> list[tuple[Any, ...]]:
    """Returns, for each object of a file, the kind, the namespace or an error, and the line."""
    path.write_text(text)
    out: list[tuple[Any, ...]] = []
    for found in documents(str(path), is_unused=not_a_service if divided else None):
        match found:
            case Document():
                namespace = found.fields.get("metadata", {}).get("namespace", "")
                out.append((found.kind, namespace, found.position().line, found.position(("spec",)).line))
            case UnusedObject():
                out.append((found.kind, found.namespace, found.position.line, None))
            case ManifestError():
                out.append(("error", found.text, found.position.line, None))
    return out


def obj(kind: str, namespace: str, more: str = "") -> str:
    """Returns an object as kubectl writes it."""
    return f"apiVersion: v1\nkind: {kind}\nmetadata:\n  labels:\n    namespace: x\n  namespace: {namespace}\n{more}"


def listed(*objects: str, dash: str = "- ") -> str:
    """Returns a List of objects."""
    indent = " " * len(dash)
    items = "".join(dash + text.rstrip("\n").replace("\n", f"\n{indent}") + "\n" for text in objects)
    return f"apiVersion: v1\nitems:\n{items}kind: List\nmetadata: {{}}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            obj("ConfigMap", "a") + "---\n" + obj("Service", "b", "spec: {}\n") + "---\n# end\n",
            [("ConfigMap", "a", 1, None), ("Service", "b", 8, 14)],
            id="documents",
        ),
        pytest.param("---\n" + obj("ConfigMap", '"a" # quoted'), [("ConfigMap", "a", 2, None)], id="quoted namespace"),
        pytest.param(obj("ConfigMap", "a").replace("\n", "\r\n"), [("ConfigMap", "a", 1, None)], id="carriage returns"),
        pytest.param("kind: ConfigMap\napiVersion: v1\n", [("ConfigMap", "", 1, None)], id="no metadata"),
        pytest.param(
            "kind: ConfigMap\napiVersion: v1\nmetadata: {namespace: a}\n", [("ConfigMap", "a", 1, 1)], id="flow style"
        ),
        pytest.param(
            "kind: ConfigMap\napiVersion: v1\nkind: Service\n",
            [("error", "expected each key once, 'kind' is in line 1 already", 3, None)],
            id="two kinds",
        ),
        pytest.param(
            listed(obj("ConfigMap", "a"), obj("Service", "b", "spec: {}\n" + FILLER), obj("Secret", "c")),
            [("ConfigMap", "a", 3, None), ("Service", "b", 9, 15), ("Secret", "c", 17, None)],
            id="list",
        ),
        pytest.param(
            "kind: List\n" + listed(obj("Service", "b", "spec: {}\n" + FILLER)).replace("kind: List\n", ""),
            [("Service", "b", 4, 10)],
            id="list with its kind first",
        ),
        pytest.param(
            listed(obj("ConfigMap", "a"), obj("Service", "b", "spec: {}\n" + FILLER), dash="  -   "),
            [("ConfigMap", "a", 3, None), ("Service", "b", 9, 15)],
            id="list with wide dashes",
        ),
        pytest.param(
            listed(obj("Service", "a", "spec: &s {}\n" + FILLER), obj("Service", "b", "spec: *s\n")),
            [("Service", "a", 3, 9), ("Service", "b", 11, 17)],
            id="list with an alias",
        ),
        pytest.param(
            listed(obj("Service", "a", FILLER), obj("Service", "b", 'note: "x\n- y"\n').replace("\n- y", "\n@- y"))
            .replace("\n  @- y", "\n- y"),
            [("Service", "a", 3, 3), ("Service", "b", 10, 10)],
            id="quoted text that looks like an item",
        ),
    ],
)  # fmt: skip
def test_reads(tmp_path: Path, text: str, found: list[tuple[Any, ...]]) -> None:
    """Objects are found with kind, namespace and line, even if they are not parsed."""
    assert read(tmp_path / "a.yaml", text) == found


def test_an_error_has_its_line(tmp_path: Path) -> None:
    text = (obj("Service", "a", FILLER) + "---\n") * 3 + "a: [\n"
    assert read(tmp_path / "a.yaml", text)[-1][2] == text.count("\n") + 1


def test_the_parsed_text_is_small(tmp_path: Path) -> None:
    """A List has one Service and 100 other objects. The YAML parser gets only the Service's text."""
    text = listed(*(obj("Pod", "a", "data: |\n  " + "x" * 300 + "\n") for _ in range(100)), obj("Service", "b"))
    (portion,) = documents_of(Portion(text, 0), not_a_service)
    assert isinstance(portion, Portion)
    parts = list_text(portion)
    assert parts is not None
    items = list(items_of(parts, not_a_service))
    assert [type(item) for item in items] == [UnusedObject] * 100 + [Portion]
    assert sum(len(item.text) for item in items if isinstance(item, Portion)) < 200
    assert items[0] == UnusedObject(FilePosition("", 3), "v1", "Pod", "a")


OBJECTS = st.builds(
    obj,
    st.sampled_from(["ConfigMap", "Service", "Pod"]),
    st.sampled_from(["a", '"b"', "c # kind: Service", "'d'"]),
    st.sampled_from(
        ["", "data:\n  x: |\n    kind: Pod\n\n    - y\n", "spec:\n- kind: x\n- metadata:\n", FILLER, "\n#\n"]
    ),
)


@given(st.lists(OBJECTS, min_size=1, max_size=12), st.booleans(), st.sampled_from(["- ", "  - ", "-   "]))
def test_dividing_changes_nothing(objects: list[str], as_list: bool, dash: str) -> None:
    """Kinds, namespaces and lines are the same as if the file were parsed in one piece."""
    import tempfile

    text = listed(*objects, dash=dash) if as_list else "---\n".join(objects)
    with tempfile.TemporaryDirectory() as folder:
        whole = read(Path(folder) / "a.yaml", text, divided=False)
        parts = read(Path(folder) / "a.yaml", text)
    assert [found[:3] for found in parts] == [found[:3] for found in whole]
