"""Functions with which plugins parse the arguments of their directives.

Each function checks one rule. If the rule is broken, it raises CorefileError with the position of the wrong word.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError, RepeatedError, ZoneError
from svcdns.corefile.zones import normalise_argument

UNBOUNDED: Final = -1
DNS_PORT: Final = 53
_LARGEST: Final = 2**31 - 1
"""Upper limits from here on are limits of number types, and no error states them for a smaller number."""
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,100}")
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def arguments(line: Directive, least: int, most: int) -> tuple[Token, ...]:
    """Returns the arguments of a line. Raises CorefileError unless their number is from `least` to `most`.

    If `most` is UNBOUNDED, there is no upper limit.
    """
    count = len(line.arguments)
    if count < least:
        last = line.arguments[-1] if line.arguments else line.name
        raise CorefileError(last.position, f"Wrong argument count or unexpected line ending after '{last.text}'")
    if most != UNBOUNDED and count > most:
        extra = line.arguments[most]
        expected = "no argument" if most == 0 else f"at most {most} argument{'s' if most > 1 else ''}"
        raise CorefileError(
            extra.position, f"Wrong argument count: '{extra.text}' behind '{line.name.text}', {expected} expected"
        )
    return line.arguments


def argument(line: Directive) -> Token:
    """Returns the only argument of a line. Raises CorefileError if the line has no argument or several."""
    return arguments(line, 1, 1)[0]


def without_arguments(directives: Sequence[Directive]) -> None:
    """Checks that no directive has arguments or a block in braces."""
    for directive in directives:
        arguments(directive, 0, 0)
        no_body(directive)


def no_body(line: Directive) -> None:
    """Checks that the directive has no block in braces."""
    if line.body is not None:
        raise CorefileError(line.position, f"'{line.name.text}' takes no block")


def ignored_body(line: Directive) -> tuple[str, ...]:
    """Returns a log line if the directive has a block in braces. Call it for a plugin whose block CoreDNS ignores."""
    return () if line.body is None else (warning(line.position, f"the block of '{line.name.text}' is ignored"),)


def body(line: Directive) -> tuple[Directive, ...]:
    """Returns the lines in the directive's braces. Returns no lines if the directive has no braces."""
    return line.body or ()


def options(directive: Directive, words: Mapping[str, int]) -> Iterator[Directive]:
    """Yields the options in the directive's braces, each with its own arguments.

    `words` has the number of arguments of each option with a fixed number. As in CoreDNS, another option may be on the
    same line after such an option: `max_fails 2 expire 5s`.
    """
    for line in body(directive):
        rest = line
        while (count := words.get(rest.name.text)) is not None and len(rest.arguments) > count:
            yield Directive(rest.name, rest.arguments[:count])
            rest = Directive(rest.arguments[count], rest.arguments[count + 1 :], rest.body)
        yield rest


def first(line: Directive) -> Token:
    """Returns the first argument of a line. Raises CorefileError if there is none. Further arguments are ignored."""
    return arguments(line, 1, UNBOUNDED)[0]


def ignored_words(lines: Iterable[Directive], used: Mapping[str, int]) -> tuple[str, ...]:
    """Returns a log line for each word that CoreDNS ignores.

    `used` has the number of arguments of each option. Further words on the option's line are ignored.
    """
    return tuple(
        warning(word.position, f"'{word.text}' behind '{line.name.text}' is ignored")
        for line in lines
        if line.name.text in used
        for word in line.arguments[used[line.name.text] :]
    )


def once(directives: Sequence[Directive]) -> Directive:
    """Returns the only directive in `directives`. Raises CorefileError if there are several.

    `directives` must not be empty.
    """
    if len(directives) > 1:
        raise RepeatedError(
            directives[1].position,
            f"plugin/{directives[1].name.text}: this plugin can only be used once per Server Block",
        )
    return directives[0]


def integer(token: Token, low: int = 0, high: int = 2**31 - 1) -> int:
    """Returns the word as a whole number, which must be from `low` to `high`."""
    if not _INTEGER.fullmatch(token.text):
        raise CorefileError(token.position, f"'{token.text}' is not a whole number")
    value = int(token.text)
    if not low <= value <= high:
        expected = f"{low} to {high}" if high < _LARGEST else f"{low} or more" if value < low else f"at most {high}"
        raise CorefileError(token.position, f"{value} is out of range; {expected} was expected")
    return value


