"""The addresses and ports at which the program answers, and under which answer table."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from svcdns.accelerator.memory import Memory
from svcdns.accelerator.mirrors import Mirrors
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.listeners import Listeners
from svcdns.telemetry.counters import Counters
from tests.support.kernel_program import KernelProgram, make_maps
from tests.support.world import Clock

V4, V6 = "10.0.0.1", "fd00::1"
ANY4, ANY6 = "0.0.0.0", "::"


def a_socket(address: str, port: int, responder: Any) -> Any:
    """Returns a listening socket. Without a responder, this worker does not read it."""
    return SimpleNamespace(
        sock=SimpleNamespace(getsockname=lambda: (address, port)),
        description=SimpleNamespace(wildcard=address in (ANY4, ANY6)),
        reader=None if responder is None else SimpleNamespace(responder=responder),
    )


def a_responder(*, is_uniform: bool = True) -> Any:
    table = AnswerTable(1 << 20, Clock())
    return SimpleNamespace(table=table, datagrams=True, uniform=is_uniform, sampling=None)


FIRST, SECOND = a_responder(), a_responder()
SPECIAL = a_responder(is_uniform=False)


@pytest.mark.parametrize(
    ("sockets", "places"),
    [
        pytest.param([(ANY4, 53, FIRST), (ANY6, 53, SECOND)], [(V4, 53, 0), (V6, 53, 1)], id="all addresses"),
        pytest.param([(ANY4, 53, FIRST), (ANY4, 5353, FIRST)], [(V4, 53, 0), (V4, 5353, 0)], id="two ports"),
        pytest.param([(ANY4, 53, FIRST), (V4, 53, SECOND)], [(V4, 53, 0)], id="one address before all"),
        pytest.param([(ANY4, 53, FIRST), (V4, 53, SPECIAL)], [], id="one address whose replies differ"),
        pytest.param([(ANY4, 53, FIRST), (V4, 53, None)], [], id="one address of another transport"),
        pytest.param([("10.0.0.2", 53, FIRST), (V6, 53, SECOND)], [(V6, 53, 0)], id="another interface"),
        pytest.param([(ANY4, 53, SPECIAL)], [], id="replies differ"),
    ],
)
def test_places(sockets: list[tuple[str, int, Any]], places: list[tuple[str, int, int]]) -> None:
    descriptors = make_maps()
    memory, program = Memory(descriptors, 64, 8, 2, Clock()), KernelProgram(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    listeners = SimpleNamespace(datagram_sockets=[a_socket(*one) for one in sockets], responders=[])
    mirrors = Mirrors(memory, [V4, V6], cast("Listeners", listeners), Counters(), Clock())
    assert mirrors.place() == 0
    assert program.places() == places
    attached = {id(one.table) for *_, one in sockets if one is not None and one.table.mirror is not None}
    assert len(attached) == len({table for *_, table in places})
    listeners.datagram_sockets = []
    mirrors.place()
    assert program.places() == []
    assert all(one.table.mirror is None for *_, one in sockets if one is not None)
    memory.close()
    program.close()
