"""SipHash-2-4, compared with the test vectors of its authors and of RFC 9018."""

from __future__ import annotations

import pytest

from svcdns.serving.siphash import siphash24

KEY = bytes(range(16))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        pytest.param(0, "310e0edd47db6f72", id="nothing"),
        pytest.param(1, "fd67dc93c539f874", id="one octet"),
        pytest.param(7, "37d1018bf50002ab", id="one word"),
        pytest.param(8, "6224939a79f5f593", id="two words"),
        pytest.param(15, "e545be4961ca29a1", id="the example of the paper"),
    ],
)
def test_vectors_of_the_authors(length: int, expected: str) -> None:
    """The vectors are in `vectors.h` of the reference implementation."""
    assert siphash24(KEY, bytes(range(length))).hex() == expected


def test_a_server_cookie_of_rfc_9018() -> None:
    """The vector is in RFC 9018, appendix A.1."""
    content = bytes.fromhex("2464c4abcf10c957010000005cf79f11") + bytes((198, 51, 100, 100))
    assert siphash24(bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf"), content).hex() == "1f8130c3eee29480"
