"""Lists of the names in a zone, and the differences between two lists."""

from __future__ import annotations

import json
from pathlib import Path

from svcdns.cli.offline_server import cluster_corefile, running
from svcdns.inspection.zone_listing import Changed, Listing, difference, listing, schema

ROOT = Path(__file__).parents[2]
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: {0}}}\nspec: {{clusterIP: {1}, ports: [{{name: http, port: {2}}}]}}\n---\n"


async def listed(path: Path, text: str) -> Listing:
    path.write_text(text)
    async with running(cluster_corefile("cluster.local.", [str(path)])) as server:
        return listing(server, "cluster.local.")


async def test_every_name_has_its_records(tmp_path: Path) -> None:
    found = await listed(tmp_path / "a.yaml", SERVICE.format("web", "10.96.1.1", 80))
    own = {key: data for key, data in found.items() if "web" in key[0]}
    assert own == {
        ("_http._tcp.web.default.svc.cluster.local.", "SRV"): ("0 100 80 web.default.svc.cluster.local.",),
        ("web.default.svc.cluster.local.", "A"): ("10.96.1.1",),
        ("web.default.svc.cluster.local.", "SRV"): ("0 100 80 web.default.svc.cluster.local.",),
    }


async def test_names_that_appear_vanish_and_change(tmp_path: Path) -> None:
    before = await listed(
        tmp_path / "a.yaml", SERVICE.format("web", "10.96.1.1", 80) + SERVICE.format("old", "10.96.1.2", 80)
    )
    after = await listed(
        tmp_path / "b.yaml", SERVICE.format("web", "10.96.1.9", 80) + SERVICE.format("new", "10.96.1.2", 80)
    )
    found = difference(before, after)
    assert {one.name for one in found.appear} == {
        "_http._tcp.new.default.svc.cluster.local.", "new.default.svc.cluster.local."
    }  # fmt: skip
    assert {one.name for one in found.vanish} == {
        "_http._tcp.old.default.svc.cluster.local.", "old.default.svc.cluster.local."
    }  # fmt: skip
    assert found.change == [Changed("web.default.svc.cluster.local.", "A", ["10.96.1.1"], ["10.96.1.9"])]


def test_the_documented_schema_is_that_of_a_difference() -> None:
    assert json.loads((ROOT / "docs/schemas/query-diff.json").read_text()) == schema()
