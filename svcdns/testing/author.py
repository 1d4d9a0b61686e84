"""Finds ordinary mistakes in a plugin's module, its options and its replies, for the contract check.

Each mistake is one line of text.
"""

from __future__ import annotations

import datetime
import logging
import random
import secrets
import time
import traceback
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Final, Self

from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import Plugin, check_plugin
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reuse import plugin_of
from svcdns.telemetry.logging import PLUGIN_PREFIX, ROOT
from svcdns.wire import names
from svcdns.wire.codes import Type, type_text
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

_RAW: Final = {"requestor": "client", "listener": "server", "message_id": "ident"}
"""Fields of a query that are for the core, and the property that plugins read instead."""
_VOLATILE: Final[tuple[object, ...]] = (time, random, secrets)
_VOLATILE_MODULES: Final = frozenset(module.__name__ for module in (time, random, secrets))
_DATES: Final[tuple[object, ...]] = (datetime, datetime.datetime, datetime.date)
_NOW: Final = frozenset({"now", "utcnow", "today"})
_FILES: Final = frozenset({"open", "read_bytes", "read_text"})
_WITHOUT_QUERY: Final = frozenset({"start", "stop", "tick", "observe", "ready", "settings", "shrink", "invalidate"})
"""Hooks that are not called for a reply."""
_LENGTHS: Final[dict[int, int]] = {Type.A: 4, Type.AAAA: 16}
_NAMED: Final = frozenset({Type.CNAME, Type.NS, Type.PTR, Type.DNAME})
"""Types whose RDATA is a name."""


def check_module(module: Any) -> None:
    """Checks the parts of a plugin's module. Raises ContractError."""
    where = getattr(module, "__name__", "the module")
    plugin = getattr(module, "PLUGIN", None)
    if plugin is None or not callable(getattr(module, "parse", None)):
        raise ContractError(f"{where}: PLUGIN, a subclass of Plugin, and parse(block) were expected")
    check_plugin(plugin)
    hooks = {name for name in ("gather", "period", "refresh") if callable(getattr(module, name, None))}
    if "gather" not in hooks and hooks:
        raise ContractError(f"plugin/{plugin.name}: the module has {' and '.join(sorted(hooks))}, but no gather")
    if len(hooks) == 2:
        missing, present = ("period", "refresh") if "refresh" in hooks else ("refresh", "period")
        raise ContractError(
            f"plugin/{plugin.name}: the module has {present}, but no {missing}: {present} has no effect"
        )
    if not plugin.states_reuse and not plugin.reads_nothing:
        for name, code, known in _functions(plugin):
            _check_reads(plugin.name, name, code, known)


def _functions(plugin: type[Plugin]) -> Iterator[tuple[str, CodeType, dict[str, Any]]]:
    for kind in plugin.__mro__:
        if kind is not Plugin and kind is not object:
            for name, value in vars(kind).items():
                if isinstance(value, FunctionType) and name not in _WITHOUT_QUERY:
                    yield name, value.__code__, value.__globals__


def _check_reads(plugin: str, function: str, code: CodeType, known: dict[str, Any]) -> None:
    """Raises ContractError if a function uses the clock, random numbers, files, or query fields that are for the core.

    `code` is the code of the function. `known` has its global values by name.
    """
    words = set(code.co_names)
    for raw in sorted(words & _RAW.keys()):
        raise ContractError(
            f"plugin/{plugin}: {function} reads query.{raw}, which is for the core: read query.{_RAW[raw]}"
        )
    for word in sorted(words & known.keys()):
        if _is_volatile(known[word], words):
            raise ContractError(
                f"plugin/{plugin}: {function} uses '{word}', which the core cannot record: "
                "use environment.clock and environment.random"
            )
    for word in sorted((words & _FILES) - known.keys()):
        raise ContractError(
            f"plugin/{plugin}: {function} calls {word}: workers read no files; read it in the module's gather"
        )
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _check_reads(plugin, function, constant, known)


def _is_volatile(value: object, words: set[str]) -> bool:
    """Returns True if the global value `value` gives a function the present time or random numbers.

    `words` are the names that the function uses.
    """
    if any(value is one for one in _DATES):
        return bool(words & _NOW)
    if "perf_counter" in words:  # measures how long something takes
        return False
    return any(value is one for one in _VOLATILE) or getattr(value, "__module__", "") in _VOLATILE_MODULES


def check_options(plugin: str, options: Any, again: Any) -> None:
    """Checks that a plugin's options are hashable, and equal if parsed twice. Raises ContractError.

    `options` and `again` come from two parses of the same Corefile.
    """
    expected = (
        "frozen options were expected, such as a dataclass(frozen=True, slots=True) with tuples in place of lists"
    )
    try:
        hash(options)
    except TypeError as error:
        raise ContractError(f"plugin/{plugin}: parse returned {type(options).__name__}: {error}; {expected}") from error
    if options != again:
        raise ContractError(
            f"plugin/{plugin}: parse returned different options ({type(options).__name__}) for the same text; {expected}"
        )


