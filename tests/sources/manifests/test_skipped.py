"""Content that is skipped: files of other tools, templates, and objects that no cluster would accept."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.watch_options import WatchOptions
from svcdns.log_line import LogLine
from svcdns.sources.manifests import ManifestError, ManifestsSource

LOG = logging.getLogger("svcdns.tests.manifests")
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: tea}\nspec: {ports: [{port: 80}]}\n"
TEMPLATE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: "


async def warnings(folder: Path, caplog: pytest.LogCaptureFixture, files: dict[str, str | bytes]) -> list[str]:
    """Starts with these files and a Service, which must be served. Returns the warnings without the folder's path."""
    for name, text in {"z.yaml": SERVICE, **files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = ManifestsSource(WatchOptions(manifests=(str(folder),)), log=LOG)
    await source.configure()
    await source.configure()
    assert (Kind.SERVICE, "default", "tea") in source.load().objects
    return [
        f"{record.msg.fields['position']}: {record.msg.fields['error']}".removeprefix(f"{folder}/")
        + ("; skipped" if record.msg.text == "a manifest is skipped" else "")
        for record in caplog.records
        if record.levelno == logging.WARNING and isinstance(record.msg, LogLine)
    ]


@pytest.mark.parametrize(
    ("name", "text", "warning"),
    [
        pytest.param("c.yaml", "services: {web: {}}\n", "c.yaml:1: expected the text of apiVersion", id="compose"),
        pytest.param("sub/Chart.yaml", "# it\nname: a\n", "sub/Chart.yaml:2: expected the text of", id="chart"),
        pytest.param("l.yaml", "- a\n- b\n", "l.yaml:1: expected an object with apiVersion,", id="list"),
        pytest.param("p.json", "[]", "p.json:1: expected an object with apiVersion,", id="json"),
        pytest.param("t.yaml", TEMPLATE + '{{ include "a" . }}\n', "t.yaml:4: expected text as the key", id="call"),
        pytest.param("t.yaml", TEMPLATE + "{{ .Values.name }}\n", "t.yaml:4: expected text as the key", id="value"),
        pytest.param("t.yaml", TEMPLATE + "'{{ .Values.name }}'\n", "t.yaml:4: metadata.name: expected", id="quoted"),
        pytest.param("t.yaml", TEMPLATE + "{{ .Release.Name }}-web\n", "t.yaml:4: expected YAML", id="prefix"),
        pytest.param(
            "t.yaml", "{{- if .Values.on }}\n" + SERVICE + "{{- end }}\n", "t.yaml:1: expected YAML", id="condition"
        ),
        pytest.param("b.yaml", b"a: \xff\n", "b.yaml:1: expected UTF-8 text", id="no UTF-8"),
        pytest.param("values.yaml", "a: 1\na: 2\n", "values.yaml:2: expected each key once", id="key twice"),
        pytest.param("values.yaml", "a: &a [*a]\n", "values.yaml:1: expected a value", id="endless alias"),
        pytest.param("values.yaml", "a: !!int z\n", "values.yaml:1: expected a value of type int", id="wrong tag"),
        pytest.param(
            "Kustomization", "namePrefix: a-\n", "Kustomization:1: a kustomization is not applied", id="no suffix"
        ),
        pytest.param("b.yaml", "a: [1\n", "b.yaml:2: expected YAML", id="open bracket"),
    ],
)
async def test_other_files_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, text: str | bytes, warning: str
) -> None:
    """A file without Kubernetes objects has one warning with file and line."""
    (line,) = await warnings(tmp_path, caplog, {name: text})
    assert line.startswith(warning)
    assert line.endswith("; skipped")


