"""The built documentation site in a browser. Its pages are opened as files, without a web server."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.inspection import size
from tests.support.browser import PROGRAM, Page, browser

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-docs" / "bin" / "python"
SITE = ROOT / "build" / "site"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not PROGRAM, reason="chromium is not installed"),
    pytest.mark.skipif(
        not (ROOT / ".venv-docs" / ".installed").exists(), reason="`make site` has not installed its tools"
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    subprocess.run([PYTHON, "-m", "tools.docs_site"], cwd=ROOT, check=True)
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def press(page: Page, key: str, code: str, text: str = "") -> None:
    page.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, text=text)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)


@pytest.mark.parametrize("name", ["index", "start", "plugins/cache", "performance"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_pages_fit_their_window_and_load_nothing_from_outside(page: Page, name: str, width: int, dark: bool) -> None:
    page.open((SITE / f"{name}.html").as_uri(), width=width, dark=dark)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("document.body.dataset.mdColorScheme") == ("slate" if dark else "default")
    loaded = page.value(
        "[...document.querySelectorAll('[src], link[rel=stylesheet], link[rel=icon]')].map((one) => one.src || one.href)"
    )
    assert len(loaded) > 3
    assert [address for address in loaded if not address.startswith("file:")] == []
    assert page.problems == []


def test_the_keyboard_searches_all_pages(page: Page) -> None:
    """The key / opens the search, and Enter opens the first result."""
    page.open((SITE / "plugins" / "any.html").as_uri())
    deadline = time.monotonic() + 30
    while page.value("document.activeElement?.shadowRoot?.activeElement?.tagName") != "INPUT":
        assert time.monotonic() < deadline
        press(page, "/", "Slash", "/")
        time.sleep(0.2)
    page.call("Input.insertText", text="upgrade in place")
    page.until("document.activeElement.shadowRoot.querySelectorAll('a').length > 3")
    assert page.problems == []


def test_the_calculator_has_the_numbers_of_the_command(page: Page) -> None:
    page.open((SITE / "sizing.html").as_uri())
    choose = random.Random(7)
    asked = [(choose.randrange(20_000), choose.randrange(200_000), choose.randrange(1, 9)) for _ in range(50)]
    for numbers in asked:
        shown = page.value(
            f"(() => {{ const form = document.querySelector('form.size'), numbers = {list(numbers)};"
            "['services', 'endpoints', 'workers'].forEach((name, at) => form.elements[name].value = numbers[at]);"
            "form.dispatchEvent(new Event('input')); return form.querySelector('output').textContent })()"
        )
        expected, limit = (octets >> 20 for octets in size.estimate(*numbers))
        assert shown == f"Expected: {expected} MiB. Memory limit: at least {limit} MiB.", numbers


def test_without_javascript_the_sizing_page_has_the_formula(page: Page) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open((SITE / "sizing.html").as_uri())
        text = page.value("document.body.innerText")
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "each further endpoint" in text
    assert "176 MiB" in text
