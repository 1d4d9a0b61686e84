"""The path `-` of the option `manifests`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.watch_options import WatchOptions
from svcdns.sources.manifests import ManifestError, ManifestsSource, kinds
from svcdns.sources.manifests.cluster import ObjectKey


@pytest.fixture
def standard_input(tmp_path: Path) -> Iterator[Path]:
    """Makes a file the standard input during the test."""
    path = tmp_path / "input"
    path.touch()
    saved, opened = os.dup(0), os.open(path, os.O_RDONLY)
    os.dup2(opened, 0)
    os.close(opened)
    yield path
    os.dup2(saved, 0)
    os.close(saved)


def source() -> ManifestsSource:
    """Returns a source that reads only standard input."""
    return ManifestsSource(WatchOptions(manifests=("-",)), log=logging.getLogger("svcdns.tests.manifests"))


def test_standard_input_is_read_from_its_beginning(standard_input: Path) -> None:
    standard_input.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: tea}\n")
    for _ in range(2):
        assert ObjectKey(Kind.SERVICE, "default", "tea") in source().load().objects


def test_errors_have_the_file_name_of_standard_input(standard_input: Path) -> None:
    standard_input.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: 1}\n")
    warning = kinds.read("-").warnings[0]
    assert warning.startswith("-:3: metadata.name: expected text")


def test_a_pipe_is_an_error(standard_input: Path) -> None:
    """A process that starts later could not read a pipe again."""
    read, write = os.pipe()
    os.dup2(read, 0)
    os.close(read)
    os.close(write)
    with pytest.raises(ManifestError, match=r"^-: standard input is read only if"):
        source().load()
    assert standard_input.exists()
