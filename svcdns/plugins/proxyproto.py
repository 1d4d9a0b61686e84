"""`proxyproto`: takes the addresses of clients from the headers of proxies (docs/plugins/proxyproto.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.networks import Network, NetworkTextError
from svcdns.plugin_api.settings import ProxyPolicy, ProxyProtocol, Settings

_BY_CLIENT: Final = ("acl", "view", "visibility")
"""The plugins that decide by the client's address."""


@dataclass(frozen=True, slots=True)
class Options:
    """From which proxies headers are accepted, and what is done with the headers of others."""

    protocol: ProxyProtocol
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `proxyproto` directives. Raises CorefileError."""
    protocol, default = ProxyProtocol(), None
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        for line in arguments.body(directive):
            arguments.no_body(line)
            match line.name.text:
                case "allow":
                    networks = tuple(map(_network, line.arguments))
                    protocol = replace(protocol, allowed=protocol.allowed + networks)
                case "default":
                    default = _policy(arguments.argument(line))
                case "udp_session_tracking":
                    protocol = _tracking(line, protocol)
                case _:
                    raise arguments.unknown_option(line, ("allow", "default", "udp_session_tracking"))
    otherwise = ProxyPolicy.IGNORE if protocol.allowed else ProxyPolicy.USE
    protocol = replace(protocol, default=otherwise if default is None else default)
    return Options(protocol, _warnings(block, protocol))


def _network(word: Token) -> Network:
    text = word.text if "/" in word.text else ""  # a prefix length is needed
    try:
        return Network.from_text(text)
    except NetworkTextError as error:
        raise CorefileError(
            word.position, f"plugin/proxyproto: {word.text}: invalid CIDR address: {word.text}"
        ) from error


def _policy(word: Token) -> ProxyPolicy:
    try:
        return ProxyPolicy(word.text.lower())
    except ValueError:
        expected = ", ".join(ProxyPolicy)
        raise CorefileError(word.position, f"'{word.text}' is unknown; one of {expected} was expected") from None


def _tracking(line: Directive, protocol: ProxyProtocol) -> ProxyProtocol:
    words = arguments.arguments(line, 1, 2)
    try:
        seconds = arguments.duration(words[0])
    except CorefileError as error:
        text = f'udp_session_tracking: invalid duration "{words[0].text}"'
        raise CorefileError(words[0].position, f"plugin/proxyproto: {text}") from error
    sessions = protocol.sessions
    if len(words) > 1:
        try:
            sessions = arguments.integer(words[1], 1)
        except CorefileError as error:
            text = f'udp_session_tracking: invalid max sessions "{words[1].text}": must be a positive integer'
            raise CorefileError(words[1].position, f"plugin/proxyproto: {text}") from error
    return replace(protocol, session_seconds=max(0.0, seconds), sessions=sessions)


def _warnings(block: Block, protocol: ProxyProtocol) -> tuple[str, ...]:
    """Returns a warning if clients outside of `allow` can choose the address that the server sees."""
    if protocol.default is not ProxyPolicy.USE:
        return ()
    deciding = [name for name in _BY_CLIENT if any(one.name.text == name for one in block.others)]
    text = "every client can choose the address that the server sees, because "
    text += "'default use' applies to addresses outside of 'allow'" if protocol.allowed else "there is no 'allow'"
    text += f"; {', '.join(deciding)} in this block decide by that address" if deciding else ""
    return (arguments.warning(block.directives[0].position, text),)


class ProxyProto(Plugin):
    """Sets the PROXY protocol of the block's listeners. Handles no queries."""

    name = "proxyproto"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the proxies, and with a warning if clients can choose their address."""
        return Settings(proxy=options.protocol, warnings=options.warnings)


PLUGIN: Final = ProxyProto
