"""The page of the plugin *status* in a browser, with a running server.

With the environment variable SVCDNS_PICTURES, the pictures of docs/plugins/status.md are written to that folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support.browser import PROGRAM, Page, browser
from tests.support.server import Server, free_port, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not PROGRAM, reason="chromium is not installed"),
]

COREFILE = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    status localhost:{status}
    admin {dir}/admin.sock
    traffic
    cache 30
    kubernetes cluster.local {
        manifests {dir}/cluster.yaml
    }
    template IN A outside.test {
        match ^.*<script>.*$
        rcode NXDOMAIN
    }
}
"""
CLUSTER = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}
"""
NAME = "web.default.svc.cluster.local."


class StatusServer(Server):
    """The server of this module, with a port for the page."""

    def write(self, corefile: str) -> None:
        """Writes the Corefile, with the ports and the folder in its placeholders."""
        self.ports.setdefault("status", free_port())
        super().write(corefile)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StatusServer]:
    folder = tmp_path_factory.mktemp("status")
    (folder / "cluster.yaml").write_text(CLUSTER)
    with StatusServer(folder, COREFILE) as running:
        running.until_ready()
        until("the Service", lambda: running.records(NAME) == ["10.96.0.7"])
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def queries(server: StatusServer, count: int) -> None:
    for number in range(count):
        query = dns.message.make_query(NAME if number % 4 else f"no{number}.default.svc.cluster.local.", "A")
        dns.query.udp(query, "127.0.0.1", 10, server.ports["port"])


def picture(server: StatusServer, page: Page, name: str) -> None:
    """Writes a picture for the documentation, with usual paths in place of those of this test."""
    folder = os.environ.get("SVCDNS_PICTURES")
    if folder:
        for part in ("live", "explanation"):
            element = f"document.getElementById('{part}')"
            page.value(f"{element}.innerHTML = {element}.innerHTML.replaceAll('{server.folder}', '/etc/coredns')")
        page.picture(Path(folder, name))


def test_the_page_updates_itself(server: StatusServer, page: Page) -> None:
    page.open(f"http://localhost:{server.ports['status']}/status/", height=1400)
    shown = "Number(document.querySelectorAll('.cards strong')[1].textContent.replaceAll(',', ''))"
    before = page.value(shown)
    rounds = 20 if "SVCDNS_PICTURES" in os.environ else 1
    for _ in range(rounds):
        queries(server, 200)
        page.until(f"{shown} > {before}")
    page.until(f"{shown} >= {before} + 200 * {rounds}")
    page.until("document.querySelector('#rates polyline').getAttribute('points').split(' ').length > 2")
    assert page.value("document.body.dataset.stale") == "no"
    assert page.value("document.querySelector('h1').textContent").startswith("svcdns ")
    assert "kubernetes" in page.value("document.body.innerText")
    page.value(
        "document.querySelector('[name=name]').value = 'web.default'; document.querySelector('form').requestSubmit()"
    )
    page.until("document.getElementById('explanation').textContent.length > 9")
    picture(server, page, "status-light.png")
    assert page.problems == []


def test_the_form_explains_a_name(server: StatusServer, page: Page) -> None:
    """A name with HTML in it is shown as text."""
    page.open(f"http://localhost:{server.ports['status']}/status/")
    page.value(
        "document.querySelector('[name=name]').value = 'web.default'; document.querySelector('form').requestSubmit()"
    )
    page.until("document.getElementById('explanation').textContent.includes('10.96.0.7')")
    page.value(
        "document.querySelector('[name=name]').value = '<b>x</b>.test'; document.querySelector('form').requestSubmit()"
    )
    page.until("document.getElementById('explanation').textContent.includes('<b>x</b>.test')")
    assert page.value("document.querySelectorAll('#explanation *').length") == 0
    assert page.problems == []


def test_without_javascript(server: StatusServer, page: Page) -> None:
    """The form is an ordinary one, and the page has all figures."""
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(f"http://localhost:{server.ports['status']}/status/?name=nothing.default&type=A&client=127.0.0.1")
        text = page.value("document.body.innerText")
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "nothing.default.svc.cluster.local." in text
    assert "Served zones" in text
    assert "worker 0" in text


@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1200, True)])
def test_small_and_dark_windows(server: StatusServer, page: Page, width: int, dark: bool) -> None:
    """Nothing is wider than the window, and the text has enough contrast (WCAG 2.1, 4.5 to 1)."""
    page.open(f"http://localhost:{server.ports['status']}/status/", width=width, dark=dark)
    assert page.value("document.documentElement.scrollWidth") <= width
    colours = page.value(
        "[getComputedStyle(document.querySelector('section')).backgroundColor, "
        "getComputedStyle(document.body).color, getComputedStyle(document.querySelector('.note')).color]"
    )
    panel, *texts = (luminance(colour) for colour in colours)
    assert (panel < 0.2) == dark
    assert all(contrast(panel, text) >= 4.5 for text in texts)
    if dark:
        picture(server, page, f"status-dark-{width}.png")
    assert page.problems == []


def test_the_keyboard_reaches_the_form(server: StatusServer, page: Page) -> None:
    """Each field has a label."""
    page.open(f"http://localhost:{server.ports['status']}/status/")
    reached = []
    for _ in range(4):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(page.value("document.activeElement.name || document.activeElement.tagName"))
    assert reached == ["name", "type", "client", "BUTTON"]
    labels = "[...document.querySelectorAll('input, select')].every((one) => one.labels.length === 1)"
    assert page.value(labels) is True


def luminance(colour: str) -> float:
    """Returns the relative luminance of a colour such as `rgb(1, 2, 3)` (WCAG 2.1)."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
