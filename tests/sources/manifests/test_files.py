"""The files of the option `manifests`, and the folders to watch so that no change is missed."""

import os
from pathlib import Path

import pytest

from svcdns.sources.manifests.files import find


def touch(root: Path, *names: str) -> None:
    """Creates empty files and their folders."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path, *paths: str) -> list[str]:
    """Returns the files below those paths, relative to the root."""
    return [str(Path(file.path).relative_to(root)) for file in find(tuple(str(root / path) for path in paths)).files]


def test_folders_are_read_whole_and_in_order(tmp_path: Path) -> None:
    """Files with .yaml, .yml or .json at any depth are read in sorted order. Hidden files are not read."""
    touch(
        tmp_path,
        "b.yaml",
        "a.yml",
        "c.json",
        "D.YAML",
        "README.md",
        ".hidden.yaml",
        ".git/x.yaml",
        "sub/deep/e.yaml",
        "sub/a.yaml",
        "z.yaml~",
    )
    assert names(tmp_path, "") == ["D.YAML", "a.yml", "b.yaml", "c.json", "sub/a.yaml", "sub/deep/e.yaml"]


def test_a_named_file_counts_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.txt", "a.yaml")
    assert names(tmp_path, "b.txt", "a.yaml") == ["b.txt", "a.yaml"]


def test_a_file_counts_once(tmp_path: Path) -> None:
    """The same file is in a folder, is named by the option, and is the target of a link."""
    touch(tmp_path, "m/a.yaml")
    (tmp_path / "m/b.yaml").symlink_to("a.yaml")
    (tmp_path / "link").symlink_to("m")
    assert names(tmp_path, "m", "m/a.yaml", "link") == ["m/a.yaml"]


def test_links_in_a_circle(tmp_path: Path) -> None:
    """A folder that links to itself is read once. A link to itself counts as missing."""
    touch(tmp_path, "m/a.yaml")
    (tmp_path / "m/again").symlink_to("../m")
    assert names(tmp_path, "m") == ["m/a.yaml"]
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert find((str(tmp_path / "loop.yaml"),)).missing is not None


def test_missing(tmp_path: Path) -> None:
    """A missing path is reported, and the nearest folder above it is watched."""
    found = find((str(tmp_path / "no/where/a.yaml"),))
    assert (
        str(found.missing)
        == f"{tmp_path}/no/where/a.yaml: No such file or directory; a file or folder of manifests was expected"
    )
    assert found.directories == {os.path.realpath(tmp_path)}


def test_watched_folders(tmp_path: Path) -> None:
    """Each folder with files is watched, and the parent of each given path, because the path may be replaced."""
    touch(tmp_path, "m/a.yaml", "m/sub/b.yaml", "other/c.yaml", "other/not/d.yaml")
    found = find((str(tmp_path / "m"), str(tmp_path / "other/c.yaml")))
    assert found.directories == {os.path.realpath(tmp_path / name) for name in ("", "m", "m/sub", "other")}


def test_config_map_mount(tmp_path: Path) -> None:
    """Every folder that contains a link on the way to the content is watched."""
    touch(tmp_path, "mount/..2025_01/cluster.yaml", "mount/..2025_01/other.yaml")
    (tmp_path / "mount/..data").symlink_to("..2025_01")
    for name in ("cluster.yaml", "other.yaml"):
        (tmp_path / "mount" / name).symlink_to(f"..data/{name}")
    assert names(tmp_path, "mount") == ["mount/cluster.yaml", "mount/other.yaml"]
    directories = find((str(tmp_path / "mount/cluster.yaml"),)).directories
    assert {os.path.realpath(tmp_path / "mount"), os.path.realpath(tmp_path / "mount/..2025_01")} <= directories


def test_link_to_another_folder(tmp_path: Path) -> None:
    """The target of a link changes in its own folder, so that folder is watched, too."""
    touch(tmp_path, "real/a.yaml")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a.yaml").symlink_to("../real/a.yaml")
    assert os.path.realpath(tmp_path / "real") in find((str(tmp_path / "m"),)).directories


@pytest.mark.parametrize("replace", [True, False], ids=["renamed-over", "written-in-place"])
def test_stamp(tmp_path: Path, replace: bool) -> None:
    """The stamp of a file changes after an edit in place, and after a rename of a new file over it."""
    path = tmp_path / "a.yaml"
    path.write_text("a")
    before = find((str(path),)).files
    assert find((str(path),)).files == before
    edited = tmp_path / "new" if replace else path
    edited.write_text("b" if replace else "longer")
    edited.rename(path)
    assert find((str(path),)).files != before


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        pytest.param(("b.yaml",), ["a.yaml", "sub/c.yaml"], id="a name, at any depth"),
        pytest.param(("sub",), ["a.yaml", "b.yaml"], id="a folder"),
        pytest.param(("sub/*",), ["a.yaml", "b.yaml"], id="a path below the folder"),
        pytest.param(("[ab].yaml", "x"), ["sub/c.yaml"], id="a pattern"),
        pytest.param(("/sub",), ["a.yaml", "b.yaml", "sub/b.yaml", "sub/c.yaml"], id="no match"),
    ],
)
def test_exclude(tmp_path: Path, exclude: tuple[str, ...], left: list[str]) -> None:
    """Files and folders that match a pattern are not read. A file that the option names is read."""
    (tmp_path / "sub").mkdir()
    for name in ("a.yaml", "b.yaml", "sub/b.yaml", "sub/c.yaml"):
        (tmp_path / name).touch()
    found = find((str(tmp_path),), exclude)
    assert [str(Path(file.path).relative_to(tmp_path)) for file in found.files] == left
    assert len(find((str(tmp_path / "a.yaml"),), ("a.yaml",)).files) == 1
