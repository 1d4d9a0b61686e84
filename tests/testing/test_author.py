"""Common mistakes of plugin authors. The contract check reports each mistake in one line that says what to correct."""

from __future__ import annotations

import datetime
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.plugin_api import (
    UNTIL_CHANGED,
    Answer,
    CorefileError,
    Environment,
    Following,
    NameTextError,
    Plugin,
    Query,
    Record,
    Reply,
    Type,
    names,
    then,
)
from svcdns.testing import check_contract

A = ("www.example.org.", "A")
OCTETS = bytes((192, 0, 2, 9))


def module(handle: Callable[[Any, Query, Following], Any] | None = None, **fields: Any) -> Any:
    """Returns the module of a plugin named `one`. Fields in capitals become attributes of the plugin's class."""
    own = {name.lower(): value for name, value in fields.items() if name.isupper()}
    if handle is not None:
        own["handle"] = handle
    plugin = type("One", (Plugin,), {"name": "one", "before": "cache", **own})
    functions = {name: value for name, value in fields.items() if not name.isupper()}
    return SimpleNamespace(**{"PLUGIN": plugin, "parse": lambda _block: None, "__file__": __file__, **functions})


def error_of(made: Any, block: str = "one", queries: Any = (A,), **more: Any) -> str:
    """Runs the check, which must fail. Returns the error's text, which must be one line and show no code of svcdns."""
    with pytest.raises(AssertionError) as raised:
        check_contract(made, block, queries, **more)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert [entry.path for entry in raised.traceback.filter(raised)] == [Path(__file__)]
    text = str(raised.value)
    assert "\n" not in text
    return re.sub(r"\(/\S*test_author.py, line \d+, in ", "(FILE ", text)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ("one\ncach 30", "block:2:1 - Error during parsing: Unknown directive 'cach' (did you mean 'cache'?)"),
        ("cache 30", "the block does not have the directive 'one'"),
        ("one\ncache x y z {", "block:1:11 - '{' without its end"),
        ("one\n}\nwhoami", "block:4:1 - '}' without a '{' before it"),
        ("one\nwhoami x", "block:2:8 - Error during parsing: "),
    ],
)
def test_a_block_with_a_mistake(block: str, text: str) -> None:
    """The check reports unknown directives and syntax errors with their position."""
    assert error_of(module(), block).startswith(text)


@pytest.mark.parametrize("queries", [[A, ("www.example.org.",)], [A, ("www.example.org.", "B")], [A, ("a" * 64, "A")]])
def test_an_item_that_is_not_a_query(queries: Any) -> None:
    """The error shows the item of `queries`."""
    assert error_of(module(), queries=queries) == (
        f"{queries[1]!r} is no query: a pair such as ('www.example.org.', 'A') was expected"
    )


def test_no_queries() -> None:
    """The check refuses an empty list of queries."""
    assert error_of(module(), queries=[]).startswith("there are no queries")


async def test_within_an_event_loop() -> None:
    """The check refuses to run while an event loop runs."""
    assert error_of(module()) == "call check_contract in a test that is no coroutine: an event loop runs here"


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (SimpleNamespace(parse=1), "the module: PLUGIN, a subclass of Plugin, and parse(block) were expected"),
        (module(PLUGIN=int), "<class 'int'> is no plugin"),
        (module(HANDEL=1), "plugin/one: 'handel' is no hook of the plugin contract; did you mean 'handle'?"),
        (
            module(HANDLE=lambda _self, _query: None),
            "plugin/one: the hook 'handle' does not take (self, query, following)",
        ),
        (module(BEFORE="cach"), "plugin/one: it is to stand before 'cach', which is no other directive; did you mean"),
        (module(period=int), "plugin/one: the module has period, but no gather"),
        (module(gather=1, refresh=int, period=1), "plugin/one: the module has refresh, but no gather"),
        (module(gather=int, refresh=int), "plugin/one: the module has refresh, but no period: refresh has no effect"),
        (module(gather=int, period=int), "plugin/one: the module has period, but no refresh: period has no effect"),
    ],
)
def test_a_module_with_a_mistake(made: Any, text: str) -> None:
    """The check reports the mistake before it sends a query."""
    if made is not None and getattr(getattr(made, "PLUGIN", None), "plugin", None) is int:
        made.PLUGIN = int
    assert error_of(made).startswith(text)


@dataclass
class Mutable:
    """Options that are not frozen."""

    names: list[str]


class Opaque:
    """Options that are equal only to themselves."""


