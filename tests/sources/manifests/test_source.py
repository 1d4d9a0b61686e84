"""The stream of changes: first a full list, then only the differences after each edit."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from pathlib import Path

import pytest

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Pod, Service
from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.process import blocking_io
from svcdns.sources.manifests import ManifestError, ManifestsSource
from svcdns.sources.manifests.cluster import ObjectKey
from svcdns.sources.manifests.source import differences
from tests.support import fifos

LOG = logging.getLogger("svcdns.tests.manifests")


class Edits:
    """A file watch that reports a change when the test calls `made()`."""

    def __init__(self) -> None:
        self.folders: list[frozenset[str]] = []
        self._change = asyncio.Event()
        self._waiting = asyncio.Event()

    async def __call__(self, folders: frozenset[str]) -> AsyncGenerator[None, None]:
        """Yields at each edit that the test reports."""
        self.folders.append(folders)
        yield
        self._waiting.set()
        await self._change.wait()
        self._change.clear()
        yield

    def made(self) -> None:
        """Reports a change, so that the source reads its files again."""
        self._waiting.clear()
        self._change.set()

    async def settled(self) -> None:
        """Waits until the source waits for the next edit."""
        await self._waiting.wait()


async def changes_of(source: ManifestsSource) -> AsyncIterator[Change]:
    """Yields the changes of a source one by one."""
    async with contextlib.aclosing(source.batches()) as batches:
        async for batch in batches:
            for change in batch:
                yield change


class Running:
    """A source that follows one file or folder, and the changes that it has yielded."""

    def __init__(self, path: Path, source: ManifestsSource, edits: Edits) -> None:
        self.path, self.source, self.edits = path, source, edits
        self.sent: list[Change] = []

    async def follow(self) -> None:
        """Collects changes until it is cancelled."""
        async for change in changes_of(self.source):
            self.sent.append(change)

    async def changes(self) -> list[Change]:
        """Waits until the source waits for an edit. Returns the changes since the last call."""
        await self.edits.settled()
        changes, self.sent = self.sent, []
        return changes

    async def after(self, text: str) -> list[Change]:
        """Replaces the file with `text`, and returns the changes that this causes."""
        replace(self.path, text)
        self.edits.made()
        return await self.changes()


def replace(path: Path, text: str) -> None:
    """Replaces the file by renaming a new one over it, as editors do."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


@contextlib.asynccontextmanager
async def running(path: Path, text: str, file: str = "") -> AsyncIterator[Running]:
    """Runs a source that follows `path`. Before, writes `text` to `path`, or to `file` in this folder."""
    edited = path / file if file else path
    edited.write_text(text)
    edits = Edits()
    run = Running(edited, ManifestsSource(WatchOptions(manifests=(str(path),), pods=True), log=LOG, watch=edits), edits)
    task = asyncio.create_task(run.follow())
    try:
        yield run
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def stateful(replicas: object) -> str:
    """Returns a headless Service `db` and its StatefulSet."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{clusterIP: None, selector: {{app: db}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  {{serviceName: db, replicas: {replicas}, selector: {{matchLabels: {{app: db}}}}, template: {{metadata: {{labels: {{app: db}}}}}}}}
"""


def objects(changes: Iterable[Change]) -> list[ClusterObject]:
    """Returns the objects of all Puts."""
    return [change.object for change in changes if isinstance(change, Put)]


def targets(changes: Iterable[Change]) -> list[list[str]]:
    """Returns, for each Put, the names of the Pods in the slice."""
    return [[end.target for end in item.endpoints] for item in objects(changes) if isinstance(item, EndpointSlice)]


async def test_begins_with_full_lists(tmp_path: Path) -> None:
    """Each kind has one list, with all its objects between Begin and Complete."""
    async with running(tmp_path / "a.yaml", stateful(2)) as run:
        changes = await run.changes()
    lists = [change.kind for change in changes if isinstance(change, Begin)]
    assert tuple(lists) == run.source.kinds == (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE, Kind.POD)
    current = None
    for change in changes:
        match change:
            case Begin(kind):
                assert current is None
                current = kind
            case Put(item):
                assert Kind(type(item).__name__) == current
            case Complete(kind):
                assert kind == current
                current = None
    assert [item.name for item in objects(changes) if isinstance(item, Pod)] == ["db-0", "db-1"]


async def test_scaling(tmp_path: Path) -> None:
    """Fewer `replicas` change the slice and remove the last Pods. More `replicas` add the same Pods again."""
    async with running(tmp_path / "a.yaml", stateful(3)) as run:
        first = await run.changes()
        changes = await run.after(stateful(1))
        assert targets(changes) == [["db-0"]]
        assert changes[1:] == [Gone(Kind.POD, "default", "db-2"), Gone(Kind.POD, "default", "db-1")]
        again = await run.after(stateful(3))
        assert objects(again) == [
            item for item in objects(first) if isinstance(item, EndpointSlice) or item.name in {"db-1", "db-2"}
        ]