async def test_one_warning_for_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Several documents are no objects. Other objects in the file are read."""
    files: dict[str, str | bytes] = {
        "a.yaml": "a: 1\n---\nb: 2\n---\n" + SERVICE.replace("tea", "milk"),
        "b.yaml": "[]",
    }
    assert [line.partition(" ")[0] for line in await warnings(tmp_path, caplog, files)] == ["a.yaml:1:", "b.yaml:1:"]
    source = ManifestsSource(WatchOptions(manifests=(str(tmp_path),)), log=LOG)
    assert (Kind.SERVICE, "default", "milk") in source.load().objects


@pytest.mark.parametrize(
    ("text", "line", "fields"),
    [
        pytest.param("resources: [z.yaml]\n", 1, "", id="changes nothing"),
        pytest.param(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamePrefix: x-\nnamespace: prod\n",
            3,
            ", though it may change names by namePrefix, namespace",
            id="changes names",
        ),
        pytest.param(
            "resources: []\npatches: []\nconfigMapGenerator: []\n",
            2,
            ", though it may change names by patches, configMapGenerator",
            id="patches and generators",
        ),
    ],
)
@pytest.mark.parametrize("name", ["kustomization.yaml", "kustomization.yml"])
async def test_kustomizations_are_not_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, text: str, line: int, fields: str
) -> None:
    """The warning has the fields that may change names, and says what to do."""
    assert await warnings(tmp_path, caplog, {name: text}) == [
        f"{name}:{line}: a kustomization is not applied{fields}; "
        f"pipe `kubectl kustomize {tmp_path}` into `manifests -` in its place; skipped"
    ]


@pytest.mark.parametrize(
    "named",
    [
        pytest.param("patches:\n- path: p.yaml\n  target: {kind: Service}\n", id="patches"),
        pytest.param('patchesStrategicMerge: [p.yaml, "a: b\\nc: d"]\n', id="strategic merge"),
        pytest.param("patchesJson6902:\n- {path: p.yaml, target: {kind: Service}}\n", id="JSON 6902"),
    ],
)
async def test_a_patch_of_a_kustomization_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    """A patch looks like the object that it changes, but must not be read as an object."""
    files: dict[str, str | bytes] = {"o/kustomization.yaml": named, "o/p.yaml": SERVICE.replace("80", "81")}
    first, patch = await warnings(tmp_path, caplog, files)
    assert first.startswith("o/kustomization.yaml:1: a kustomization is not applied")
    assert patch == f"o/p.yaml:1: a patch of {tmp_path}/o/kustomization.yaml, which is not applied; skipped"


async def test_the_same_object_in_two_files_is_an_error(tmp_path: Path) -> None:
    """The error names both files, and says how to leave one of them out."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(SERVICE)
    with pytest.raises(ManifestError, match=r"b\.yaml:1: .* in .*a\.yaml:1 already; the option exclude leaves out a"):
        await ManifestsSource(WatchOptions(manifests=(str(tmp_path),)), log=LOG).configure()


async def test_a_component_in_a_file_of_another_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnameSuffix: -x\n"
    (line,) = await warnings(tmp_path, caplog, {"c.yaml": text})
    assert line.startswith("c.yaml:3: a kustomization is not applied, though it may change names by nameSuffix")


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        pytest.param("extensions/v1beta1", "Deployment", "apps/v1", id="old group"),
        pytest.param("apps/v1beta2", "StatefulSet", "apps/v1", id="old version"),
        pytest.param("discovery.k8s.io/v1beta1", "EndpointSlice", "discovery.k8s.io/v1", id="old slice"),
        pytest.param("serving.example.test/v1", "Service", "v1", id="foreign"),
    ],
)
async def test_kinds_of_another_api_version_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: str, kind: str, expected: str
) -> None:
    text = f"# first\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: other}}\nspec: {{replicas: x}}\n"
    assert await warnings(tmp_path, caplog, {"a.yaml": text}) == [
        f"a.yaml:2: {kind} of {version} is ignored, {expected} was expected"
    ]


async def test_all_errors_of_a_start(tmp_path: Path) -> None:
    """The error has one line for each object that cannot be used, and for each missing path."""
    bad = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: PodList, items: []}\n"
    (tmp_path / "a.yaml").write_text(bad + "---\n" + SERVICE.replace("tea", "milk") + "---\n" + bad)
    (tmp_path / "b.yaml").write_text(bad)
    (tmp_path / "c.yaml").write_text("services: {}\n")
    paths = (str(tmp_path), str(tmp_path / "no"))
    with pytest.raises(ManifestError) as caught:
        await ManifestsSource(WatchOptions(manifests=paths), log=LOG).configure()
    lines = [line.removeprefix(f"{tmp_path}/").partition(": ")[0] for line in str(caught.value).split("\n")]
    assert lines == ["no", "a.yaml:4", "a.yaml:14", "b.yaml:4"]


def test_all_objects_that_are_defined_twice(tmp_path: Path) -> None:
    """The error names every object that is in more than one manifest."""
    (tmp_path / "a.yaml").write_text("---\n".join([SERVICE] * 3))
    with pytest.raises(ManifestError) as caught:
        ManifestsSource(WatchOptions(manifests=(str(tmp_path),)), log=LOG).load()
    assert str(caught.value).count("is written in") == 2


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(SERVICE.replace("80", "{{ .Values.port }}"), id="template"),
        pytest.param("a: [\n", id="no YAML"),
        pytest.param("services: {}\n", id="no object"),
        pytest.param(SERVICE.replace("tea", "milk") + "---\nservices: {}\n", id="an object less"),
    ],
)
def test_a_file_that_was_used_is_not_skipped(tmp_path: Path, broken: str) -> None:
    """If such a file becomes invalid, the error keeps the last good state in use."""
    (tmp_path / "a.yaml").write_text(SERVICE)
    source = ManifestsSource(WatchOptions(manifests=(str(tmp_path),)), log=LOG)
    good = source.load()
    (tmp_path / "a.yaml").write_text(broken)
    for _ in range(2):
        with pytest.raises(ManifestError, match=r"a\.yaml:"):
            source.load()
    (tmp_path / "a.yaml").write_text(SERVICE + "# mended\n")
    assert source.load().objects == good.objects
