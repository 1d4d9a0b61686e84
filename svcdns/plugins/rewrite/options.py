"""Parses the options of the `rewrite` plugin (docs/behaviour/plugins.md#rewrite).

Each directive is one rule, which consists of the words on its line. If the line has fewer than two words, the words in
the braces are added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.regex import regex
from svcdns.plugin_api.environment import Block
from svcdns.plugins.rewrite.edns import ACTIONS, VARIABLES, Data, Fixed, OptionRule, Subnet, Variable
from svcdns.plugins.rewrite.name_match import Match, ReplaceName, absolute, check_groups, match_kind, parse_match
from svcdns.plugins.rewrite.query_rules import ClassRule, CnameRule, NameRule, Responses, ResponsesRule, Rule, TypeRule
from svcdns.plugins.rewrite.response_rules import CnameTarget, OwnerNames, ResponseCode, TtlBounds, ValueNames
from svcdns.wire.codes import Class, OptionCode, Rcode, Type

MAX_TTL: Final = 2**31 - 1
_MAX_RCODE: Final = 23
_Words = list[Token]


@dataclass(frozen=True, slots=True)
class Options:
    """The rules of the block's `rewrite` directives, in the order of the Corefile."""

    rules: tuple[Rule, ...]


def parse(block: Block) -> Options:
    """Returns the options of the block's `rewrite` directives. Raises CorefileError."""
    return Options(tuple(_rule(directive) for directive in block.directives))


def _rule(directive: Directive) -> Rule:
    words = list(directive.arguments)
    if len(words) < 2:
        for line in arguments.body(directive):
            arguments.no_body(line)
            words += (line.name, *line.arguments)
    else:
        arguments.no_body(directive)
    stop = True
    if words and words[0].text.lower() in ("stop", "continue"):
        stop = words.pop(0).text.lower() == "stop"
    if not words:
        raise CorefileError(directive.position, f"a rule was expected; one of {', '.join(_FIELDS)}")
    field, *rest = words
    if field.text.lower() == "answer":
        raise CorefileError(field.position, "response rewrites must begin with a name rule")
    make = _FIELDS.get(field.text.lower())
    if make is None:
        raise CorefileError(field.position, f"unknown rule '{field.text}'{arguments.nearest(field.text, _FIELDS)}")
    return make(stop, field, rest)


def _count(field: Token, words: _Words, least: int, most: int) -> None:
    if len(words) < least:
        last = words[-1] if words else field
        raise CorefileError(last.position, f"too few words for a {field.text} rule after '{last.text}'")
    if len(words) > most:
        raise CorefileError(words[most].position, f"'{words[most].text}' is one word too many for a {field.text} rule")


# -- name


def _name(stop: bool, field: Token, words: _Words) -> Rule:
    _count(field, words, 2, 1000)
    kind, (old, new, *answer) = ("exact", words) if len(words) == 2 else (match_kind(words[0]), words[1:])
    to = absolute(new.text)
    auto, answers = _answers(answer)
    if kind == "regex":
        pattern = regex(old)
        check_groups(pattern, new)
        return NameRule(stop, Match(kind, old.text, pattern), to, auto, answers)
    match = Match(kind, absolute(old.text))
    if kind == "exact":
        check_groups(regex(new, to), old)
        return NameRule(stop, match, to, True, answers)
    if kind == "suffix" and auto:
        back = ReplaceName(Match("suffix", to), match.text)
        return NameRule(stop, match, to, False, (OwnerNames(back), ValueNames(back), *answers))
    return NameRule(stop, match, to, auto, answers)


def _answers(words: _Words) -> tuple[bool, Responses]:
    """Parses `answer auto`, `answer name` and `answer value`.

    Returns whether `auto` is among the words, and the response rules.
    """
    auto, rules, first = False, [], True
    names: Token | None = None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.text == "answer":
            if not rest:
                raise CorefileError(word.position, "auto, name or value was expected after 'answer'")
            word = rest.pop(0)
        elif first:
            raise CorefileError(word.position, f"'answer' was expected, not '{word.text}'")
        first = False
        kind = arguments.one_of(word, ("auto", "name", "value"))
        if kind == "auto":
            auto = True
            continue
        if len(rest) < 2:
            raise CorefileError(word.position, f"a pattern and a name were expected after '{kind}'")
        old, new = rest.pop(0), rest.pop(0)
        pattern = regex(old)
        check_groups(pattern, new)
        change = ReplaceName(Match("regex", old.text, pattern), absolute(new.text))
        rules.append(OwnerNames(change) if kind == "name" else ValueNames(change))
        names = word if kind == "name" else names
    if auto and names is not None:
        raise CorefileError(names.position, "'answer name' cannot be combined with 'answer auto'")
    return auto, tuple(rules)


# -- type, class, ttl, rcode, cname


def _type(stop: bool, field: Token, words: _Words) -> Rule:
    _count(field, words, 2, 2)
    return TypeRule(stop, *(_mnemonic(word, Type.__members__, "type") for word in words))


def _class(stop: bool, field: Token, words: _Words) -> Rule:
    _count(field, words, 2, 2)
    return ClassRule(stop, *(_mnemonic(word, Class.__members__, "class") for word in words))


