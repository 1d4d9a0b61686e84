"""The letter case of query names that the first clients sent."""

from __future__ import annotations

from svcdns.plugin_api.fast_path import Key
from svcdns.plugins.cache.spellings import Spellings


def key(name: bytes) -> Key:
    """Returns the key of an A query."""
    return (name, 1, 1, False, False)


def test_a_spelling_is_valid_for_a_time() -> None:
    """The newest spelling of a key counts."""
    spellings = Spellings(8)
    spellings.set(key(b"\1a\0"), b"\1A\0", 10.0)
    assert spellings.get(key(b"\1a\0"), 9.9) == (b"\1A\0", 10.0)
    assert spellings.get(key(b"\1a\0"), 10.0) is None
    assert spellings.get(key(b"\1b\0"), 0.0) is None
    assert key(b"\1a\0") in spellings
    spellings.set(key(b"\1a\0"), b"\1a\0", 20.0)
    assert spellings.get(key(b"\1a\0"), 10.0) == (b"\1a\0", 20.0)
    assert len(spellings) == 1


def test_the_number_of_spellings_is_bounded() -> None:
    """The newest spellings stay."""
    spellings = Spellings(8)
    for number in range(100):
        spellings.set(key(b"%d" % number), b"", 1.0)
        assert len(spellings) <= 8
    assert [number for number in range(100) if key(b"%d" % number) in spellings] == list(range(92, 100))