@dataclass(frozen=True)
class Holding:
    """Frozen options that contain a list."""

    names: list[str]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (
            lambda _block: Mutable([]),
            "plugin/one: parse returned Mutable: unhashable type: 'Mutable'; frozen options were",
        ),
        (lambda _block: {}, "plugin/one: parse returned dict: unhashable type: 'dict'; frozen options were expected"),
        (
            lambda _block: Holding([]),
            "plugin/one: parse returned Holding: unhashable type: 'list'; frozen options were",
        ),
        (lambda _block: Opaque(), "plugin/one: parse returned different options (Opaque) for the same text; frozen"),
        (
            lambda block: int(block.directives[0].arguments[0].text),
            "block:1:13 - plugin/one: parse failed: IndexError: ",
        ),
        (lambda _block: names.from_text("a..b"), "block:1:13 - Error during parsing: plugin/one: label of 0 octets"),
    ],
)
def test_parse_with_a_mistake(parse: Any, text: str) -> None:
    """The check reports mutable options, and exceptions of `parse`."""
    assert error_of(module(parse=parse)).startswith(text)


def reply(**fields: Any) -> Callable[[Any, Query, Following], Reply]:
    """Returns a handler whose reply has these fields."""
    return lambda _self, _query, _following: Reply(**fields)


def record(**fields: Any) -> Callable[[Any, Query, Following], Reply]:
    """Returns a handler whose reply has one record with these fields."""
    made = {"owner": b"\3www\7example\3org\0", "rtype": Type.A, "ttl": 30, "rdata": OCTETS, **fields}
    return lambda _self, _query, _following: Reply(answer=(Record(**made),))


@pytest.mark.parametrize(
    ("handle", "text"),
    [
        (reply(flags="aa"), "flags is 'aa' (str); a number was expected"),
        (reply(rcode=None), "rcode is None (NoneType); a number was expected"),
        (reply(lifetime=None), "lifetime is None (NoneType); seconds were expected"),
        (reply(lifetime=-1), "lifetime is -1 (int); seconds were expected"),
        (reply(dependencies=("one",)), "dependencies is ('one',) (tuple); a tuple of tuples of texts was expected"),
        (reply(answer=[]), "answer is [] (list); a tuple of records was expected"),
        (reply(answer=("a",)), "answer has 'a' (str); a Record was expected"),
        (
            record(owner="a."),
            "answer has a record whose owner is 'a.' (str); a name in wire format was expected, as from",
        ),
        (record(owner=b"a."), "answer has a record whose owner is b'a.' (bytes); a name in wire format was expected"),
        (record(ttl=30.0), "answer has a record whose ttl is 30.0 (float); a number from 0 to 2147483647 was expected"),
        (record(ttl=-1), "answer has a record whose ttl is -1 (int); a number from 0 to 2147483647 was expected"),
        (record(rtype="A"), "answer has a record whose rtype is 'A' (str); a number from 0 to 65535 was expected"),
        (record(rdata="192.0.2.9"), "answer has a record whose rdata is '192.0.2.9' (str); octets in wire format were"),
        (record(rdata=b"192.0.2.9"), "answer has a record whose rdata is b'192.0.2.9' (bytes); 4 octets were expected"),
        (record(rdata=None), "answer has a record whose rdata is None (NoneType); octets in wire format were expected"),
        (
            record(rtype=Type.CNAME),
            "answer has a record whose rdata is b'\\xc0\\x00\\x02\\t' (bytes); a name in wire format",
        ),
        (record(rtype=Type.TXT, rdata=b"text"), "answer has a record whose rdata is b'text' (bytes); texts of at most"),
    ],
)
def test_a_reply_with_a_mistake(handle: Any, text: str) -> None:
    """The check reports a field of a wrong type or value, and the query."""
    found = error_of(module(handle))
    assert found.startswith(f"a reply is wrong: {text}")
    assert found.endswith("[www.example.org. A from 10.1.2.3 to port 53 over udp]")


def test_a_reply_of_other_types_is_right() -> None:
    """The check accepts correct records of several types."""
    for rtype, rdata in ((Type.TXT, b"\1a\2bc"), (Type.PTR, b"\1a\0"), (Type.AAAA, bytes(16)), (Type.MX, b"\0\1\1a\0")):
        check_contract(module(record(rtype=rtype, rdata=rdata)), "one", [A])


def uses_the_answer_as_a_reply(_self: Any, query: Query, following: Following) -> Any:
    """Uses an answer of `following` as if it were always a reply."""
    answer: Any = following(query)
    return answer.with_ttls(lambda _ttl: 5)


def raises(_self: Any, query: Query, _following: Following) -> Answer:
    return {b"": Reply()}[query.key]


