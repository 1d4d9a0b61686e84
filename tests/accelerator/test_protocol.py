"""The helper's first message."""

from __future__ import annotations

import pytest

from svcdns.accelerator.layout import LARGE
from svcdns.accelerator.protocol import AcceleratorError, Greeting, decode_greeting, encode_greeting, socket_address


def test_greeting_round_trip() -> None:
    greeting = Greeting(interface="eth0", ifindex=3, addresses=("10.1.2.3", "fd00::3"), small=16384, large=512, cpus=2)
    assert decode_greeting(encode_greeting(greeting)) == greeting


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"", "malformed"),
        (b'{"layout":"1"}', "malformed"),
        (b'{"layout":4}', "layout 4"),
        (b'{"layout":3,"error":"no permission"}', "no permission"),
        (b'{"layout":3,"small":16384,"large":512}', "impossible size"),
        (b'{"layout":3,"small":65537,"large":512,"cpus":2}', "impossible size"),
        (b'{"layout":3,"small":16384,"large":-1,"cpus":2}', "impossible size"),
        (b'{"layout":3,"small":16384,"large":512,"cpus":99999999999999999999999}', "malformed|impossible size"),
    ],
)
def test_unusable_greetings(message: bytes, text: str) -> None:
    with pytest.raises(AcceleratorError, match=text):
        decode_greeting(message)


def test_addresses_that_begin_with_an_at_sign_are_abstract() -> None:
    assert socket_address("@svcdns-accelerator") == "\0svcdns-accelerator"
    assert socket_address("/run/svcdns.sock") == "/run/svcdns.sock"


@pytest.mark.parametrize(
    ("mtu", "addresses", "longest"),
    [
        (0, ("fd00::1",), LARGE),
        (1500, ("10.0.0.1", "fd00::1"), LARGE),
        (1280, ("10.0.0.1", "fd00::1"), 1280 - 40 - 8 - 2),
        (1260, ("10.0.0.1",), 1260 - 20 - 8 - 2),
        (40, ("fd00::1",), 0),
    ],
)
def test_the_longest_reply_fits_the_mtu(mtu: int, addresses: tuple[str, ...], longest: int) -> None:
    assert Greeting(mtu=mtu, addresses=addresses).longest_reply == longest
