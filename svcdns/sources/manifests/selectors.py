"""Applies label selectors to the labels of manifests. For an API server the server does that.

The syntax is checked in `label_selectors` before: a selector that is refused there must not be passed to this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

Matcher = Callable[[Mapping[str, str]], bool]

_REQUIREMENTS: Final = re.compile(r",(?![^()]*\))")
_SET: Final = re.compile(r"(\S+)\s+(in|notin)\s*\((.*)\)")
_EQUALITY: Final = re.compile(r"([^\s!=]+)\s*(==|!=|=)\s*(\S*)")


def matcher(selector: str) -> Matcher:
    """A function that tells whether labels meet every requirement of the selector; an empty one is met by all."""
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
    """A missing label has none of the values, so it meets `!=` and `notin`."""
    return lambda labels: (labels.get(key) in values) is wanted
