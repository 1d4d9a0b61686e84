"""Explanations for the status page."""

from __future__ import annotations

import re
import sys

import pytest

from svcdns.control import explanations
from svcdns.control.explanations import NO_SOCKET, ExplanationError, Explanations
from svcdns.process import isolated

SHOW = "import sys; print(sys.argv[1:])"


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints its arguments."""
    monkeypatch.setattr(isolated, "command", lambda *words: [sys.executable, "-I", "-c", SHOW, *words])


async def explained(socket: str | None = "/run/a.sock", **query: str) -> str:
    return await Explanations(lambda: socket).explain(query)


async def test_the_command() -> None:
    words = "['svcdns', 'explain', 'web.default', 'A', '--client', '10.0.0.1', '--server', '/run/a.sock', '--verbose']"
    assert await explained(name=" web.default ", client="10.0.0.1") == words


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"name": ""}, "Name: "),
        ({"name": "--conf"}, "Name: "),
        ({"name": "a..b"}, "Name: "),
        ({"name": "a", "type": "--x"}, "Type: "),
        ({"name": "a", "client": "pod"}, "Client address: "),
    ],
)
async def test_fields_that_cannot_be_used(query: dict[str, str], error: str) -> None:
    with pytest.raises(ExplanationError, match=error):
        await explained(**query)


async def test_without_a_socket() -> None:
    with pytest.raises(ExplanationError, match=re.escape(NO_SOCKET)):
        await explained(None, name="a")


async def test_a_command_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; print('Error: no contact', file=sys.stderr); sys.exit(2)"
    monkeypatch.setattr(isolated, "command", lambda *_: [sys.executable, "-I", "-c", program])
    with pytest.raises(ExplanationError, match=r"^no contact$"):
        await explained(name="a")


async def test_a_command_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanations, "TIMEOUT", 0.0)
    program = "import threading; threading.Event().wait()"
    monkeypatch.setattr(isolated, "command", lambda *_: [sys.executable, "-I", "-c", program])
    with pytest.raises(ExplanationError, match="took more than"):
        await explained(name="a")


async def test_only_one_at_a_time() -> None:
    made = Explanations(lambda: "/run/a.sock")
    async with made._running:
        with pytest.raises(ExplanationError, match="Another name"):
            await made.explain({"name": "a"})
