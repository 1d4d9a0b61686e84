"""Manifests as text, read the way the source reads them from files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from svcdns.cluster.watch_options import WatchOptions
from svcdns.sources.manifests import ManifestsSource
from svcdns.sources.manifests.cluster import Cluster

Say = Callable[..., Cluster]


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """The cluster that a text says; keyword arguments are those of WatchOptions, with Pods unless they say otherwise."""

    def read(text: str, **options: Any) -> Cluster:
        path = tmp_path / "cluster.yaml"
        path.write_text(dedent(text))
        return ManifestsSource(WatchOptions(manifests=(str(path),), **{"pods": True, **options}), log=logging.getLogger("manifests")).load()

    return read