def _mnemonic(word: Token, members: Mapping[str, int], what: str) -> int:
    text = word.text.upper()
    digits = text.removeprefix(what.upper())
    if text not in members and digits != text and digits.isdecimal() and 0 < int(digits) < 65536:
        return int(digits)
    if text not in members:
        raise CorefileError(word.position, f"'{word.text}' is not a {what}")
    return int(members[text])


def _ttl(stop: bool, field: Token, words: _Words) -> Rule:
    _count(field, words, 2, 3)
    word = words[-1]
    low, dash, high = word.text.partition("-")
    least, most = _seconds(word, low, 0), _seconds(word, high if dash else low, MAX_TTL)
    if word.text in ("", "-") or least > most:
        raise CorefileError(word.position, f"invalid TTL '{word.text}'; SECONDS, MIN-MAX, MIN- or -MAX was expected")
    return ResponsesRule(stop, parse_match(words[:-1]), (TtlBounds(least, most),))


def _seconds(word: Token, text: str, fallback: int) -> int:
    if not text:
        return fallback
    if not (text.isdecimal() and text.isascii()) or int(text) >= 2**32:
        raise CorefileError(word.position, f"invalid TTL '{word.text}'; SECONDS, MIN-MAX, MIN- or -MAX was expected")
    return int(text)


def _rcode(stop: bool, field: Token, words: _Words) -> Rule:
    _count(field, words, 3, 4)
    *name, old, new = words
    return ResponsesRule(stop, parse_match(name), (ResponseCode(_code(old), _code(new)),))


def _code(word: Token) -> int:
    text = word.text.upper()
    if text.isdecimal() and text.isascii() and int(text) <= _MAX_RCODE:
        return int(text)
    if text not in Rcode.__members__:
        raise CorefileError(word.position, f"'{word.text}' is not a response code")
    return int(Rcode[text])


def _cname(stop: bool, field: Token, words: _Words) -> Rule:
    _count(field, words, 2, 3)
    *given, old, new = words
    kind = match_kind(given[0]) if given else "exact"
    if kind == "exact":
        return CnameRule(stop, CnameTarget(Match(kind, absolute(old.text)), absolute(new.text)))
    text, to = old.text.lower(), new.text.lower()
    return CnameRule(stop, CnameTarget(Match(kind, text, regex(old, text) if kind == "regex" else None), to))


# -- edns0


def _edns0(stop: bool, field: Token, words: _Words) -> Rule:
    _count(field, words, 2, 5)
    kind, action = words[0].text.lower(), words[1].text.lower()
    if kind not in ("local", "nsid", "subnet"):
        raise CorefileError(words[0].position, f"'{words[0].text}' is unknown; local, nsid or subnet was expected")
    if action not in ACTIONS:
        raise CorefileError(
            words[1].position, f"'{words[1].text}' is unknown; one of {', '.join(ACTIONS)} was expected"
        )
    rest, revert = words[2:], False
    if action != "unset" and rest and rest[-1].text == "revert":
        rest, revert = rest[:-1], True
    wanted = {"local": 1 if action == "unset" else 2, "nsid": 0, "subnet": 0 if action == "unset" else 2}[kind]
    _count(words[1] if not rest else field, rest, wanted, wanted)
    if kind == "nsid":
        return OptionRule(stop, action, OptionCode.NSID, Fixed(b""), revert)
    if kind == "subnet":
        bits = (_number(rest[0], 32), _number(rest[1], 128)) if rest else (0, 0)
        return OptionRule(stop, action, OptionCode.CLIENT_SUBNET, Subnet(*bits), revert)
    data = _data(rest[1]) if len(rest) > 1 else Fixed(b"")
    return OptionRule(stop, action, _number(rest[0], 65535), data, revert, local=True)


def _data(word: Token) -> Data:
    text = word.text
    if text.startswith("{") and text.endswith("}"):
        name = text[1:-1]
        parts = name.split("/")
        if name not in VARIABLES and (len(parts) < 2 or not all(parts)):
            raise CorefileError(word.position, f"unknown variable '{text}'{arguments.nearest(name, VARIABLES)}")
        return Variable(name)
    if not text.startswith("0x"):
        return Fixed(text.encode())
    try:
        return Fixed(bytes.fromhex(text[2:]))
    except ValueError:
        raise CorefileError(word.position, f"'{text}' is not hexadecimal") from None


def _number(word: Token, most: int) -> int:
    """Parses a number from 0 to `most` in Go's syntax: decimal, 0x, 0o, 0b, or octal after a 0.

    Raises CorefileError.
    """
    text = word.text
    try:
        number = int(text, 8) if text.startswith("0") and text.isdecimal() else int(text, 0)
    except ValueError:
        raise CorefileError(word.position, f"'{text}' is not a number") from None
    if not 0 <= number <= most:
        raise CorefileError(word.position, f"{text} is out of range; 0 to {most} was expected")
    return number


_FIELDS: Final[dict[str, Callable[[bool, Token, _Words], Rule]]] = {
    "name": _name,
    "type": _type,
    "class": _class,
    "ttl": _ttl,
    "rcode": _rcode,
    "cname": _cname,
    "edns0": _edns0,
}
