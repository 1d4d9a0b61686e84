"""Label selectors match as at an API server."""

import pytest

from svcdns.sources.manifests.selectors import matcher

LABELS = {"app": "web", "tier": "front", "example.com/kind": ""}


@pytest.mark.parametrize(
    ("selector", "met"),
    [
        pytest.param("", True, id="empty"),
        pytest.param("app=web", True, id="equal"),
        pytest.param("app == web", True, id="equal-twice"),
        pytest.param("app=db", False, id="not-equal"),
        pytest.param("app!=db", True, id="differs"),
        pytest.param("app!=web", False, id="does-not-differ"),
        pytest.param("nobody!=x", True, id="a-missing-label-differs"),
        pytest.param("nobody=x", False, id="a-missing-label-is-not-equal"),
        pytest.param("example.com/kind=", True, id="empty-value"),
        pytest.param("nobody=", False, id="missing-is-not-empty"),
        pytest.param("app in (db, web)", True, id="in"),
        pytest.param("app in (db)", False, id="not-in"),
        pytest.param("app notin (db,x)", True, id="notin"),
        pytest.param("nobody notin (db)", True, id="a-missing-label-is-notin"),
        pytest.param("app", True, id="there"),
        pytest.param("nobody", False, id="not-there"),
        pytest.param("!nobody", True, id="absent"),
        pytest.param("! app", False, id="not-absent"),
        pytest.param("app in (web, db),tier=front, !nobody", True, id="all"),
        pytest.param("app in (web, db),tier=back", False, id="not-all"),
    ],
)
def test_selectors(selector: str, met: bool) -> None:
    """Equality, sets and presence, joined by commas."""
    assert matcher(selector)(LABELS) is met