async def test_deleted_pod(tmp_path: Path) -> None:
    """The Pod leaves its EndpointSlice. With the last Pod, the slice is removed."""
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: w}\nspec: {clusterIP: None, selector: {app: w}}\n"
    pods = [f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: w}}}}\n" for name in "ab"]
    async with running(tmp_path / "a.yaml", service + pods[0] + pods[1]) as run:
        assert targets(await run.changes()) == [["a", "b"]]
        assert targets(await run.after(service + pods[1])) == [["b"]]
        changes = await run.after(service)
        assert [type(change) for change in changes] == [Gone, Gone]
        assert {change.kind for change in changes if isinstance(change, Gone)} == {Kind.POD, Kind.ENDPOINT_SLICE}


async def test_edits_without_an_effect_cause_no_change(tmp_path: Path) -> None:
    """A comment, or a change of another file in the folder, is no change of the cluster."""
    async with running(tmp_path / "a.yaml", stateful(1)) as run:
        await run.changes()
        assert await run.after("# comment\n" + stateful(1)) == []
        (tmp_path / "other.log").write_text("x")
        run.edits.made()
        assert await run.changes() == []


async def test_broken_start(tmp_path: Path) -> None:
    """The error is raised by `configure` and by `changes`."""
    nested = "---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: PodList, items: []}\n"
    (tmp_path / "a.yaml").write_text(nested)
    source = ManifestsSource(WatchOptions(manifests=(str(tmp_path),)), log=LOG, watch=Edits())
    with pytest.raises(ManifestError, match=r"a\.yaml:5: expected an object, found a List"):
        await source.configure()
    with pytest.raises(ManifestError, match=r"a\.yaml:5: "):
        await anext(aiter(changes_of(source)))


async def test_broken_edit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each error is logged once with file and line. The last good state is served until the file is correct again."""
    caplog.set_level(logging.INFO, LOG.name)
    async with running(tmp_path / "a.yaml", stateful(2)) as run:
        await run.changes()
        assert await run.after(stateful("three")) == []
        assert await run.after(stateful("three") + "# still broken\n") == []
        assert await run.after("kind: [\n") == []
        assert targets(await run.after(stateful(1))) == [["db-0"]]
    path = run.path
    assert [record.message for record in caplog.records] == [
        "manifests: the last good state stays "
        f"error=\"{path}:11: spec.replicas: expected a whole number, found text 'three'\"",
        f'manifests: the last good state stays error="{path}:2: expected YAML: did not find expected node content"',
        "manifests: good again",
    ]


async def test_a_deleted_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The last good state stays. When the file exists again, the differences are sent."""
    async with running(tmp_path / "a.yaml", stateful(2)) as run:
        await run.changes()
        run.path.unlink()
        run.edits.made()
        assert await run.changes() == []
        assert "a.yaml: No such file or directory" in caplog.text
        assert targets(await run.after(stateful(1))) == [["db-0"]]


async def test_a_deleted_file_in_a_folder(tmp_path: Path) -> None:
    async with running(tmp_path, stateful(1), "a.yaml") as run:
        await run.changes()
        run.path.unlink()
        run.edits.made()
        assert [change for change in await run.changes() if not isinstance(change, Gone)] == []


async def test_new_folder_is_watched(tmp_path: Path) -> None:
    async with running(tmp_path, stateful(1), "a.yaml") as run:
        await run.changes()
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub/b.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n")
        run.edits.made()
        assert await run.changes() == [Put(Namespace("b"))]
    assert str(tmp_path / "sub") in run.edits.folders[-1]


async def test_symbolic_link_swap(tmp_path: Path) -> None:
    """In a mounted ConfigMap, only the link `..data` changes."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}/a.yaml").write_text(stateful(number))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    edits = Edits()
    run = Running(tmp_path, ManifestsSource(WatchOptions(manifests=(str(tmp_path),)), log=LOG, watch=edits), edits)
    task = asyncio.create_task(run.follow())
    assert targets(await run.changes()) == [["db-0"]]
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    edits.made()
    assert targets(await run.changes()) == [["db-0", "db-1"]]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_second_stream(tmp_path: Path) -> None:
    """Each call of `changes` begins with full lists. If the file has an error, the lists have the last good state."""
    async with running(tmp_path / "a.yaml", stateful(2)) as run:
        first = await run.changes()
    replace(run.path, stateful("three"))
    second = [change async for change in take(changes_of(run.source), len(first))]
    assert second == first


async def take(changes: AsyncIterator[Change], count: int) -> AsyncIterator[Change]:
    """Yields the first `count` changes."""
    for _ in range(count):
        yield await anext(changes)


async def test_pod_being_deleted_stays_until_it_is_gone(tmp_path: Path) -> None:
    """As with an API server, a Pod with a deletionTimestamp stays as long as it is in the manifest."""
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
    async with running(tmp_path / "a.yaml", pod) as run:
        await run.changes()
        assert await run.after(pod.replace("}", ", deletionTimestamp: '2025-01-01T00:00:00Z'}")) == []
        assert await run.after("") == [Gone(Kind.POD, "default", "a")]


async def test_ignored_kinds_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A single line names all unused kinds, because manifests of applications have many."""
    caplog.set_level(logging.INFO, LOG.name)
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    )
    async with running(tmp_path / "a.yaml", text) as run:
        await run.changes()
        await run.after(text + "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n")
    assert [record.message for record in caplog.records] == [
        "manifests: ignored kinds that no DNS name depends on kinds=ConfigMap,Secret"
    ]