def reply_error(reply: Reply) -> str:
    """Returns the error in the types and values of a reply's fields, or an empty text."""
    for field in ("rcode", "flags"):
        if not isinstance(getattr(reply, field), int):
            return f"{field} is {_shown(getattr(reply, field))}; a number was expected"
    if not isinstance(reply.lifetime, (int, float)) or not reply.lifetime >= 0:
        return f"lifetime is {_shown(reply.lifetime)}; seconds were expected"
    if not isinstance(reply.dependencies, tuple) or not all(_is_dependency(one) for one in reply.dependencies):
        return f"dependencies is {_shown(reply.dependencies)}; a tuple of tuples of texts was expected"
    for field in ("answer", "authority", "additional"):
        section = getattr(reply, field)
        if not isinstance(section, tuple):
            return f"{field} is {_shown(section)}; a tuple of records was expected"
        for record in section:
            error = _record_error(record)
            if error:
                return f"{field} has a record whose {error}" if isinstance(record, Record) else f"{field} has {error}"
    return ""


def _record_error(record: Any) -> str:
    if not isinstance(record, Record):
        return f"{_shown(record)}; a Record was expected"
    if not _is_name(record.owner):
        return f"owner is {_shown(record.owner)}; a name in wire format was expected, as from names.from_text"
    for field, limit in (("rtype", 0xFFFF), ("rclass", 0xFFFF), ("ttl", 0x7FFFFFFF)):
        value = getattr(record, field)
        if not isinstance(value, int) or not 0 <= value <= limit:
            return f"{field} is {_shown(value)}; a number from 0 to {limit} was expected"
    rdata, kind = record.rdata, type_text(record.rtype)
    if not isinstance(rdata, bytes) or len(rdata) > 0xFFFF:
        return f"rdata is {_shown(rdata)}; octets in wire format were expected"
    length = _LENGTHS.get(record.rtype)
    if length is not None and len(rdata) != length:
        return f"rdata is {_shown(rdata)}; {length} octets were expected for type {kind}, as from packed"
    if record.rtype in _NAMED and not _is_name(rdata):
        return f"rdata is {_shown(rdata)}; a name in wire format was expected for type {kind}"
    if record.rtype == Type.TXT and not _is_strings(rdata):
        return f"rdata is {_shown(rdata)}; texts of at most 255 octets, each after its length, were expected"
    return ""


def _is_dependency(found: Any) -> bool:
    return isinstance(found, tuple) and all(isinstance(one, str) for one in found)


def _is_name(found: Any) -> bool:
    try:
        return isinstance(found, bytes) and names.from_labels(names.labels_of(found)) == found
    except (IndexError, NameTextError):
        return False


def _is_strings(rdata: bytes) -> bool:
    at = 0
    while at < len(rdata):
        at += 1 + rdata[at]
    return at == len(rdata) > 0


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def place(error: BaseException | None, file: str | None) -> str:
    """Returns the place where an exception was raised, as the text ` (FILE, line N, in FUNCTION)`.

    The place is the last line of `file` in the traceback, or else the last line of any file. Returns an empty text
    without a traceback.
    """
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    own = [frame for frame in frames if frame.filename == file] or frames
    return f" ({own[-1].filename}, line {own[-1].lineno}, in {own[-1].name})" if own else ""


class Failures(logging.Handler):
    """A log handler that keeps the exceptions of plugins, so that the check can report where they were raised."""

    def __init__(self, module: Any) -> None:
        """`module` is the module of the plugin."""
        super().__init__()
        self._file: str | None = getattr(module, "__file__", None)
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        logger = logging.getLogger(ROOT)
        self._before = logger.propagate
        logger.propagate = False
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger(ROOT)
        logger.removeHandler(self)
        logger.propagate = self._before

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the exception of a log record. A record without an exception goes to the root logger."""
        error = record.exc_info[1] if record.exc_info else None
        found = record.msg.fields.get("error") if isinstance(record.msg, LogLine) else None
        if isinstance(found, ContractError):
            error = found
        if error is None:
            logging.getLogger().handle(record)
        else:
            self._lines.append(self._described(error, record.name.removeprefix(PLUGIN_PREFIX)))

    def check(self) -> None:
        """Raises ContractError with the first exception of a plugin, if there was one."""
        if self._lines:
            raise ContractError(self._lines[0])

    def _described(self, error: BaseException, logger: str) -> str:
        if isinstance(error, SvcdnsError):
            return str(error)
        where = place(error, self._file)
        later = "'Deferred' object" in str(error) or "'coroutine' object" in str(error)
        hint = "; a reply may come later: change it with then(answer, change)" if later else ""
        return f"plugin/{plugin_of(error) or logger}: {type(error).__name__}: {error}{hint}{where}"
