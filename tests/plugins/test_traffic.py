"""The plugin `traffic` (docs/plugins/traffic.md)."""

from __future__ import annotations

import pytest

from svcdns.plugins.traffic import Traffic
from tests.support import world


@pytest.mark.parametrize(("text", "pods"), [("traffic", False), ("traffic {\n pods\n}", True)])
def test_it_configures_the_listeners_and_control(text: str, pods: bool) -> None:
    settings = Traffic.settings(world.options("traffic", text))
    assert (settings.records_traffic, settings.names_pods) == (True, pods)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("traffic all", "2:9 Wrong argument count", id="argument"),
        pytest.param("traffic {\n pod\n}", "3:2 unknown property 'pod'", id="option"),
        pytest.param("traffic {\n pods all\n}", "3:7 Wrong argument count", id="argument of pods"),
        pytest.param("traffic\ntraffic", "3:1 ", id="twice"),
    ],
)
def test_rejected_options(text: str, error: str) -> None:
    assert world.rejection("traffic", text).startswith(error)