NO_REPLY = "plugin/one: handle, or a function passed to 'then', returned "


@pytest.mark.parametrize(
    ("handle", "text"),
    [
        (lambda _self, _query, _following: None, NO_REPLY + "None; a Reply was expected: is a 'return' missing?"),
        (lambda _self, _query, _following: "10.0.0.1", NO_REPLY + "str; a Reply was expected"),
        (
            uses_the_answer_as_a_reply,
            "plugin/one: AttributeError: 'Deferred' object has no attribute 'with_ttls'; a reply may come later: "
            "change it with then(answer, change) (FILE uses_the_answer_as_a_reply)",
        ),
        (raises, r"plugin/one: KeyError: b'\x03www\x07example\x03org\x00' (FILE raises)"),
    ],
)
def test_a_handler_with_a_mistake(handle: Any, text: str) -> None:
    """The check reports a wrong result of `handle`, and an exception with the line of the author's file."""
    assert error_of(module(handle)) == f"{text} [www.example.org. A from 10.1.2.3 to port 53 over udp]"


def own_reply(query: Query, text: str) -> Reply:
    """Returns a reply with this text, and with the lifetime UNTIL_CHANGED."""
    data = text.encode()
    return Reply(answer=(Record(query.name, Type.TXT, 5, bytes((len(data),)) + data),), lifetime=UNTIL_CHANGED)


@pytest.mark.parametrize(
    ("handle", "field", "instead"),
    [
        (lambda _self, query, _following: own_reply(query, query.requestor.address), "requestor", "client"),
        (lambda _self, query, _following: own_reply(query, query.listener), "listener", "server"),
        (lambda _self, query, _following: own_reply(query, str(query.message_id)), "message_id", "ident"),
        (
            lambda _self, query, rest: then(rest(query), lambda _: own_reply(query, query.listener)),
            "listener",
            "server",
        ),
    ],
)
def test_fields_of_the_core(handle: Any, field: str, instead: str) -> None:
    """Some fields are only for the core. The error names the property to read instead."""
    text = f"plugin/one: handle reads query.{field}, which is for the core: read query.{instead}"
    assert error_of(module(handle)) == text


@pytest.mark.parametrize(
    ("handle", "text"),
    [
        (lambda _self, query, _following: own_reply(query, str(time.time())), "uses 'time'"),
        (lambda _self, query, _following: own_reply(query, random.choice("ab")), "uses 'random'"),
        (
            lambda _self, query, _following: own_reply(query, str(datetime.datetime.now(datetime.UTC))),
            "uses 'datetime'",
        ),
    ],
)
def test_clocks_and_random_numbers_of_python(handle: Any, text: str) -> None:
    """The check reports Python's clocks and random numbers in `handle`."""
    assert error_of(module(handle)) == (
        f"plugin/one: handle {text}, which the core cannot record: use environment.clock and environment.random"
    )


def test_a_handler_that_reads_a_file() -> None:
    made = module(lambda _self, query, _following: own_reply(query, Path("/etc/hostname").read_text()))
    assert error_of(made) == (
        "plugin/one: handle calls read_text: workers read no files; read it in the module's gather"
    )


def test_what_is_no_mistake() -> None:
    """The check accepts durations, measured times, and the time in hooks that are not called for a reply."""
    made = module(
        lambda _self, query, _following: own_reply(query, f"{datetime.timedelta(0)}{time.perf_counter() < 0}"),
        TICK=lambda _self: time.time(),
    )
    assert check_contract(made, "one", [A]) > 0


def test_replies_that_depend_on_the_number_of_calls() -> None:
    def handle(self: Any, query: Query, _following: Following) -> Reply:
        self._count = getattr(self, "_count", 0) + 1
        return own_reply(query, str(self._count))

    text = error_of(module(handle))
    assert re.match(
        r"www.example.org. A from \S+ to port 53 over udp: \[NOERROR; answer: www.example.org. 5 IN TXT ", text
    )
    assert text.endswith(
        "was expected; the page 'Writing a plugin' of svcdns has the rules under 'What makes a reply reusable'"
    )


def test_a_client_class_of_another_type() -> None:
    """A client class must be text."""
    made = module(CLIENT_CLASS=lambda _self, address: "v6" if ":" in address else None)
    assert error_of(made) == "plugin/one: client_class returned NoneType; a text was expected"


def test_an_error_of_init() -> None:
    """The check reports an exception of `__init__` with its line."""

    def __init__(_self: Any, _options: Any, _environment: Environment) -> None:  # noqa: N807 - that of the class
        raise KeyError("a")

    made = module()
    made.PLUGIN.__init__ = __init__
    assert error_of(made) == "block:1:13 - plugin/one: __init__ failed: KeyError: 'a' (FILE __init__)"


