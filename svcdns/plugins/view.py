"""`view`: a condition that a query must meet, so that its server block answers it (docs/plugins/view.md).

The core evaluates the condition before the plugin chain (`svcdns.chain.routing`). Replies are stored once for each
client class. Two clients are in one class if the condition cannot tell them apart: if they are in the same of the
networks that the condition names, and have the same metadata. If the condition uses the address of the client in any
other way, each address is a class of its own.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api import settings
from svcdns.plugin_api.contract import Plugin, overrides
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.expressions import (
    FUNCTIONS,
    EvaluationError,
    Expression,
    ExpressionError,
    compile_expression,
    query_functions,
    types,
)
from svcdns.plugin_api.expressions.lexer import Token, tokens
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.settings import Settings

_PER_PACKET: Final = ("id", "port")
_ADDRESS: Final = ("client_ip", "(", ")")
"""The tokens of the call `client_ip()`."""


@dataclass(frozen=True, slots=True)
class Options:
    """The name of the view, and its expressions, which must all be true."""

    name: str
    expressions: tuple[Expression, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's only `view` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    name = arguments.argument(directive).text
    lines = arguments.body(directive)
    for line in lines:
        arguments.no_body(line)
        if line.name.text != "expr":
            raise arguments.unknown_option(line, ("expr",))
    expressions = tuple(map(_expression, lines))
    warnings = tuple(
        arguments.warning(line.position, f"'{one.text}' is never true, so that the block answers no query")
        for line, one in zip(lines, expressions, strict=True)
        if one.kind not in (types.BOOL, types.ANY)
    )
    return Options(name, expressions, warnings)


def _expression(line: Directive) -> Expression:
    text = " ".join(word.text for word in line.arguments)
    try:
        return compile_expression(text, FUNCTIONS)
    except ExpressionError as error:
        raise CorefileError((*line.arguments, line.name)[0].position, f"plugin/view: {error}") from error


class View(Plugin):
    """The condition of one server block."""

    name = "view"
    reads_nothing = True
    client_class_dependencies = frozenset({"pod", "geoip"})

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the name of the view, and with what its condition reads."""
        calls = frozenset[str]().union(*(one.calls for one in options.expressions))
        view = settings.View(options.name, not calls.isdisjoint(_PER_PACKET), "server_ip" in calls)
        return Settings(view=view, warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Finds out by what the condition tells clients apart."""
        self.options, self._peers = options, environment.peers
        self._reads = _Reads()
        for expression in options.expressions:
            self._reads.add(tokens(expression.text))
        has_metadata = any(directive.name.text == "metadata" for directive in environment.block.others)
        self._labels = sorted(self._reads.labels) if has_metadata else []
        self._by_address = self._reads.by_address or (has_metadata and self._reads.any_label)

    def _providers(self) -> list[Plugin]:
        return [peer for peer in self._peers("") if isinstance(peer, Plugin) and overrides(peer, "metadata")]

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - all zones
        """Returns True: negative answers pass unchanged."""
        return True

    def admits(self, query: Query) -> bool:
        """Returns True if all expressions are true. An expression that cannot be evaluated is not true."""
        functions = query_functions(query)
        try:
            return all(expression.run(functions) is True for expression in self.options.expressions)
        except EvaluationError:
            return False

    def metadata(self, query: Query, label: str) -> str:  # noqa: ARG002 - the same for every query
        """Returns the name of the view for the label `view/name`."""
        return self.options.name if label == "view/name" else ""

    def client_metadata(self, address: str, label: str) -> str:  # noqa: ARG002 - the same for every client
        """Returns an empty text: the metadata of this plugin do not depend on the client."""
        return ""

    def client_class(self, address: str) -> str:
        """Returns a text that is equal for clients that the condition cannot tell apart."""
        if self._by_address:
            return address
        inside = self._reads.inside(address)
        for label in self._labels:
            name = label.partition("/")[0]
            values = [peer.client_metadata(address, label) for peer in self._providers() if peer.name == name]
            inside += f" {values!r}"
        return inside


class _Reads:
    """What expressions read of the client: the networks and addresses that they compare its address with, and labels.

    `by_address` is True if an expression uses the address in another way. `any_label` is True if the label of metadata
    is computed.
    """

    def __init__(self) -> None:
        self.networks: set[ipaddress.IPv4Network | ipaddress.IPv6Network] = set()
        self.addresses: set[str] = set()
        self.labels: set[str] = set()
        self.by_address = self.any_label = False

    def add(self, found: list[Token]) -> None:
        """Adds what the expression with these tokens reads."""
        for at, token in enumerate(found):
            if token.text == "metadata":
                label = found[at + 2] if _texts(found, at, at + 2) == ("metadata", "(") else token
                if label.kind == "string" and found[at + 3].text == ")":
                    self.labels.add(label.value)
                else:
                    self.any_label = True
            elif token.text == "client_ip" and token.kind == "name":
                self._add_address(found, at)

    def _add_address(self, found: list[Token], at: int) -> None:
        end = at + len(_ADDRESS)
        before = _texts(found, max(0, at - 2), at)
        after = _texts(found, end, end + 1)
        network = found[end + 1] if end + 1 < len(found) else found[-1]
        if before == ("incidr", "(") and after == (",",) and network.kind == "string" and found[end + 2].text == ")":
            with suppress(ValueError):  # the expression is never true
                self.networks.add(ipaddress.ip_network(network.value, strict=False))
        elif after in (("==",), ("!=",)) and network.kind == "string" and before[-1:] not in (("+",), ("-",)):
            self.addresses.add(network.value)
            self.by_address = self.by_address or found[end + 2].text not in ("and", "or", "&&", "||", ")", "the end")
        else:
            self.by_address = True

    def inside(self, address: str) -> str:
        """Returns a text with one character for each network and address: whether the client has that address."""
        host = ipaddress.ip_address(address.partition("%")[0])
        bits = [host in network for network in sorted(self.networks, key=str)]
        bits += [address == one for one in sorted(self.addresses)]
        return "".join("01"[bit] for bit in bits)


def _texts(found: list[Token], start: int, end: int) -> tuple[str, ...]:
    return tuple(token.text for token in found[start:end])


PLUGIN: Final = View
