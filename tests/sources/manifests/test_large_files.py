"""Large files are parsed by several processes, with the same result as by one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.sources.manifests import kinds, large_files
from svcdns.sources.manifests.kinds import FileContent
from svcdns.sources.manifests.portions import divided

SERVICE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: NAME\nspec:\n  ports:\n  - port: 80\n"
OBJECTS = {
    "a Service": SERVICE,
    "a port that is refused": SERVICE.replace("80", "70000"),
    "a name that cannot be served": SERVICE.replace("NAME", "N-NAME"),
    "a field of a wrong type": SERVICE.replace("80", "x"),
    "a key twice": SERVICE + "spec: {}\n",
    "a slice": "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: NAME}\naddressType: IPv4\n"
    "endpoints:\n- addresses: [10.0.0.1]\n  conditions: {ready: false}\n",
    "a Pod": "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, namespace: web}\nstatus: {podIP: 10.0.0.9}\n",
    "a Deployment": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: NAME}\nspec: {replicas: 2}\n",
    "an old Deployment": "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: NAME}\n",
    "an unused kind": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n",
    "no object": "replicas: 3\n",
    "a kustomization": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamePrefix: x-\n",
    "a template": SERVICE.replace("80", "{{ .port }}"),
    "no YAML": "a: [\n",
}


def described(content: FileContent) -> list[Any]:
    """Returns the content of a file. Errors are converted to text, because they cannot be compared."""
    left_out = {name: str(error) for name, error in content.left_out.items()}
    errors = [[*map(str, found)] for found in (content.errors, content.refused, content.ignored)]
    return [content.objects, str(content.skipped), *errors, left_out]


def in_parts(path: str, count: int) -> FileContent:
    """Returns a file's content as `large_files.read` does with `count` processes. No process is started."""
    parts = map(large_files.encode_part, divided(Path(path).read_text(), count))
    results = [large_files.parse_part(path, "default", part) for part in parts]
    return kinds.content(path, [large_files.decode_result(path, result) for result in results])


@given(st.lists(st.sampled_from(list(OBJECTS.values())), min_size=1, max_size=9), st.integers(1, 4))
def test_documents_are_parsed_in_parts(
    tmp_path_factory: pytest.TempPathFactory, objects: list[str], count: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "documents.yaml"
    path.write_text("---\n".join(text.replace("NAME", f"n{number}") for number, text in enumerate(objects)))
    assert described(in_parts(str(path), count)) == described(kinds.read(str(path)))


@given(
    st.lists(st.sampled_from([text for text in OBJECTS.values() if "[\n" not in text]), min_size=1, max_size=9),
    st.integers(1, 4),
)
def test_items_of_a_list_are_parsed_in_parts(
    tmp_path_factory: pytest.TempPathFactory, objects: list[str], count: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "list.yaml"
    items = [text.replace("NAME", f"n{number}").rstrip("\n") for number, text in enumerate(objects)]
    filler = "# " + "x" * 9000
    listed = "".join("- " + item.replace("\n", "\n  ") + "\n" for item in items)
    path.write_text(f"apiVersion: v1\nitems:\n{listed}kind: List\nmetadata: {{}}\n{filler}\n")
    assert described(in_parts(str(path), count)) == described(kinds.read(str(path)))


def large(objects: str, name: str = "NAME") -> str:
    """Returns a text of two megabytes. The objects are repeated with new names."""
    return "".join(objects.replace(name, f"n{number}") for number in range(2 * large_files.LARGE_FILE // len(objects)))


@pytest.mark.slow
def test_processes_parse_a_file(tmp_path: Path) -> None:
    """The file has two megabytes. The result equals that of one process."""
    note = "  annotations: {note: " + "x" * 1000 + "}\n"
    path = tmp_path / "large.yaml"
    path.write_text(large("---\n" + SERVICE.replace("spec:", note + "spec:")) + "---\n" + OBJECTS["a key twice"])
    content = large_files.read(str(path), "default")
    assert len(content.objects) > 1000
    assert described(content) == described(kinds.read(str(path)))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: \xff", id="no UTF-8"),
        pytest.param(
            large("- apiVersion: v1\n  kind: Service\n  metadata: {name: NAME, note: '" + "x" * 9000 + "\n- y'}\n")
            .join(["apiVersion: v1\nitems:\n", "kind: List\n"]),
            id="text that looks like an item",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_divided(tmp_path: Path, text: str) -> None:
    """If the other processes cannot parse the file, this process parses it."""
    path = tmp_path / "large.yaml"
    path.write_bytes(text.encode("latin-1"))
    assert described(large_files.read(str(path), "default")) == described(kinds.read(str(path)))


def test_a_missing_file(tmp_path: Path) -> None:
    """If a file is deleted before it is read, its content is an error."""
    path = str(tmp_path / "gone.yaml")
    assert described(large_files.read(path, "default")) == described(kinds.read(path))
