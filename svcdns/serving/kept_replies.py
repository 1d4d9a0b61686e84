"""Checks, after a reload of the Corefile, whether a stored reply is still valid.

`svcdns.chain.kept_routes` compares the server blocks at the reload. This module checks a single name when its reply is
looked up: a new server block may have taken the name from the block that answered before.
"""

from __future__ import annotations

from typing import Final

from svcdns.chain.routing import Listener
from svcdns.serving.answer_table import Entry
from svcdns.wire.errors import FormError
from svcdns.wire.names import is_within
from svcdns.wire.request import read_query_name

_ID: Final = b"\0\0"


def stays(listener: Listener, entry: Entry) -> bool:
    """Returns True if the plugin chains of `listener` would give the stored reply again.

    Call it only if the replies of the listener do not depend on the client.
    """
    origin = entry.hit_counter.origin
    if origin.zones == ():
        return False
    packet = _ID + entry.key
    try:
        name, end = read_query_name(packet)
    except FormError:
        return False
    key = name.lower()
    if listener.find(key, int.from_bytes(packet[end : end + 2], "big")) is not origin.route:
        return False
    return origin.zones is None or any(is_within(key, zone) for zone in origin.zones)
