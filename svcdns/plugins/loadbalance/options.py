"""The options of `loadbalance` (docs/behaviour/plugins.md#loadbalance), and its file of weights.

The control process reads the file. A line with a name begins a group of lines, each with an address of this name and
its weight from 1 to 255. Empty lines and lines that begin with `#` are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.networks import Network, NetworkTextError, packed
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

POLICIES: Final = ("round_robin", "weighted")
RELOAD: Final = 30.0
MAX_WEIGHT: Final = 255


class WeightFileError(SvcdnsError):
    """Raised if the file of weights cannot be read or has a syntax error. The text of the error has the position."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `loadbalance`.

    `path` is the file of weights, which is empty for round robin. The file is read again every `reload` seconds; 0
    means never. Addresses in the networks `preferred` come first, in the order of the networks.
    """

    position: Position = field(compare=False)
    path: str = ""
    reload: float = RELOAD
    preferred: tuple[Network, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `loadbalance` directives. Raises CorefileError."""
    options = Options(block.directives[0].position)
    for directive in block.directives:
        options = _weighted(directive, block) if _policy(directive) == "weighted" else _round_robin(directive, options)
    return options


def _policy(directive: Directive) -> str:
    return arguments.one_of(directive.arguments[0], POLICIES) if directive.arguments else POLICIES[0]


def _weighted(directive: Directive, block: Block) -> Options:
    _, path = arguments.arguments(directive, 2, 2)
    options = Options(path.position, str(Path(block.root) / path.text))
    for line in arguments.body(directive):
        if line.name.text != "reload":
            raise arguments.unknown_option(line, ("reload",))
        word = arguments.argument(line)
        options = replace(options, reload=arguments.duration(word))
        if options.reload < 0:
            raise CorefileError(word.position, f"reload '{word.text}' is not at least 0")
    return options


def _round_robin(directive: Directive, options: Options) -> Options:
    arguments.arguments(directive, 0, 1)
    preferred = list(options.preferred)
    for line in arguments.body(directive):
        if line.name.text != "prefer":
            raise arguments.unknown_option(line, ("prefer",))
        arguments.no_body(line)
        preferred += [_network(word) for word in line.arguments]
    return Options(directive.position, preferred=tuple(preferred))


def _network(word: Token) -> Network:
    try:
        if "/" in word.text:
            return Network.from_text(word.text)
    except NetworkTextError as error:
        raise CorefileError(word.position, str(error)) from error
    raise CorefileError(word.position, f"'{word.text}' is not a network; a CIDR such as 10.0.0.0/8 was expected")


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - a new Corefile reads the file again
    """Reads the file of weights, and returns the weights in the form that `decode` reads.

    If the file is missing and `reload` is not 0, returns an empty mapping. Raises CorefileError for a file with an
    error, or if the file is missing and `reload` is 0.
    """
    if not options.path:
        return {}
    try:
        return {options.path: _read(options.path)}
    except OSError as error:
        text = f"cannot open the weight file {options.path}: {(error.strerror or '').lower()}"
        if not options.reload:
            raise CorefileError(options.position, f"plugin/loadbalance: {text}") from error
        plugin_logger("loadbalance").warning(
            LogLine("the weight file is looked for again", error=text, retry_seconds=options.reload)
        )
        return {}
    except WeightFileError as error:
        raise CorefileError(options.position, f"plugin/loadbalance: {error}") from error


def period(options: Options) -> float:
    """Returns the seconds between two reads of the file of weights; 0 means never."""
    return options.reload if options.path else 0.0


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the file of weights again, and returns the weights.

    If the file has an error, logs the error and returns an empty mapping.
    """
    if not period(options):
        return {}
    log = plugin_logger("loadbalance")
    try:
        found = _read(options.path)
    except (OSError, WeightFileError) as error:
        log.error("%s", error)
        return {}
    if known.get(options.path) != found:
        log.info("Successfully reloaded weight file %s", options.path)
    return {options.path: found}


def _read(path: str) -> bytes:
    return msgspec.msgpack.encode(read(Path(path).read_bytes().decode(errors="replace").splitlines(), path))


def decode(payload: bytes) -> dict[bytes, dict[bytes, int]]:
    """Returns the weights that `gather` encoded, by lower-case name and packed address."""
    return msgspec.msgpack.decode(payload, type=dict[bytes, dict[bytes, int]])


def read(lines: Iterable[str], path: str) -> dict[bytes, dict[bytes, int]]:
    """Parses the lines of the file of weights. Raises WeightFileError.

    If a name has an address twice, the first weight is used.
    """
    out: dict[bytes, dict[bytes, int]] = {}
    weights: dict[bytes, int] | None = None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}:{number}"
        if len(words) == 1:
            weights = out.setdefault(_name(words[0], where), {})
        elif len(words) > 2:
            raise WeightFileError(
                f"{where}: '{line.strip()}' has {len(words)} words; a name, or an address and a weight, was expected"
            )
        elif weights is None:
            raise WeightFileError(f"{where}: '{line.strip()}' comes before any name")
        else:
            weights.setdefault(*_weight(words, where))
    return out


def _name(word: str, where: str) -> bytes:
    if packed(word) is not None:
        raise WeightFileError(f"{where}: '{word}' is an address without a weight")
    try:
        return names.from_text(word).lower()
    except NameTextError as error:
        raise WeightFileError(f"{where}: '{word}' is not a name: {error}") from error


def _weight(words: list[str], where: str) -> tuple[bytes, int]:
    address = packed(words[0])
    if address is None:
        raise WeightFileError(f"{where}: '{words[0]}' is not an address")
    if not words[1].isdecimal() or not 0 < int(words[1]) <= MAX_WEIGHT:
        raise WeightFileError(f"{where}: '{words[1]}' is not a weight; 1 to {MAX_WEIGHT} was expected")
    return address, int(words[1])
