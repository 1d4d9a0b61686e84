"""The addresses that a start binds before anything else ("early addresses"). They are those that control finds later,
or there are none.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.cli import early_addresses
from svcdns.cli.early_addresses import of_command_line, of_text
from svcdns.control import early_ports
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse

ROOT = Path(__file__).parents[2]
PORTS = [("", 1053, "udp"), ("", 1053, "tcp")]


def found_by_control(text: str) -> list[early_ports.Address]:
    """Returns the addresses that control finds after it has read the whole Corefile."""
    return early_ports.addresses(parse(text, "Corefile", environ=os.environ, default_port=1053), os.environ)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(". {\n whoami\n}", id="the default port"),
        pytest.param("a:53 b:54, c.example.:55 {\n whoami\n}\n\nd:53 {\n whoami\n}", id="several keys and blocks"),
        pytest.param("dns://a:53 tls://b tls://c:8853 {\n whoami\n}", id="schemes"),
        pytest.param(". {\n bind 127.0.0.1 ::1\n bind 127.0.0.2\n whoami\n}", id="bind"),
        pytest.param("10.0.0.0/23 *.example {\n whoami\n}", id="a network and an asterisk"),
        pytest.param("# x {\r\n. { # y {\r\n\tforward . 1.1.1.1 {\r\n\t\texpire 5s\r\n\t}\r\n}\r\n", id="comments"),
        pytest.param('. {\n template IN A {\n  answer "{{ .Name }} 60 IN A 1.2.3.4"\n }\n}', id="quotes"),
        pytest.param(". {\n forward . {$UPSTREAM}\n kubernetes a {\n  manifests {$A}\n }\n}", id="variables"),
        pytest.param(". {\n kubernetes cluster.local {\n  pods insecure\n  manifests /a\n }\n}", id="manifests"),
    ],
)
def test_the_addresses_of_a_plain_corefile(text: str) -> None:
    found = of_text(text.encode(), 1053)
    assert found == found_by_control(text)
    assert found


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(".", id="no block"),
        pytest.param(". {\n whoami", id="no end"),
        pytest.param(". {\n whoami\n}\n}", id="a brace too many"),
        pytest.param(". {\n whoami }", id="a brace after a directive"),
        pytest.param(". { whoami\n}", id="a directive after a brace"),
        pytest.param(".\n{\n whoami\n}", id="a brace on the next line"),
        pytest.param("a,\nb {\n whoami\n}", id="keys on two lines"),
        pytest.param("a{\n whoami\n}", id="a brace behind a key"),
        pytest.param("(s) {\n whoami\n}\n. {\n import s\n}", id="a snippet"),
        pytest.param("import other\n. {\n whoami\n}", id="import of blocks"),
        pytest.param(". {\n import other\n}", id="import of directives"),
        pytest.param("{$ZONE} {\n whoami\n}", id="a variable as key"),
        pytest.param(". {\n {$PLUGIN} 127.0.0.1\n}", id="a variable as directive"),
        pytest.param(". {\n bind {$ADDRESS}\n}", id="a variable in bind"),
        pytest.param(". {\n kubernetes a {\n  {$OPTION} /a\n }\n}", id="a variable as option"),
        pytest.param(". {\n bind lo\n}", id="an interface"),
        pytest.param(". {\n bind 127.0.0.1 {\n  except 127.0.0.2\n }\n}", id="except"),
        pytest.param(". {\n bind\n}", id="bind without an address"),
        pytest.param(". {\n bind 127.0.0.01\n}", id="an address with a zero in front"),
        pytest.param('. {\n bind "127.0.0.1"\n}', id="a quoted address"),
        pytest.param('"." {\n whoami\n}', id="a quoted key"),
        pytest.param('. {\n template IN A {\n  answer "a\n }\n b"\n }\n}', id="a quote over two lines"),
        pytest.param(". {\n a\x85b\n}", id="other white space"),
        pytest.param(".:0 {\n whoami\n}", id="port 0"),
        pytest.param(".:65536 {\n whoami\n}", id="no port"),
        pytest.param(".: {\n whoami\n}", id="an empty port"),
        pytest.param("grpc://. {\n whoami\n}", id="a transport that another worker serves"),
        pytest.param("2001:db8::/32 {\n whoami\n}", id="an IPv6 network"),
        pytest.param(". {\n kubernetes cluster.local\n}", id="lists of an API server"),
        pytest.param(". {\n kubernetes cluster.local {\n snapshot /nowhere/at/all\n }\n}", id="no snapshot"),
    ],
)
def test_no_address_of_an_unclear_corefile(text: str) -> None:
    """A Corefile that is not plain has no early addresses. A start that waits for an API server has none, either."""
    assert of_text(text.encode(), 1053) == []


def test_the_corefiles_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each Corefile in the repository, the quick reader finds the addresses that control finds."""
    monkeypatch.setenv("SVCDNS_MANIFESTS", "/a")
    found = 0
    for folder in ("bench", "docs", "examples", "svcdns", "tests", "."):
        for path in (ROOT / folder).glob("Corefile*" if folder == "." else "**/Corefile*"):
            text = path.read_text().replace("{port}", "1053")
            early = of_text(text.encode(), 1053)
            found += bool(early)
            assert early in ([], found_by_control(text)), path
    assert found > 5


