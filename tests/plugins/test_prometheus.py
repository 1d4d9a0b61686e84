"""The options of *prometheus*."""

from __future__ import annotations

import pytest

from svcdns.plugins.prometheus import Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("prometheus", Options(("localhost", 9153)), id="default"),
        pytest.param("prometheus :9153", Options(("", 9153)), id="all addresses"),
        pytest.param("prometheus [::1]:9153 {\n runtime_metrics\n}", Options(("::1", 9153)), id="runtime metrics"),
    ],
)
def test_reads(text: str, read: Options) -> None:
    """The default listen address is localhost:9153."""
    assert world.options("prometheus", text) == read


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("prometheus\nprometheus", "3:1 plugin/prometheus: this plugin can only be used once", id="twice"),
        pytest.param("prometheus {\n tls a b\n}", "3:2 prometheus over TLS is not built yet", id="tls"),
        pytest.param("prometheus :x", "2:12 ':x' is not an address", id="port"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("prometheus", text).startswith(error)