class Files(Plugin):
    """A plugin that answers with the content of a file."""

    name = "one"
    before = "cache"

    def __init__(self, options: Any, environment: Environment) -> None:
        super().__init__(options, environment)
        self._text = environment.content("one", "file", bytes.decode, "")

    def handle(self, query: Query, following: Following) -> Answer:
        return own_reply(query, self._text.value)


def with_file(path: Path, **fields: Any) -> Any:
    """Returns the module of a plugin that reads `path`. `fields` replace functions of the module."""

    def gather(_options: Any, _known: Any) -> dict[str, bytes]:
        return {"file": path.read_bytes()}

    hooks = {"gather": gather, "period": lambda _options: 5, "refresh": gather, **fields}
    return SimpleNamespace(**{"PLUGIN": Files, "parse": lambda _block: None, "__file__": __file__, **hooks})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_text("one")
    return made


def test_the_check_calls_refresh(file: Path) -> None:
    """The check calls `refresh` in each round and after each change. If a plugin has no `refresh`, the check calls
    `gather`.
    """
    calls = []

    def refresh(_options: Any, known: dict[str, bytes]) -> dict[str, bytes]:
        calls.append(dict(known))
        return {"file": file.read_bytes()}

    changes = [lambda: file.write_text("two")]
    assert check_contract(with_file(file, refresh=refresh), "one\ncache 30", [A], changes=changes) > 0
    assert calls.count({"file": b"one"}) > calls.count({"file": b"two"}) > 6
    made = with_file(file)
    del made.period, made.refresh
    assert check_contract(made, "one", [A], changes=[lambda: file.write_text("three")]) > 0


def test_a_refresh_that_misses_a_change(file: Path) -> None:
    """The check reports a `refresh` that does not return new content, or that is never called."""
    made = with_file(file, refresh=lambda _options, _known: {})
    text = "plugin/one: gather has new content for 'file', and refresh has not"
    assert error_of(made, changes=[lambda: file.write_text("two")]) == text
    made = with_file(file, period=lambda _options: 0)
    assert error_of(made, changes=[lambda: file.write_text("three")]) == text


def test_a_file_that_is_gone(file: Path) -> None:
    """If `refresh` returns nothing or raises an SvcdnsError, the last content stays in use."""

    def gather(_options: Any, _known: Any) -> dict[str, bytes]:
        try:
            return {"file": file.read_bytes()}
        except FileNotFoundError:
            raise NameTextError("no file") from None

    def refresh(_options: Any, _known: Any) -> dict[str, bytes]:
        return {"file": file.read_bytes()} if file.exists() else {}

    for hook in (refresh, gather):
        made = with_file(file, gather=gather, refresh=hook)
        assert check_contract(made, "one", [A], changes=[file.unlink]) > 0
        file.write_text("one")
    file.unlink()
    assert error_of(made) == "no file"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"refresh": lambda _options, _known: None},
            "refresh failed: TypeError: it returned NoneType; a dict with the",
        ),
        (
            {"gather": lambda _options, _known: {"file": "a"}},
            "gather failed: TypeError: it returned a dict with str: str",
        ),
        ({"period": lambda _options: None}, "period failed: TypeError: "),
        ({"gather": lambda _options: {}}, "gather failed: TypeError: "),
        ({"refresh": lambda _options, known: known["no"]}, "refresh failed: KeyError: 'no'"),
    ],
)
def test_hooks_for_files_with_a_mistake(fields: dict[str, Any], text: str, file: Path) -> None:
    """The check reports wrong results and exceptions of `gather` and `refresh`, with the position of the directive."""
    assert error_of(with_file(file, **fields)).startswith(f"block:1:13 - plugin/one: {text}")


def test_content_that_cannot_be_read(file: Path) -> None:
    """The check reports an exception of the function `read`, at the start and after a change."""
    text = "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert error_of(with_file(file), changes=[lambda: file.write_bytes(b"\xff")]).startswith(f"plugin/one: {text}")
    assert error_of(with_file(file)).startswith(f"block:1:13 - plugin/one: __init__ failed: {text}")


def test_an_error_with_the_position_of_an_argument() -> None:
    """If `parse` raises a CorefileError, the check shows the position in the error."""

    def parse(block: Any) -> Any:
        raise CorefileError(block.directives[0].arguments[0].position, "a number was expected")

    assert error_of(module(parse=parse), "one x") == "block:1:17 - Error during parsing: a number was expected"
