"""Chi-square tests of random numbers. By chance, they fail once in a million runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_QUANTILE = 4.7534
"""Of the normal distribution, for one in a million."""


def chi_square_of(increments: Mapping[Any, int], classes: int, drawn: int) -> float:
    """Returns chi-square for the counts of equally likely classes."""
    expected = drawn / classes
    return (
        sum((count - expected) ** 2 for count in increments.values()) / expected
        + (classes - len(increments)) * expected
    )


def chi_square_bound(degrees: int) -> float:
    """Returns the value that chi-square exceeds once in a million times (Wilson and Hilferty's approximation)."""
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + _QUANTILE * part**0.5) ** 3)
