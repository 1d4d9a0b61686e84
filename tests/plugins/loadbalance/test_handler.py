"""The plugin *loadbalance* (docs/behaviour/plugins.md#loadbalance)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.loadbalance import LoadBalance
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from tests.support import world

MIXED = world.records(
    "b. 5 IN MX 10 m1.", "c. 5 IN A 10.0.0.1", "c. 5 IN A 10.0.0.2", "a. 5 IN CNAME c.", 'c. 5 IN TXT "x"', "b. 5 IN MX 20 m2."
)  # fmt: skip


class Balanced:
    """The plugin *loadbalance*, and the content of its weight file."""

    def __init__(self, text: str = "loadbalance", weights: dict[str, dict[str, int]] | None = None) -> None:
        """Creates the plugin. `weights` is what control has read from the file, or None if control has not read it."""
        self.forgotten: list[tuple[Dependency, ...]] = []
        self.calls: list[Callable[[bytes], None]] = []
        self.plugin = LoadBalance(
            world.options("loadbalance", text),
            world.environment(
                data=lambda *_: payload(weights) if weights is not None else None,
                on_data=lambda _plugin, _key, call: self.calls.append(call),
                invalidate=self.forgotten.append,
            ),
        )

    def ask(self, reply: Reply, rtype: str = "A") -> Reply:
        return world.now(self.plugin.handle(world.query("a.", rtype), world.following(reply)))

    def arranged(self, reply: Reply, rtype: str = "A", seed: int = 1) -> list[str]:
        """Returns the answer section in one of its orders."""
        marked = self.ask(reply, rtype)
        assert marked.rotate is not None
        return world.shown(marked.rotate(marked, Random(seed)).variant(0, 1).answer)


def payload(weights: dict[str, dict[str, int]]) -> bytes:
    """Encodes weights as control sends them."""
    found = {
        names.from_text(name): {packed(text) or b"": one for text, one in own.items()} for name, own in weights.items()
    }
    return msgspec.msgpack.encode(found)


def test_orders_records_by_type() -> None:
    """The order is CNAME, other types, addresses, MX. Addresses and MX records are shuffled."""
    shown = [tuple(Balanced().arranged(Reply(answer=MIXED), seed=seed)) for seed in range(20)]
    kinds = {tuple(line.split()[3] for line in lines) for lines in shown}
    assert kinds == {("CNAME", "TXT", "A", "A", "MX", "MX")}
    assert len(set(shown)) == 4


@pytest.mark.parametrize(
    ("text", "reply", "rtype"),
    [
        pytest.param("loadbalance", Reply(answer=MIXED[1:2]), "A", id="one record"),
        pytest.param("loadbalance", Reply(rcode=Rcode.NXDOMAIN, answer=MIXED), "A", id="not NOERROR"),
        pytest.param("loadbalance", Reply(answer=MIXED), "AXFR", id="zone transfer"),
        pytest.param("loadbalance", Reply(answer=MIXED, has_message=False), "A", id="not written"),
        pytest.param("loadbalance weighted w", Reply(answer=MIXED), "MX", id="weights of other types"),
    ],
)
def test_unchanged_replies(text: str, reply: Reply, rtype: str) -> None:
    """If there is nothing to reorder, the plugin returns the same Reply object."""
    assert Balanced(text).ask(reply, rtype) is reply


def test_preferred_addresses_come_first() -> None:
    """The addresses have the order of the networks, and are shuffled within each network. Other types come last."""
    lines = [f"c. 5 IN A 10.{net}.0.{host}" for net in (0, 1, 2) for host in (1, 2)]
    lines += ["a. 5 IN CNAME c.", 'c. 5 IN TXT "x"', "c. 5 IN MX 1 m."]
    balanced = Balanced("loadbalance {\n prefer 10.2.0.0/16\n prefer 10.1.0.0/16 10.2.0.0/15\n}")
    shown = [balanced.arranged(Reply(answer=world.records(*lines)), seed=seed) for seed in range(30)]
    nets = {tuple(line.split()[4].rpartition(".")[0] for line in one if " A " in line) for one in shown}
    assert nets == {("10.2.0", "10.2.0", "10.1.0", "10.1.0", "10.0.0", "10.0.0")}
    assert {tuple(line.split()[3] for line in one) for one in shown} == {("CNAME", *["A"] * 6, "MX", "TXT")}
    assert len({tuple(one) for one in shown}) == 8


def test_an_address_is_first_in_proportion_to_its_weight() -> None:
    """An address that is not in the file has weight 1."""
    balanced = Balanced("loadbalance weighted w", {"c.": {"10.0.0.1": 7}, "d.": {"10.0.0.2": 200}})
    firsts = [balanced.arranged(Reply(answer=MIXED[1:3]), seed=seed)[0] for seed in range(400)]
    assert 320 <= firsts.count("c. 5 IN A 10.0.0.1") <= 380


def test_weighted_answers_depend_on_the_file() -> None:
    """A change of the file invalidates the replies, and the new weights are used."""
    balanced = Balanced("loadbalance weighted w")
    before = balanced.ask(Reply(answer=MIXED, dependencies=(("service", "d", "web"),)))
    assert before.dependencies == (("service", "d", "web"), ("weights", "w"))
    balanced.calls[0](payload({"c.": {"10.0.0.2": 255}}))
    assert balanced.forgotten == [(("weights", "w"),)]
    firsts = [balanced.arranged(Reply(answer=MIXED[1:3]), seed=seed)[0] for seed in range(50)]
    assert firsts.count("c. 5 IN A 10.0.0.2") > 40


def test_negative_answers_are_name_independent() -> None:
    """*loadbalance* does not change negative answers."""
    assert Balanced().plugin.name_independent(b"\0")
