"""Limits to the reuse of a reply: what a plugin has read for it counts, whatever the plugins declare."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from svcdns.chain.build import chain
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugin_api.reuse import OUTSIDE, apart, plugin_of, running
from svcdns.wire.record import Record
from tests.support import world

REPLY = Reply(
    answer=world.records("a.b. 5 IN A 192.0.2.1"), lifetime=UNTIL_CHANGED, dependencies=(("service", "b", "a"),)
)
SHARED, CLASS, CLIENT = CacheScope


class Cluster(Plugin):
    """The last plugin of the chain. Its reply comes immediately or later."""

    name = "cluster"

    def __init__(self, answer: Callable[[], Answer] = lambda: REPLY) -> None:
        self._answer = answer

    def handle(self, query: Query, following: Following) -> Answer:
        return self._answer()


class Outer(Plugin):
    """A plugin whose `handle` calls a function of the test."""

    name = "outer"

    def __init__(self, handle: Callable[[Query, Following], Answer] | None = None) -> None:
        self._handle = handle

    def handle(self, query: Query, following: Following) -> Answer:
        return following(query) if self._handle is None else self._handle(query, following)


class Classifying(Outer):
    """A plugin that has one client class for each address family."""

    name = "classifying"

    def client_class(self, address: str) -> str:
        return "6" if ":" in address else "4"


class Stating(Outer):
    name = "stating"
    states_reuse = True


async def coroutine() -> Reply:
    await asyncio.sleep(0)
    return REPLY


def deferred(reply: Reply = REPLY) -> Answer:
    """Returns a reply that comes later. No asyncio task is created for it."""
    made = Deferred()
    asyncio.get_running_loop().call_soon(made.set, reply)
    return made


LATER = [
    pytest.param(lambda: REPLY, id="now"),
    pytest.param(coroutine, id="coroutine"),
    pytest.param(deferred, id="deferred"),
]


async def answered(*plugins: Plugin, **fields: Any) -> Reply:
    entry = chain(plugins)
    assert entry is not None
    reply = await world.soon(entry(world.query("a.b.", **fields)))
    assert running.current is OUTSIDE
    return reply


def reads(what: str) -> Callable[[Query, Following], Answer]:
    """Returns a handler that reads the attribute `what` of the query."""

    def handle(query: Query, following: Following) -> Answer:
        found: Any = query
        for name in what.split("."):
            found = getattr(found, name)
        return following(query)

    return handle


def reads_when_the_reply_is_there(query: Query, following: Following) -> Answer:
    """Reads the client's address in a callback, after the reply has arrived."""

    def change(reply: Reply) -> Reply:
        return msgspec.structs.replace(reply, rcode=len(query.client.address) and reply.rcode)

    return then(following(query), change)


async def _waiting(query: Query, following: Following) -> Reply:
    answer = following(query)
    reply = answer if isinstance(answer, Reply) else await answer
    assert query.client.port
    return reply


async def _spawning(query: Query, following: Following) -> Reply:
    return await asyncio.ensure_future(_waiting(query, following))


def spawns(query: Query, following: Following) -> Answer:
    """Returns a task that waits, and then reads the client's address."""
    return asyncio.ensure_future(_waiting(query, following))


@pytest.mark.parametrize("answer", LATER)
@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(reads("client.address"), id="address"),
        pytest.param(reads("client.protocol"), id="transport"),
        pytest.param(reads("client.local_address"), id="local address"),
        pytest.param(reads("server"), id="listener"),
        pytest.param(reads("ident"), id="message id"),
        pytest.param(reads_when_the_reply_is_there, id="in a callback"),
        pytest.param(_waiting, id="in a coroutine"),
        pytest.param(_spawning, id="in a task of a coroutine"),
        pytest.param(spawns, id="in a task"),
        pytest.param(lambda q, f: reads("client.address")(q.changed(flags=0), f), id="from a copy"),
    ],
)
async def test_a_reply_for_which_a_plugin_read_the_client_is_for_that_client(
    answer: Callable[[], Answer], handle: Any
) -> None:
    assert (await answered(Outer(handle), Cluster(answer))).scope is CLIENT
    assert (await answered(Classifying(), Outer(handle), Stating(), Cluster(answer))).scope is CLIENT


@pytest.mark.parametrize("answer", LATER)
@pytest.mark.parametrize(
    ("what", "scope"),
    [
        ("client.address", CLASS),
        ("client.family", CLASS),
        ("client.protocol", CLIENT),
        ("client.local_port", CLIENT),
        ("server", CLIENT),
    ],
)
async def test_a_plugin_with_client_classes_reads_addresses_for_a_class(
    answer: Callable[[], Answer], what: str, scope: CacheScope
) -> None:
    """If the plugin reads another property than the address, the reply is valid for this client only."""
    assert (await answered(Classifying(reads(what)), Cluster(answer))).scope is scope


