"""Advice for directives of other builds and other versions of CoreDNS."""

from __future__ import annotations

import pytest

from svcdns.inspection.other_builds import mend_option, mend_unknown


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("proxy", "CoreDNS 1.5.0 removed 'proxy'; write 'forward . ADDRESS' instead"),
        ("mdns", "'mdns' is an external plugin of CoreDNS; svcdns and CoreDNS's default build do not have it"),
    ],
)
def test_known_directives(name: str, mend: str) -> None:
    message = f"Unknown directive '{name}' (did you mean 'dns64'?)"
    assert mend_unknown(name, message) == (f"Unknown directive '{name}'", mend)


def test_a_misspelt_directive_keeps_its_hint() -> None:
    message = "Unknown directive 'cahce' (did you mean 'cache'?)"
    assert mend_unknown("cahce", message) == (message, "")


def test_a_removed_option() -> None:
    message = "unknown property 'upstream' (did you mean 'ttl'?)"
    assert mend_option("kubernetes", message) == "CoreDNS 1.7.0 removed 'upstream'; delete the line"
    assert mend_option("forward", message) == ""
