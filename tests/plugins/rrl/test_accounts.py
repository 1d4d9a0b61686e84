"""The table of accounts of *rrl*: balances, and the bound of its memory."""

from __future__ import annotations

import random

import pytest

from svcdns.plugin_api.rate_limit import Verdict
from svcdns.plugins.rrl.accounts import ACCOUNT_SIZE, MIN_ACCOUNTS, WAYS, Accounts

SEND, DROP, TRUNCATE = Verdict


def verdicts(accounts: Accounts, count: int, interval: float, now: float, account: int = 1) -> list[Verdict]:
    """Returns the verdicts about `count` replies. `interval` is the time between two replies."""
    return [accounts.debit(account, interval, now) for _ in range(count)]


@pytest.mark.parametrize("rate", [1, 3, 7, 10, 1000])
def test_the_allowance_of_one_second(rate: int) -> None:
    """A new account may send the replies of one second immediately. Then the rate applies."""
    accounts = Accounts(0, 15, 0)
    assert verdicts(accounts, rate + 1, 1 / rate, 5.0) == [SEND] * rate + [DROP]
    accounts = Accounts(0, 15, 0)
    sent = sum(accounts.debit(1, 1 / rate, 5.0 + number / rate) is SEND for number in range(10 * rate))
    assert sent == 10 * rate


def test_credit_is_at_most_that_of_one_second() -> None:
    """After an hour without replies, an account has no more credit than a new account."""
    accounts = Accounts(0, 15, 0)
    verdicts(accounts, 3, 0.2, 5.0)
    assert verdicts(accounts, 7, 0.2, 3605.0) == [SEND] * 5 + [DROP] * 2


def test_less_than_one_reply_a_second() -> None:
    """At half a reply per second, a client gets a reply every two seconds."""
    accounts = Accounts(0, 15, 0)
    assert [accounts.debit(1, 2.0, at) for at in (5.0, 7.0, 9.0, 100.0, 102.0)] == [SEND] * 5
    assert accounts.debit(1, 2.0, 102.5) is DROP


def test_a_flood_is_limited_until_the_window_has_passed() -> None:
    """Dropped replies debit the account, too. The deficit is at most that of `window` seconds."""
    accounts = Accounts(0, 4, 0)
    assert verdicts(accounts, 1000, 0.1, 5.0).count(SEND) == 10
    assert accounts.debit(1, 0.1, 8.9) is DROP
    accounts = Accounts(0, 4, 0)
    verdicts(accounts, 1000, 0.1, 5.0)
    assert verdicts(accounts, 2, 0.1, 9.1) == [SEND, DROP]


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0, [DROP] * 6), (1, [TRUNCATE] * 6), (2, [DROP, TRUNCATE] * 3), (3, [DROP, DROP, TRUNCATE] * 2)],
)
def test_slip(ratio: int, expected: list[Verdict]) -> None:
    """Of the replies over the limit, every `slip_ratio`-th is truncated. The others are dropped."""
    assert verdicts(Accounts(0, 15, ratio), 8, 0.5, 5.0)[2:] == expected


@pytest.mark.parametrize("size", [0, MIN_ACCOUNTS, 5000, 100_000])
def test_the_memory_is_bounded(size: int) -> None:
    accounts, rng = Accounts(size, 15, 2), random.Random(1)
    assert accounts.octets == 0
    for number in range(20_000):
        accounts.debit(rng.getrandbits(64) - (1 << 63), 0.1, 5.0 + number / 1e5)
    assert 0 < accounts.octets <= ACCOUNT_SIZE * (max(size, MIN_ACCOUNTS) + WAYS)


def test_accounts_over_the_limit_stay_in_a_full_table() -> None:
    """Names that are queried only once do not remove an account over its limit."""
    accounts, rng = Accounts(0, 15, 0), random.Random(1)
    verdicts(accounts, 200, 0.1, 5.0)
    for number in range(50_000):
        accounts.debit(rng.getrandbits(62), 0.1, 5.0 + number / 1e5)
    assert accounts.debit(1, 0.1, 5.5) is DROP