WORDS = st.sampled_from(
    [".", "a:53", "tls://b", "bind", "127.0.0.1", "::1", "kubernetes", "manifests", "/a", "{", "}", "\n", "\n", "#", '"', "import",
     "{$X}", "whoami", ",", "a,", "b{", "\t", "\\", "snapshot"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=30))
def test_any_text(words: list[str]) -> None:
    """For any text, the early addresses are those that control finds, or there are none."""
    text = " ".join(words)
    early = of_text(text.encode(), 1053)
    if early:
        try:
            later = found_by_control(text)
        except CorefileError:
            return
        assert early == later


def test_environment_variables_are_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SVCDNS_MANIFESTS` and `SVCDNS_SNAPSHOT` are options of *kubernetes*. The snapshot must exist."""
    text = b". {\n kubernetes cluster.local\n}"
    monkeypatch.setenv("SVCDNS_SNAPSHOT", f"{tmp_path} 1h")
    assert of_text(text, 1053) == []
    (tmp_path / "view").write_bytes(b"")
    assert of_text(text, 1053) == PORTS
    monkeypatch.delenv("SVCDNS_SNAPSHOT")
    monkeypatch.setenv("SVCDNS_MANIFESTS", "/a")
    assert of_text(text, 1053) == PORTS


def test_the_options_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-conf` and `-dns.port` are used in all spellings. With an unknown option or another command, there are no early
    addresses.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Corefile").write_text(". {\n whoami\n}")
    (tmp_path / "other").write_text("a:5 {\n whoami\n}")
    for arguments in (["-dns.port", "1053"], ["--p=1053", "-quiet"], ["serve", "-p", "1053", "-pidfile", "x"]):
        assert of_command_line(arguments) == PORTS
    for arguments in (["-conf", "other"], ["--conf=other", "-pin", "-state=x"]):
        assert of_command_line(arguments) == [("", 5, "udp"), ("", 5, "tcp")]
    for arguments in (["demo"], ["-version"], ["-conf"], ["-p", "x"], ["-p", "0"], ["-conf", "stdin"], ["-conf", "no"]):
        assert of_command_line(arguments) == []


def test_a_file_that_could_block_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named pipe is not opened, and a very large file is not used."""
    os.mkfifo(tmp_path / "pipe")
    assert of_command_line(["-conf", str(tmp_path / "pipe")]) == []
    (tmp_path / "large").write_text(". {\n whoami\n}\n#")
    assert of_command_line(["-conf", str(tmp_path / "large")])
    monkeypatch.setattr(early_addresses, "MAX_SIZE", 10)
    assert of_command_line(["-conf", str(tmp_path / "large")]) == []
