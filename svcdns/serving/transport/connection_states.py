"""The states of a TCP or TLS connection (`tcp`).

A connection has one state for the client's side and one for the server's side:

client side   OPEN      --too many octets wait-->           HELD      --fewer octets wait-->     OPEN
              OPEN      --detach, for another worker-->     DETACHED  --resume: it stays here--> OPEN
              any       --end of the stream, finish-->      FINISHED  (closed after its last reply)
server side   IDLE      --a query goes to the chain-->      ANSWERING --its reply is sent-->     IDLE
              IDLE      --the client reads no reply-->      BLOCKED   --it reads replies-->      IDLE
              ANSWERING --the client reads no reply-->      STALLED   --it reads replies-->      ANSWERING
              STALLED   --the reply's last message-->       BLOCKED
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class ClientState(Enum):
    """The state of the client's side of a connection."""

    OPEN = 0
    HELD = 1
    FINISHED = 2
    DETACHED = 3


class ReplyState(Enum):
    """The state of the server's side of a connection."""

    IDLE = 0
    ANSWERING = 1
    BLOCKED = 2
    STALLED = 3


BLOCKED_AT: Final = {ReplyState.IDLE: ReplyState.BLOCKED, ReplyState.ANSWERING: ReplyState.STALLED}
UNBLOCKED_AT: Final = {ReplyState.BLOCKED: ReplyState.IDLE, ReplyState.STALLED: ReplyState.ANSWERING}
REPLIED_AT: Final = {ReplyState.ANSWERING: ReplyState.IDLE, ReplyState.STALLED: ReplyState.BLOCKED}
WITH_CHAIN: Final = (ReplyState.ANSWERING, ReplyState.STALLED)
NOT_TAKEN: Final = (ReplyState.BLOCKED, ReplyState.STALLED)
