"""A Hypothesis strategy for records of a few names, as zone-file lines."""

from __future__ import annotations

from hypothesis import strategies as st


def record_lines(*data: str) -> st.SearchStrategy[list[str]]:
    """Returns a strategy for up to 8 lines. Each line has one of six names, and type and RDATA from `data`."""
    line = st.builds(
        "{}.example.{}. 60 IN {}".format,
        st.sampled_from("abc"),
        st.sampled_from(["org", "net"]),
        st.sampled_from(data),
    )
    return st.lists(line, max_size=8)