@pytest.mark.parametrize("answer", LATER)
async def test_plugins_that_read_nothing_of_the_client_change_nothing(answer: Callable[[], Answer]) -> None:
    plugins = (
        Outer(),
        Stating(reads("client.address")),
        Outer(lambda q, f: then(f(q), lambda reply: reply)),
        Cluster(answer),
    )
    assert await answered(*plugins) == REPLY


async def test_a_new_reply_keeps_the_reuse_terms_of_the_reply_it_is_made_from() -> None:
    ticking = msgspec.structs.replace(REPLY, lifetime=20.0, next_second=0.5, scope=CLASS)

    def made(reply: Reply) -> Reply:
        return Reply(answer=reply.answer, lifetime=UNTIL_CHANGED)

    async def waits(query: Query, following: Following) -> Reply:
        answer = following(query)
        return made(answer if isinstance(answer, Reply) else await answer)

    for answer in (
        lambda: ticking,
        lambda: then(coroutine(), lambda _: ticking),
        lambda: then(deferred(), lambda _: ticking),
    ):
        for handle in (lambda q, f: then(f(q), made), waits):
            reply = await answered(Outer(handle), Cluster(answer))
            assert (reply.lifetime, reply.dependencies, reply.scope) == (20.0, REPLY.dependencies, CLASS)


async def test_a_reply_with_changed_ttls_expires_at_the_next_second() -> None:
    """From lower TTLs in the original reply, the plugin could compute other TTLs."""
    ticking = msgspec.structs.replace(REPLY, lifetime=20.0, next_second=0.5)

    def bounded(reply: Reply) -> Reply:
        return msgspec.structs.replace(reply, answer=tuple(Record(r.owner, r.rtype, 2, r.rdata) for r in reply.answer))

    reply = await answered(Outer(lambda q, f: then(f(q), bounded)), Cluster(lambda: ticking))
    assert (reply.lifetime, reply.next_second) == (0.5, UNTIL_CHANGED)
    assert await answered(Outer(lambda q, f: then(f(q), lambda r: r)), Cluster(lambda: ticking)) == ticking


@pytest.mark.parametrize("answer", LATER)
async def test_self_queries_add_their_reuse_terms(answer: Callable[[], Answer]) -> None:
    """A self query is a query that a plugin sends to its own server."""
    asked = Reply(lifetime=9.0, dependencies=(("file", "x"),), increments=((1, 1.0),))

    async def later() -> Reply:
        return asked

    def callback(query: Query, following: Following) -> Answer:
        return then(query.ask(b"\1x\0", 1), lambda _: REPLY)

    async def awaits(query: Query, following: Following) -> Reply:
        rest = following(query)
        reply = rest if isinstance(rest, Reply) else await rest
        other = query.ask(b"\1x\0", 1)
        assert other == asked or await world.soon(other) == asked
        return reply

    for ask in (lambda _: asked, lambda _: later(), lambda _: deferred(asked)):
        for handle in (callback, awaits):
            reply = await answered(Outer(handle), Cluster(answer), ask=ask)
            assert (reply.answer, reply.lifetime, reply.increments) == (REPLY.answer, 9.0, asked.increments)
            assert set(reply.dependencies) == {*REPLY.dependencies, *asked.dependencies}


def when_replied(read: Callable[[], object]) -> Callable[[Query, Following], Answer]:
    """Returns a handler that calls `read` after the reply of the next plugins has arrived."""
    return lambda query, following: then(following(query), lambda reply: (read(), reply)[1])


async def test_a_reply_is_for_one_client_if_a_plugin_reads_the_clock_or_random_numbers() -> None:
    environment = world.environment().recording()
    for read in (
        environment.clock,
        environment.random.random,
        lambda: environment.random.choice("ab"),
        lambda: environment.random.sample("ab", 1),
    ):
        reply = await answered(Outer(when_replied(read)), Cluster())
        assert reply.scope is CLIENT
    environment.clock()
    assert (await answered(Outer(), Cluster())).scope is SHARED


async def test_plugin_data_that_is_read_is_a_dependency() -> None:
    payloads = {("outer", "path"): b"1"}
    changed: list[Callable[[bytes], None]] = []
    invalidated: list[Dependency] = []
    environment = world.environment(
        data=lambda plugin, key: payloads.get((plugin, key)),
        on_data=lambda _plugin, _key, call: changed.append(call),
        invalidate=invalidated.extend,
    )
    content = environment.content("outer", "path", int, 0)
    assert environment.content("outer", "other", int, 0).value == 0
    values = []
    plugin = Outer(lambda q, f: (values.append(content.value), f(q))[1])
    assert (await answered(plugin, Cluster())).dependencies == (*REPLY.dependencies, ("outer", "path"))
    changed[0](b"2")
    await answered(plugin, Cluster())
    assert (values, invalidated) == ([1, 2], [("outer", "path")])


