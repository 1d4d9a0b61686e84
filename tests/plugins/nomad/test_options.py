"""The options of `nomad` (docs/plugins/nomad.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from svcdns.corefile.blocks import Position
from svcdns.plugins.nomad.options import Address, Options, Tls
from tests.support import world

LOCAL = Address("http://127.0.0.1:4646")
DEFAULT = Options(Position("Corefile", 2, 1), "service.nomad.", (LOCAL,))
VARIABLES = ("ADDR", "TOKEN", "REGION", "HTTP_AUTH", "CACERT", "CAPATH", "CLIENT_CERT", "CLIENT_KEY")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "TLS_SERVER_NAME", "SKIP_VERIFY"):
        monkeypatch.delenv(f"NOMAD_{name}", raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("nomad", DEFAULT, id="defaults"),
        pytest.param("nomad Nomad.Test", replace(DEFAULT, zone="nomad.test."), id="zone"),
        pytest.param("nomad {\n ttl 0\n}", replace(DEFAULT, ttl=0), id="ttl"),
        pytest.param("nomad {\n token t\n token x\n}", replace(DEFAULT, token="x"), id="the last token"),
        pytest.param('nomad {\n filter "a b"\n}', replace(DEFAULT, filter="a b"), id="filter"),
        pytest.param(
            "nomad {\n address http://a:1 https://[::1]:2/x\n ADDRESS unix:///run/api.sock\n}",
            replace(
                DEFAULT,
                addresses=(
                    Address("http://a:1"),
                    Address("https://[::1]:2"),
                    Address("http://127.0.0.1", "/run/api.sock"),
                ),
            ),
            id="addresses",
        ),
    ],
)
def test_reads_options(text: str, expected: Options) -> None:
    assert world.options("nomad", text) == expected


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Corefile wins over the environment."""
    for name in VARIABLES:
        monkeypatch.setenv(f"NOMAD_{name}", f"http://{name.lower()}")
    monkeypatch.setenv("NOMAD_SKIP_VERIFY", "true")
    found = world.options("nomad", "nomad {\n token t\n}")
    assert found == replace(
        DEFAULT,
        addresses=(Address("http://addr"),),
        token="t",
        region="http://region",
        basic="http://http_auth",
        tls=Tls("http://client_cert", "http://client_key", "http://cacert", "http://capath", "", is_verified=False),
    )


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_HTTP_AUTH", "u:sesame")
    assert "sesame" not in repr(world.options("nomad", "nomad {\n token sesame\n}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nomad {\n address\n}", "at least one address is required"),
        ("nomad {\n filter a b\n}", "exactly one filter is required"),
        ("nomad {\n token\n}", "exactly one token is required"),
        ("nomad {\n ttl\n}", "exactly one ttl value is required"),
        ("nomad {\n ttl 5s\n}", "error parsing ttl: '5s' is not a number of seconds"),
        ("nomad {\n ttl 3601\n}", "ttl must be in range [0, 3600]: 3601"),
        ("nomad {\n ttl -1\n}", "ttl must be in range [0, 3600]: -1"),
        ("nomad {\n tokn x\n}", "unknown property 'tokn' (did you mean 'token'?)"),
        ("nomad {\n address ftp://a\n}", "invalid address 'ftp://a': http://HOST:PORT was expected"),
        ("nomad {\n address http://a:x\n}", "invalid address 'http://a:x': http://HOST:PORT was expected"),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    assert expected in world.rejection("nomad", text)


def test_words_without_effect_are_warnings() -> None:
    found = world.options("nomad", "nomad a.test b.test\nnomad c.test")
    assert [text.split(" - ")[-1] for text in found.warnings] == [
        "zone 'b.test' is ignored, nomad has one zone",
        "'nomad' is ignored, only the first one of a server block is used",
    ]
