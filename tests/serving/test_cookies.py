"""Server cookies (RFC 7873, RFC 9018): test vectors, age, and the change of secrets."""

from __future__ import annotations

import pytest

from svcdns.process.cookie_secrets import private_page, write_secrets
from svcdns.serving.cookies import MAX_AGE, ROTATION, Cookies

SECRET = "e5e973e5a6b2a43f48e7dc849e37bfcf"
CLIENT = bytes.fromhex("2464c4abcf10c957")
ADDRESS = "198.51.100.100"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def cookies(now: float, *secrets: str) -> tuple[Cookies, Clock]:
    """Returns cookies with these secrets, and their clock, which is at `now` seconds since 1970."""
    page, clock = private_page(), Clock(now)
    write_secrets(page, [bytes.fromhex(secret) for secret in secrets])
    return Cookies(page, clock), clock


@pytest.mark.parametrize(
    ("secrets", "now", "address", "received", "expected"),
    [
        pytest.param(
            [SECRET], 0x5CF79F11, ADDRESS, "2464c4abcf10c957",
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480", id="A.1: a new server cookie",
        ),
        pytest.param(
            [SECRET], 0x5CF7A871, ADDRESS, "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            "2464c4abcf10c957010000005cf7a871d4a564a1442aca77", id="A.2: renewed after half an hour",
        ),
        pytest.param(
            [SECRET], 0x5CF7A9AC, "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e", id="A.3: reserved octets that are not 0",
        ),
        pytest.param(
            ["445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"], 0x5CF7C609,
            "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a", id="A.4: a new secret, and IPv6",
        ),
    ],
)  # fmt: skip
def test_vectors_of_rfc_9018(secrets: list[str], now: int, address: str, received: str, expected: str) -> None:
    """The vectors are in RFC 9018, appendix A."""
    made, clock = cookies(now, *secrets)
    assert made.reply(bytes.fromhex(received), address).hex() == expected
    for cookie in filter(lambda text: len(text) > 16, (received, expected)):
        clock.now = int(cookie[24:32], 16)
        assert made.is_valid(bytes.fromhex(cookie), address)


def test_a_fresh_cookie_is_returned_unchanged() -> None:
    """A server cookie is fresh for half an hour."""
    made, clock = cookies(1_700_000_000)
    whole = made.reply(CLIENT, ADDRESS)
    clock.now += 1799
    assert made.reply(whole, ADDRESS) == whole
    clock.now += 1
    assert made.reply(whole, ADDRESS) != whole


@pytest.mark.parametrize(
    ("seconds", "valid"),
    [
        pytest.param(MAX_AGE, True, id="an hour old"),
        pytest.param(MAX_AGE + 1, False, id="older"),
        pytest.param(-300, True, id="another server's clock is ahead"),
        pytest.param(-301, False, id="from the future"),
    ],
)
def test_the_age_of_a_valid_cookie(seconds: int, valid: bool) -> None:
    """A cookie is valid for an hour, and from five minutes before its timestamp (RFC 9018 §4.3)."""
    made, clock = cookies(1_700_000_000)
    whole = made.reply(CLIENT, ADDRESS)
    clock.now += seconds
    assert made.is_valid(whole, ADDRESS) is valid


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda whole: whole[:-1] + bytes((whole[-1] ^ 1,)), id="hash"),
        pytest.param(lambda whole: bytes((whole[0] ^ 1,)) + whole[1:], id="client cookie"),
        pytest.param(lambda whole: whole[:8] + b"\2" + whole[9:], id="version"),
        pytest.param(lambda whole: whole[:8], id="no server cookie"),
        pytest.param(lambda whole: whole + b"\0", id="too long"),
    ],
)
def test_invalid_cookies_are_replaced(change: object) -> None:
    made, _ = cookies(1_700_000_000)
    wrong = change(made.reply(CLIENT, ADDRESS))  # type: ignore[operator]
    assert not made.is_valid(wrong, ADDRESS)
    assert made.is_valid(made.reply(wrong, ADDRESS), ADDRESS)


def test_another_address_has_another_cookie() -> None:
    made, _ = cookies(1_700_000_000)
    assert not made.is_valid(made.reply(CLIENT, ADDRESS), "198.51.100.101")


def test_the_secret_changes_once_a_day() -> None:
    """A cookie with the previous secret is still accepted, and is replaced."""
    made, clock = cookies(ROTATION * 20_000 - 10)
    whole = made.reply(CLIENT, ADDRESS)
    clock.now += 20
    assert made.is_valid(whole, ADDRESS)
    assert made.reply(whole, ADDRESS) != whole


def test_processes_with_the_same_secrets_accept_each_others_cookies() -> None:
    page = private_page()
    one, other = Cookies(page, Clock(1e9)), Cookies(page, Clock(1e9))
    assert other.is_valid(one.reply(CLIENT, ADDRESS), ADDRESS)
    before = one.reply(CLIENT, ADDRESS)
    write_secrets(page, [bytes(16)])
    assert other.is_valid(one.reply(CLIENT, ADDRESS), ADDRESS)
    assert not one.is_valid(before, ADDRESS)
