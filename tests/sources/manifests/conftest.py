"""Builds a cluster from the text of manifests."""

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
    """Returns a function that loads manifests from text. Its keyword arguments are fields of WatchOptions."""

    def read(text: str, **options: Any) -> Cluster:
        path = tmp_path / "cluster.yaml"
        path.write_text(dedent(text))
        return ManifestsSource(
            WatchOptions(manifests=(str(path),), **{"pods": True, **options}), log=logging.getLogger("manifests")
        ).load()

    return read
