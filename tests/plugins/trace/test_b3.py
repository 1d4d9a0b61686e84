"""Header fields of a client's trace."""

from __future__ import annotations

import pytest

from svcdns.plugins.trace.b3 import Remote, remote

LONG = "463ac35c9f6413ad48485a3953bb6124"
SPAN = "a2fb4a1d1a96d312"


def headers(**fields: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, Remote()),
        ({"x_b3_traceid": LONG, "x_b3_spanid": SPAN}, Remote(int(LONG, 16), LONG, int(SPAN, 16))),
        ({"x_b3_traceid": LONG, "x_b3_spanid": SPAN, "x_b3_sampled": "1"}, Remote(int(LONG, 16), LONG, int(SPAN, 16))),
        (
            {"x_b3_traceid": SPAN, "x_b3_spanid": SPAN, "x_b3_parentspanid": "00000000000000ff"},
            Remote(int(SPAN, 16), SPAN, int(SPAN, 16), 255),
        ),
        (
            {"x_b3_traceid": LONG, "x_b3_spanid": SPAN, "x_b3_flags": "1"},
            Remote(int(LONG, 16), LONG, int(SPAN, 16), is_debug=True),
        ),
        (
            {"x_b3_traceid": LONG, "x_b3_spanid": SPAN, "x_b3_sampled": "0"},
            Remote(int(LONG, 16), LONG, int(SPAN, 16), is_sampled=False),
        ),
        ({"x_b3_sampled": "0"}, Remote(is_sampled=False)),
        ({"b3": "0"}, Remote(is_sampled=False)),
        ({"b3": f"{LONG}-{SPAN}-1-00000000000000ff"}, Remote(int(LONG, 16), LONG, int(SPAN, 16), 255)),
        ({"b3": f"{LONG}-{SPAN}"}, Remote(int(LONG, 16), LONG, int(SPAN, 16))),
        ({"b3": f"{LONG}-{SPAN}-d"}, Remote(int(LONG, 16), LONG, int(SPAN, 16), is_debug=True)),
        ({"x_b3_traceid": "zz", "x_b3_spanid": SPAN}, Remote()),
        ({"x_b3_traceid": LONG}, Remote()),
        ({"x_b3_traceid": "0" * 16, "x_b3_spanid": SPAN}, Remote()),
        ({"x_b3_traceid": LONG, "x_b3_spanid": SPAN, "x_b3_parentspanid": "1"}, Remote()),
        ({"b3": "-"}, Remote()),
    ],
)
def test_fields(fields: dict[str, str], found: Remote) -> None:
    """Both forms are read. Malformed identifiers are ignored."""
    assert remote(headers(**fields)) == found