async def test_folders_that_cannot_be_watched(tmp_path: Path) -> None:
    """The error names the paths. A cause may be the system's limit."""

    async def full(folders: frozenset[str]) -> AsyncGenerator[None, None]:
        if folders:
            raise OSError(28, "No space left on device")
        yield

    with pytest.raises(SourceError, match=r"manifests: cannot watch .*: \[Errno 28\] No space left on device"):
        await anext(aiter(changes_of(ManifestsSource(WatchOptions(manifests=(str(tmp_path),)), log=LOG, watch=full))))


@pytest.mark.parametrize("option", ["labels", "namespace_labels"])
def test_a_wrong_selector_ends_the_start(option: str) -> None:
    with pytest.raises(SourceError, match=f"^{option}: bad label selector"):
        ManifestsSource(WatchOptions(**{option: "a in"}), log=LOG)  # type: ignore[arg-type]


def keyed(*items: ClusterObject) -> dict[ObjectKey, ClusterObject]:
    """Returns the objects by kind, namespace and name."""
    return {ObjectKey(Kind(type(item).__name__), item.namespace, item.name): item for item in items}


def slice_of(name: str, *addresses: str, service: str = "web") -> EndpointSlice:
    """Returns a slice with those addresses."""
    return EndpointSlice("n", name, service, endpoints=tuple(map(Endpoint, addresses)))


def always_present(old: dict[ObjectKey, ClusterObject], changes: Iterable[Change]) -> set[str]:
    """Returns the endpoint addresses that are present after each of the changes."""
    state = dict(old)
    always: set[str] | None = None
    for change in changes:
        match change:
            case Put(item):
                state.update(keyed(item))
            case Gone(kind, namespace, name):
                del state[ObjectKey(kind, namespace, name)]
        now = {end.address for item in state.values() if isinstance(item, EndpointSlice) for end in item.endpoints}
        always = now if always is None else always & now
    return always or set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            [slice_of("a", "1", "2"), slice_of("b", "3")],
            [slice_of("a", "0", "1"), slice_of("b", "2", "3")],
            id="moved-back",
        ),
        pytest.param(
            [slice_of("a", "0", "1"), slice_of("b", "2", "3")],
            [slice_of("a", "1", "2"), slice_of("b", "3")],
            id="moved-forward",
        ),
        pytest.param([slice_of("a", "1"), slice_of("b", "2")], [slice_of("a", "2"), slice_of("b", "1")], id="swapped"),
        pytest.param([slice_of("a", "1")], [slice_of("b", "1")], id="another-slice"),
    ],
)
def test_no_address_is_missing_in_between(old: list[ClusterObject], new: list[ClusterObject]) -> None:
    """An endpoint that moves to another slice is in one of the two slices after each change."""
    changes = list(differences(keyed(*old), keyed(*new)))
    both = {e.address for i in old if isinstance(i, EndpointSlice) for e in i.endpoints} & {
        e.address for i in new if isinstance(i, EndpointSlice) for e in i.endpoints
    }
    assert always_present(keyed(*old), changes) >= both
    state = keyed(*old)
    for change in changes:
        match change:
            case Put(item):
                state.update(keyed(item))
            case Gone(kind, namespace, name):
                del state[ObjectKey(kind, namespace, name)]
    assert state == keyed(*new)


def test_order_of_differences() -> None:
    """New objects come before removals. A Namespace is added first and removed last."""
    old = keyed(Namespace("old"), slice_of("s"), Service("old", "web"), Pod("old", "p"))
    new = keyed(Namespace("new"), slice_of("t"), Service("new", "web"))
    changes = list(differences(old, new))
    assert [type(change) for change in changes] == [Put] * 3 + [Gone] * 4
    assert changes[0] == Put(Namespace("new"))
    assert changes[-1] == Gone(Kind.NAMESPACE, "", "old")


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """Creating a source reads no file, so a missing path is not an error yet."""
    assert ManifestsSource(WatchOptions(manifests=("/no/where",)), log=LOG).kinds == (
        Kind.SERVICE,
        Kind.ENDPOINT_SLICE,
        Kind.NAMESPACE,
    )


async def test_a_file_that_hangs_leaves_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A FIFO without a writer hangs. One WARNING line is logged, and no change is sent."""
    async with running(tmp_path / "a.yaml", stateful(1)) as run:
        await run.changes()
        monkeypatch.setattr(blocking_io, "WARN_AFTER", 0.01)
        run.path.unlink()
        os.mkfifo(run.path)
        run.edits.made()
        async with asyncio.timeout(30):
            while not caplog.messages:
                await asyncio.sleep(0.001)
        assert set(caplog.messages) == {
            f'file access is slow: still waiting files="manifests in {run.path}" seconds=0.01'
        }
        assert run.sent == []
        await fifos.write(run.path, stateful(2))
        assert targets(await run.changes()) == [["db-0", "db-1"]]