def duration(token: Token) -> float:
    """Returns the seconds of a duration in Go's syntax, such as `300ms` or `1m30s`.

    A number without a unit is an error, except `0`.
    """
    text = token.text
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in {"+", "-"} else text
    if rest == "0":
        return 0.0
    parts = _DURATION.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise CorefileError(
            token.position, f"'{text}' is not a duration; a number with a unit such as 30s, 5m or 300ms was expected"
        )
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def one_of(token: Token, choices: Collection[str]) -> str:
    """Returns the word, which must be one of `choices`."""
    if token.text not in choices:
        raise CorefileError(token.position, f"'{token.text}' is unknown; one of {', '.join(choices)} was expected")
    return token.text


def nearest(text: str, known: Collection[str]) -> str:
    """Returns ` (did you mean 'x'?)` with the most similar known word, or an empty text if no word is similar."""
    close = difflib.get_close_matches(text, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def unknown_option(line: Directive, known: Collection[str]) -> CorefileError:
    """Returns the error for an option that the plugin does not have. Does not raise the error."""
    text = line.name.text
    return CorefileError(line.position, f"unknown property '{text}'{nearest(text, known)}")


def zones(words: Sequence[Token], fallback: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Returns the zones of `words`, in lower case and absolute. A CIDR becomes its reverse zones.

    Scheme and port of a word are ignored. Invalid words are skipped (docs/behaviour/corefile.md#set-up-rules). If
    `words` is empty, returns `fallback`.
    """
    if not words:
        return fallback
    out: dict[str, None] = {}
    for word in words:
        try:
            out.update(dict.fromkeys(normalise_argument(word.text)))
        except ZoneError:
            continue
    return tuple(out)


def zone(word: Token) -> str:
    """Returns the zone of an argument, in lower case and absolute.

    Raises CorefileError if the argument is not a zone name, or is a network with several reverse zones.
    """
    found = zones((word,))
    if len(found) != 1:
        raise CorefileError(word.position, f"'{word.text}' is not a zone; one zone name was expected")
    return found[0]


def ignored_zones(words: Sequence[Token]) -> tuple[str, ...]:
    """Returns a log line for each word that is not a zone. The function `zones` ignores these words."""
    return tuple(
        warning(
            word.position, f"'{word.text}' is not a zone and is ignored" + ("; no zone is left" * (not zones(words)))
        )
        for word in words
        if not zones([word])
    )


def ignored_option_zones(lines: Iterable[Directive], options: Mapping[str, int]) -> tuple[str, ...]:
    """Returns a log line for each word in a list of zones that is not a zone, and so is ignored.

    `options` has the number of words before the zones, for each option that has a list of zones.
    """
    return tuple(
        text
        for line in lines
        if line.name.text in options
        for text in ignored_zones(line.arguments[options[line.name.text] :])
    )


def warning(position: Position, text: str) -> str:
    """Returns a log line about ignored text at a position of a Corefile."""
    return f"{position.file}:{position.line}:{position.column} - {text}"


def split_warning(line: str) -> tuple[Position | None, str]:
    """Returns the position and the text of a line made by `warning`. For any other line, returns None and the line."""
    place, dash, text = line.partition(" - ")
    file, *numbers = place.rsplit(":", 2)
    if not dash or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None, line
    return Position(file, int(numbers[0]), int(numbers[1])), text


def fallthrough(line: Directive) -> tuple[str, ...]:
    """Returns the zones of a `fallthrough` line, or the root zone if the line names no zone."""
    return zones(line.arguments, (".",))


def host_port(token: Token) -> tuple[str, int]:
    """Returns host and port of an address such as `:8080`, `127.0.0.1:53`, `[::1]:53` or `localhost:9153`.

    An empty host means all addresses. If there are no digits after the colon, the port is 0, which means a free port.
    """
    host, colon, digits = token.text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (digits or "0").isdecimal() or int(digits or 0) > 65535 or (":" in host and not bracketed):
        raise CorefileError(token.position, f"'{token.text}' is not an address; HOST:PORT or :PORT was expected")
    return host[1:-1] if bracketed else host, int(digits or 0)


def ip_address(word: Token) -> str:
    """Returns an IP address in canonical text, without a zone such as `%eth0`."""
    try:
        return str(ipaddress.ip_address(word.text.partition("%")[0]))
    except ValueError:
        raise CorefileError(word.position, f"'{word.text}' is not an IP address") from None


def server_address(word: Token, least_port: int) -> tuple[str, int]:
    """Returns address and port of a name server; without a port, the port is 53.

    Examples: `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]:53`. Ports begin with `least_port`.
    """
    host, colon, port = word.text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        return ip_address(word), DNS_PORT
    if port and not (port.isdecimal() and least_port <= int(port) <= 65535):
        raise CorefileError(word.position, f"'{port}' is not a port; {least_port} to 65535 was expected")
    return ip_address(Token(host[1:-1] if bracketed else host, word.position)), int(port or DNS_PORT)
