"""Label selectors as the API server matches them: equality, sets and presence. Commas join several terms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Matches = Callable[[Mapping[str, str]], bool]

_TERM = re.compile(
    r"\s*(?P<key>[\w./-]+)(?:\s*(?P<equal>==|=|!=)\s*(?P<value>[\w.-]*)|\s+(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?\s*"
)


def label_selector(text: str) -> Matches:
    """Returns a function that tests whether labels match all terms of the selector. An empty selector matches
    everything.
    """
    terms = [_term(part) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Matches:
    if text.strip().startswith("!"):
        key = text.strip()[1:].strip()
        return lambda labels: key not in labels
    found = _TERM.fullmatch(text)
    assert found, f"{text!r} is no term of a label selector"
    key, equal, kind = found["key"], found["equal"], found["set"]
    if equal:
        return lambda labels: (labels.get(key) == found["value"]) == (equal != "!=")
    if kind:
        values = {value.strip() for value in found["values"].split(",")}
        return lambda labels: (labels.get(key) in values) == (kind == "in")
    return lambda labels: key in labels
