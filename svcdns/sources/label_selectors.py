"""Label selectors: checks their syntax, and applies them to labels.

A selector is a list of requirements, separated by commas: equality (`a=b`, `a==b`, `a!=b`), sets (`a in (b, c)`, `a
notin (b)`) and presence (`a`, `!a`). Source: Kubernetes documentation, "Labels and Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_NAME = re.compile(_PART)
_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_REQUIREMENT = re.compile(
    r"""\s*(?:
        !\s*(?P<missing>[^\s,=!()<>]+)
      | (?P<key>[^\s,=!()<>]+)(?:
            \s*(?:==|!=|=)\s*(?P<value>[^\s,=!()<>]*)
          | \s+(?:in|notin)\s*\((?P<values>[^()=!<>]*)\)
        )?
    )\s*(?:,|$)""",
    re.VERBOSE,
)


def check_label_selector(text: str) -> None:
    """Raises ValueError unless `text` is a label selector. An empty text selects everything.

    The text of the error is one line with the position of the mistake.
    """
    at = 0
    while at < len(text.rstrip()):
        found = _REQUIREMENT.match(text, at)
        if found is None:
            raise ValueError(
                f"bad label selector {text!r}: expected key, !key, key=value, key!=value, key in (…) or key notin (…) "
                f"at {text[at:].strip()!r}"
            )
        _check_key(text, found["missing"] or found["key"])
        values = found["values"].split(",") if found["values"] is not None else [found["value"] or ""]
        for value in values:
            _check_value(text, value.strip())
        at = found.end()
        if at == len(text) and text.rstrip().endswith(","):
            raise ValueError(f"bad label selector {text!r}: nothing after the last comma")


def _check_key(text: str, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _PREFIX.fullmatch(prefix)):
        raise ValueError(f"bad label selector {text!r}: {prefix!r} is not a DNS name, as the prefix of a label must be")
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise ValueError(f"bad label selector {text!r}: {key!r} is not a label name")


def _check_value(text: str, value: str) -> None:
    if value and (len(value) > 63 or not _NAME.fullmatch(value)):
        raise ValueError(f"bad label selector {text!r}: {value!r} is not a label value")


def label_keys(selector: str) -> set[str]:
    """Returns the keys of the labels that a selector names."""
    return {found["missing"] or found["key"] for found in _REQUIREMENT.finditer(selector)}


Matcher = Callable[[Mapping[str, str]], bool]

_REQUIREMENTS: Final = re.compile(r",(?![^()]*\))")
_SET: Final = re.compile(r"(\S+)\s+(in|notin)\s*\((.*)\)")
_EQUALITY: Final = re.compile(r"([^\s!=]+)\s*(==|!=|=)\s*(\S*)")


def matcher(selector: str) -> Matcher:
    """Returns a function that returns True for labels that a selector selects.

    Check the selector with `check_label_selector` before. An empty selector selects all labels.
    """
    requirements = [_requirement(text.strip()) for text in _REQUIREMENTS.split(selector) if text.strip()]
    return lambda labels: all(requirement(labels) for requirement in requirements)


def _requirement(text: str) -> Matcher:
    if found := _SET.fullmatch(text):
        key, operator, listed = found.groups()
        return _among(key, frozenset(value.strip() for value in listed.split(",")), wanted=operator == "in")
    if found := _EQUALITY.fullmatch(text):
        key, operator, value = found.groups()
        return _among(key, frozenset({value}), wanted=operator != "!=")
    if text.startswith("!"):
        missing = text[1:].strip()
        return lambda labels: missing not in labels
    return lambda labels: text in labels


def _among(key: str, values: frozenset[str], *, wanted: bool) -> Matcher:
    """Returns a function that returns True if the value of the label `key` is in `values`.

    If `wanted` is false, the function returns the opposite. A missing label is not in `values`.
    """
    return lambda labels: (labels.get(key) in values) is wanted
