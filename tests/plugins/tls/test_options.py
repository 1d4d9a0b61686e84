"""The options of *tls* with ACME. `test_files.py` has the options with files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from svcdns.control.configuration import check
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse as parse_corefile
from svcdns.errors import SvcdnsError
from svcdns.plugins.tls.options import CLIENT_AUTH, LETS_ENCRYPT, Acme
from tests.support import world


def acme(*lines: str, root: str = "") -> Acme:
    """Returns the options of a directive with these lines."""
    found = world.options("tls", "tls {\n" + "\n".join(lines) + "\n}", root=root).acme
    assert isinstance(found, Acme)
    return found


def test_the_defaults_are_those_of_coredns() -> None:
    assert acme("acme b.example A.example.") == Acme(
        ("a.example", "b.example"), "", LETS_ENCRYPT, ".coredns/acme", "", None
    )


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        pytest.param("acme *.a.example a.example", {"domains": ("*.a.example", "a.example")}, id="wildcard"),
        pytest.param("acme bücher.example", {"domains": ("xn--bcher-kva.example",)}, id="not ASCII"),
        pytest.param("acme a.example A.EXAMPLE.", {"domains": ("a.example",)}, id="twice the same domain"),
        pytest.param("acme a.example\nemail a@b", {"email": "a@b"}, id="email"),
        pytest.param("acme a.example\nca http://x:1/dir", {"ca": "http://x:1/dir"}, id="ca"),
        pytest.param("acme a.example\nstorage s", {"storage": "/root/s"}, id="storage"),
        pytest.param("acme a.example\nca_root /c", {"ca_root": "/c"}, id="ca_root"),
        pytest.param("acme a.example\nresolver ns:53", {"resolver": ("ns", 53)}, id="resolver"),
        pytest.param(
            "acme a.example\nresolver [::1]:53", {"resolver": ("::1", 53)}, id="resolver with an IPv6 address"
        ),
    ],
)
def test_reads(line: str, fields: dict[str, Any]) -> None:
    """Paths are relative to the folder of *root*."""
    found = acme(line, root="/root")
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("tls", "2:1 plugin/tls: ACME requires at least one domain", id="no domain"),
        pytest.param("tls {\n acme\n}", "3:2 Wrong argument count", id="acme without a domain"),
        pytest.param("tls {\n acme 192.0.2.1\n}", "3:7 plugin/tls: invalid ACME domain '192.0.2.1'", id="an address"),
        pytest.param("tls {\n acme *.*.a\n}", "3:7 plugin/tls: invalid ACME domain '*.*.a'", id="two asterisks"),
        pytest.param("tls {\n acme a_b.c\n}", "3:7 plugin/tls: invalid ACME domain", id="underscore"),
        pytest.param("tls {\n acme a..b\n}", "3:7 plugin/tls: invalid ACME domain", id="empty label"),
        pytest.param("tls {\n acme a\n ca ftp://a\n}", "4:5 plugin/tls: invalid ACME CA URL 'ftp://a'", id="ftp"),
        pytest.param("tls {\n acme a\n ca https://u:p@a\n}", "4:5 plugin/tls: invalid ACME CA URL", id="password"),
        pytest.param("tls {\n acme a\n resolver 1.1.1.1\n}", "4:11 '1.1.1.1' is not an address", id="no port"),
        pytest.param("tls {\n acme a\n resolver 1.1.1.1:dns\n}", "4:11 '1.1.1.1:dns' is not", id="port that is a name"),
        pytest.param("tls {\n acme a\n resolver :53\n}", "4:11 plugin/tls: invalid ACME resolver", id="no host"),
        pytest.param("tls {\n acme a\n acme b\n}", "4:2 plugin/tls: ACME option 'acme' can only be spec", id="twice"),
        pytest.param("tls {\n acme a\n url b\n}", "4:2 unknown property 'url'", id="unknown"),
        pytest.param("tls c k {\n acme a\n}", "3:2 unknown property 'acme'", id="acme and files"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("tls", text).startswith(error)


def planned(text: str, state: str | None = None) -> Any:
    return check(parse_corefile(text, "Corefile", environ={}), state)


def test_a_state_folder_is_the_default_of_storage(tmp_path: Path) -> None:
    """Certificates from files ignore the folder."""
    text = "tls://. {\n tls {\n acme a.example\n MORE\n }\n}\n. {\n tls c k\n}\n"
    first, second = planned(text.replace("MORE", ""), str(tmp_path)).plans
    assert first.options["tls"].acme.storage == str(tmp_path / "acme")
    assert second.options["tls"].certificate == "c"
    assert planned(text.replace("MORE", "storage s"), str(tmp_path)).plans[0].options["tls"].acme.storage == "s"


def test_every_block_answers_challenges() -> None:
    """Blocks with equal options share a certificate."""
    one = "{\n tls {\n acme a.example\n }\n}\n"
    setup = planned(f"tls://. {one}https://.:444 {one}example. {{\n whoami\n}}\n")
    assert [len(block.options["tls"].managed) for block in setup.plans] == [1, 1, 1]
    assert [block.settings["tls"].certificate is None for block in setup.plans] == [False, False, True]
    assert list(setup.plans[2].options) == ["tls", "whoami"]


def test_blocks_without_acme_share_nothing() -> None:
    setup = planned("tls://. {\n tls c k\n}\n. {\n whoami\n}\n")
    assert [list(block.options) for block in setup.plans] == [["tls"], ["whoami"]]


def test_a_domain_has_one_certificate() -> None:
    text = "tls://. {\n tls {\n acme a.example\n }\n}\ntls://.:854 {\n tls {\n acme a.example b.example\n }\n}\n"
    with pytest.raises(
        SvcdnsError, match=r"Corefile:7.*ACME domain 'a.example' is configured with conflicting options"
    ):
        planned(text)


def test_client_authentication_has_the_words_of_coredns() -> None:
    assert CLIENT_AUTH["nocert"] == ssl.CERT_NONE
    with pytest.raises(CorefileError):
        world.options("tls", "tls {\n acme a\n client_auth nocert\n}")