async def test_queries_that_are_handled_at_the_same_time_do_not_share_terms() -> None:
    other = Reply(lifetime=2.0, dependencies=(("other",),))
    entry = chain([Outer(reads("client.address")), Cluster(lambda: other)])
    assert entry is not None
    poll = apart(lambda: entry(world.query("x.")))

    def polls(query: Query, following: Following) -> Answer:
        poll()
        reply = following(query)
        poll()
        return then(reply, lambda reply: (poll(), reply)[1])

    for answer in (lambda: REPLY, coroutine, deferred):
        assert await answered(Outer(polls), Cluster(answer)) == REPLY


async def test_a_plugin_that_calls_the_next_plugin_several_times_depends_on_all_replies() -> None:
    replies = iter([Reply(lifetime=float(number), dependencies=((str(number),),)) for number in (7, 8, 9)])

    def sends(query: Query, following: Following) -> Answer:
        first, _, _ = following(query), following(query), following(query.changed(rtype=16))
        assert isinstance(first, Reply)
        return Reply(lifetime=UNTIL_CHANGED)

    reply = await answered(Outer(sends), Outer(), Cluster(lambda: next(replies)))
    assert (reply.lifetime, set(reply.dependencies)) == (7.0, {("7",), ("8",), ("9",)})


@pytest.mark.parametrize("answer", LATER)
async def test_reads_nothing_does_not_hide_what_other_plugins_read(answer: Callable[[], Answer]) -> None:
    """`reads_nothing` is what a plugin declares that reads nothing about the client."""

    class Plain(Outer):
        reads_nothing = True

    plain = Plain(lambda q, f: then(f(q), lambda reply: msgspec.structs.replace(reply, flags=1)))
    assert (await answered(plain, Outer(reads("server")), Cluster(answer))).scope is CLIENT
    assert (await answered(Outer(reads("server")), plain, Cluster(answer))).scope is CLIENT
    assert await answered(Outer(), plain, Outer(), Cluster(answer)) == msgspec.structs.replace(REPLY, flags=1)


@pytest.mark.parametrize("answer", LATER)
async def test_an_exception_names_the_plugin_that_raised_it(answer: Callable[[], Answer]) -> None:
    def fails(query: Query, following: Following) -> Answer:
        raise KeyError

    def fails_on_reply(reply: Reply) -> Reply:
        raise KeyError

    async def fails_later(query: Query, following: Following) -> Reply:
        raise KeyError

    for handle in (fails, fails_later, lambda q, f: then(f(q), fails_on_reply)):
        with pytest.raises(KeyError) as raised:
            await answered(Classifying(), Outer(handle), Cluster(answer))
        assert plugin_of(raised.value) == "outer"
    assert running.current is OUTSIDE


async def returns_what_follows(query: Query, following: Following) -> Any:
    """Returns the answer of the next plugin without `await`."""
    return following(query)


async def awaits_what_follows(query: Query, following: Following) -> Reply:
    """Awaits the answer of the next plugin, and changes its rcode."""
    return msgspec.structs.replace(await following(query), rcode=3)


@pytest.mark.parametrize("answer", LATER)
async def test_a_coroutine_may_await_every_answer(answer: Callable[[], Answer]) -> None:
    reply = await answered(Outer(awaits_what_follows), Cluster(answer))
    assert (reply.rcode, reply.dependencies) == (3, REPLY.dependencies)


def forgets_to_return(query: Query, following: Following) -> Answer:
    """Passes a callback to `then` that returns None."""
    change: Any = lambda _reply: None  # noqa: E731 - a function without a result
    return then(following(query), change)


HANDLED = "plugin/outer: handle, or a function passed to 'then', returned "
NONE = "None; a Reply was expected: is a 'return' missing?"


@pytest.mark.parametrize(
    ("handle", "answer", "text"),
    [
        (lambda _q, _f: None, lambda: REPLY, NONE),
        (lambda _q, _f: b"reply", lambda: REPLY, "bytes; a Reply was expected"),
        (forgets_to_return, lambda: REPLY, NONE),
        (forgets_to_return, deferred, NONE),
        (forgets_to_return, coroutine, NONE),
        (returns_what_follows, deferred, "an awaitable; a Reply was expected: is an 'await' missing?"),
    ],
)
async def test_the_error_for_a_wrong_return_value_names_the_plugin(
    handle: Any, answer: Callable[[], Answer], text: str
) -> None:
    with pytest.raises(ContractError) as raised:
        await answered(Outer(handle), Cluster(answer))
    assert (str(raised.value), plugin_of(raised.value)) == (HANDLED + text, "outer")
