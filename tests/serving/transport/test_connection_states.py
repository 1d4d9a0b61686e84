"""The states of a connection."""

from __future__ import annotations

import pytest

from svcdns.serving.transport.connection_states import (
    BLOCKED_AT,
    NOT_TAKEN,
    REPLIED_AT,
    UNBLOCKED_AT,
    WITH_CHAIN,
    ReplyState,
)


@pytest.mark.parametrize("state", [ReplyState.IDLE, ReplyState.ANSWERING])
def test_a_client_that_reads_again_restores_the_state(state: ReplyState) -> None:
    """The plugin chain still has the query if the chain had it before."""
    blocked = BLOCKED_AT[state]
    assert blocked in NOT_TAKEN
    assert (blocked in WITH_CHAIN) is (state in WITH_CHAIN)
    assert UNBLOCKED_AT[blocked] is state


@pytest.mark.parametrize("state", WITH_CHAIN)
def test_the_last_message_of_a_reply_ends_the_work_of_the_chain(state: ReplyState) -> None:
    after = REPLIED_AT[state]
    assert after not in WITH_CHAIN
    assert (after in NOT_TAKEN) is (state in NOT_TAKEN)
