"""Manifests from standard input."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from svcdns.cli.errors import CannotRun
from svcdns.cli.standard_input import STANDARD_INPUT, keep_manifests


@pytest.fixture
def feed() -> Iterator[int]:
    """The other end of a pipe that is standard input."""
    before = os.dup(STANDARD_INPUT)
    read, write = os.pipe()
    os.dup2(read, STANDARD_INPUT)
    os.close(read)
    yield write
    os.dup2(before, STANDARD_INPUT)
    os.close(before)


def test_the_content_of_a_pipe_can_be_read_twice(feed: int) -> None:
    os.write(feed, b"kind: Service\n")
    os.close(feed)
    for _ in range(2):
        keep_manifests(["a.yaml", "-"])
        assert os.pread(STANDARD_INPUT, 100, 0) == b"kind: Service\n"


def test_an_empty_pipe_is_an_error(feed: int) -> None:
    os.close(feed)
    with pytest.raises(CannotRun, match="standard input is empty"):
        keep_manifests(["-"])


def test_a_terminal_is_an_error(feed: int) -> None:
    """The message says what to write."""
    os.close(feed)
    controller, terminal = os.openpty()
    os.dup2(terminal, STANDARD_INPUT)
    try:
        with pytest.raises(CannotRun, match="which is a terminal; pipe them: 'kubectl kustomize"):
            keep_manifests(["-"])
    finally:
        os.close(controller)
        os.close(terminal)


def test_other_paths_leave_standard_input_alone(feed: int) -> None:
    os.write(feed, b"text")
    os.close(feed)
    keep_manifests(["a.yaml"])
    assert os.read(STANDARD_INPUT, 100) == b"text"
