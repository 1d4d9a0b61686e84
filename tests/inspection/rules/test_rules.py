"""The rules of `svcdns check`. Each rule finds its problem, and reports nothing for a correct Corefile."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest
import trustme

from svcdns.inspection.reading import read
from svcdns.inspection.report import report
from svcdns.inspection.rules import apply
from svcdns.inspection.rules.files import logged
from svcdns.inspection.rules.patterns import reason_without_match

KEYS = Path(__file__).parents[2] / "dnssec" / "keys"
ZONE = "$TTL 60\n@ IN SOA ns root 1 2 3 4 5\n@ IN NS ns\nns IN A 192.0.2.1\n"
RESOLV = "nameserver 127.0.0.53\n"

CASES = [
    ("zone-outside-block", 2, "a.test {\n kubernetes cluster.local\n}\n"),
    ("zone-outside-block", 2, "a.test {\n forward b.test 192.0.2.1\n whoami\n}\n"),
    ("unreachable-directive", 3, ". {\n forward . 192.0.2.1\n whoami\n}\n"),
    ("unreachable-directive", 3, "a.test {\n kubernetes a.test\n forward . 192.0.2.1\n}\n"),
    ("unreachable-forward", 3, ". {\n forward . 192.0.2.1\n forward a.test 192.0.2.2\n}\n"),
    ("block-without-answers", 1, ". {\n errors\n log\n}\n"),
    ("no-cluster-zone", 2, ". {\n kubernetes in-addr.arpa ip6.arpa\n whoami\n}\n"),
    ("autopath-without-pods", 2, ". {\n autopath @kubernetes\n kubernetes cluster.local\n whoami\n}\n"),
    ("autopath-without-kubernetes", 2, ". {\n autopath @kubernetes\n whoami\n}\n"),
    ("page-conflict", 3, ". {\n health :8080\n ready 127.0.0.1:8080\n whoami\n}\n"),
    ("page-shared", 3, ". {\n health :8080\n ready :8080\n whoami\n}\n"),
    ("no-server-block", 1, "# nothing\n"),
    ("page-conflict", 2, ".:8080 {\n health\n whoami\n}\n"),
    ("page-twice", 6, "a.test {\n health\n whoami\n}\nb.test {\n health\n whoami\n}\n"),
    ("forwarding-loop", 2, ". {\n forward . 127.0.0.1\n}\n"),
    ("forwarding-loop", 5, "a.test:53 {\n whoami\n}\n.:5300 {\n forward . 127.0.0.1:5301\n}\n.:5301 {\n forward . 127.0.0.1:5300\n}\n"),
    ("loopback-name-server", 3, ". {\n bind 192.0.2.1\n forward . resolv.conf\n}\n"),
    ("pattern-without-match", 3, "a.test {\n template IN A {\n  match ^www.a.test$\n }\n}\n"),
    ("pattern-without-match", 2, "a.test {\n rewrite name regex Www(.*) {1}\n whoami\n}\n"),
    ("cache-without-effect", 2, ". {\n cache {\n  disable success\n  disable denial\n }\n whoami\n}\n"),
    ("cache-zone-without-effect", 3, "a.test {\n cache {\n  disable success b.test\n }\n whoami\n}\n"),
    ("cache-ttl-order", 3, "a.test {\n cache {\n  success 100 10 20\n }\n whoami\n}\n"),
    ("cache-without-source", 3, "a.test {\n kubernetes\n cache\n}\n"),
    ("file", 2, "a.test {\n file absent.db\n}\n"),
    ("file", 2, "a.test {\n file broken.db\n}\n"),
    ("file", 2, ". {\n forward . /absent/resolv.conf\n}\n"),
    ("file", 2, ". {\n kubernetes a.test {\n  kubeconfig absent.conf\n }\n}\n"),
    ("file", 2, "tls://. {\n tls absent.pem absent.key\n whoami\n}\n"),
    ("file", 3, "a.test {\n sign zone.db {\n  key file absent\n }\n whoami\n}\n"),
    ("file", 2, "a.test {\n sign absent.db {\n  key directory keys\n }\n whoami\n}\n"),
    ("file", 2, "a.test {\n sign broken.db {\n  key directory keys\n }\n whoami\n}\n"),
    ("file", 3, "a.test {\n dnssec {\n  key file absent\n }\n whoami\n}\n"),
    ("signature-expires", 2, "a.test {\n file soon.db\n}\n"),
    ("signature-expired", 2, "a.test {\n file late.db\n}\n"),
    ("signature-expired", 2, "b.test {\n sign zone.db {\n  key directory keys\n  directory .\n }\n whoami\n}\n"),
    ("certificate-expires", 2, "tls://. {\n tls soon.pem soon.key\n whoami\n}\n"),
    ("certificate-expired", 2, "tls://. {\n tls late.pem late.key\n whoami\n}\n"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("svcdns.inspection.rules.loops.interfaces", lambda: {"lo": ["127.0.0.1", "::1"]})
    (tmp_path / "resolv.conf").write_text(RESOLV)
    (tmp_path / "broken.db").write_text("@ IN A 192.0.2.1\n")
    now = datetime.datetime.now(datetime.UTC)
    for name, days in (("soon", 5), ("late", -5)):
        certificate = trustme.CA().issue_cert("a.test", not_after=now + datetime.timedelta(days=days))
        (tmp_path / f"{name}.pem").write_bytes(b"".join(one.bytes() for one in certificate.cert_chain_pems))
        (tmp_path / f"{name}.key").write_bytes(certificate.private_key_pem.bytes())
        ends = (now + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%S")
        signature = f"@ IN RRSIG SOA 13 2 60 {ends} 20200101000000 7 a.test. AQID\n"
        (tmp_path / f"{name}.db").write_text(ZONE + signature.replace("@", "a.test."))
    (tmp_path / "zone.db").write_text(ZONE)
    (tmp_path / "db.b.test.signed").symlink_to("late.db")
    shutil.copytree(KEYS, tmp_path / "keys")
    for path in KEYS.glob("Kexample.org.+013+41819.*"):
        for zone in ("a", "b"):
            shutil.copy(path, tmp_path / "keys" / path.name.replace("example.org", f"{zone}.test"))
    return tmp_path


def found(folder: Path, text: str) -> list[tuple[str, int]]:
    path = folder / "Corefile"
    path.write_text(text)
    reading = read(str(path), environ={})
    apply(reading)
    return [(one.rule, one.position.line) for one in reading.problems]


@pytest.mark.parametrize(("rule", "line", "text"), CASES)
def test_the_problem_is_found_at_its_line(folder: Path, rule: str, line: int, text: str) -> None:
    assert (rule, line) in found(folder, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            ".:53 {\n errors\n health {\n  lameduck 5s\n }\n ready\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n"
            "  pods insecure\n  fallthrough in-addr.arpa ip6.arpa\n  ttl 30\n }\n prometheus :9153\n"
            " forward . 192.0.2.1 {\n  max_concurrent 1000\n }\n cache 30 {\n  disable success cluster.local\n"
            "  disable denial cluster.local\n }\n loop\n reload\n loadbalance\n}\n",
            id="kubeadm",
        ),
        pytest.param(
            "a.test:53 {\n prometheus :9153\n ready\n forward . 192.0.2.1\n}\n.:53 {\n prometheus :9153\n ready\n"
            " forward a.test 192.0.2.1\n forward . 192.0.2.2\n}\n",
            id="pages that blocks share, forward rules in order",
        ),
        pytest.param(".:53 {\n forward . 127.0.0.1:5300\n}\n.:5300 {\n forward . 192.0.2.1\n}\n", id="two steps, no loop"),
        pytest.param(
            ". {\n hosts {\n  192.0.2.1 a.test\n  fallthrough\n }\n template IN A {\n  match ^www\\.a\\.test\\.$\n"
            '  answer "{{ .Name }} 60 IN A 192.0.2.1"\n  fallthrough\n }\n whoami\n}\n',
            id="fallthrough",
        ),
        pytest.param(
            "a.test {\n file db.a.test.signed\n sign zone.db {\n  key directory keys\n  directory .\n }\n}\n",
            id="a signed file that is to be made",
        ),
    ],
)  # fmt: skip
def test_right_corefiles_have_no_problem(folder: Path, text: str) -> None:
    assert found(folder, text) == []


def test_an_expired_certificate_is_one_problem(folder: Path) -> None:
    assert found(folder, "tls://. {\n tls late.pem late.key\n whoami\n}\n") == [("certificate-expired", 2)]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (r"^www\.a\.test\.$", True),
        (r"a\.test$", False),
        (r"[a-z]\d$", False),
        (r"(?i)^WWW\.$", True),
        (r"^WWW\.$", False),
        (r"\S+\.a\.test\.", True),
        (r"a$|b\.$", True),
        (r"^(?P<Name>x)\.$", True),
        (r".*", True),
    ],
)
def test_patterns(pattern: str, matches: bool) -> None:
    assert (reason_without_match(pattern) == "") is matches


def test_lines_are_collected_and_the_loggers_stay_as_they_were() -> None:
    import logging

    log = logging.getLogger("svcdns")
    before = log.propagate, list(log.handlers)
    assert logged(lambda: log.warning("text %d", 1)) == [(logging.WARNING, "text 1")]
    assert (log.propagate, list(log.handlers)) == before


@pytest.mark.parametrize(
    ("file", "severity", "cause"),
    [
        pytest.param("absent.db", "warning", "open {0}: No such file or directory", id="missing"),
        pytest.param("broken.db", "error", "{0}: no SOA record for a.test", id="without SOA"),
        pytest.param("syntax.db", "error", "{0}:2:3: unknown type FOO", id="syntax"),
    ],
)
def test_the_server_starts_without_a_zone_file(folder: Path, file: str, severity: str, cause: str) -> None:
    """The report says so, and names the file and its line."""
    (folder / "syntax.db").write_text("@ IN SOA ns root 1 2 3 4 5\n@ FOO bar\n")
    path = folder / "Corefile"
    path.write_text(f"a.test {{\n file {folder}/{file}\n}}\n")
    reading = read(str(path), environ={})
    apply(reading)
    [problem] = reading.problems
    assert (problem.severity, problem.position.line, problem.position.column) == (severity, 2, 7)
    text, _, then = problem.message.partition("; ")
    assert text == cause.format(folder / file)
    assert then.startswith("the server starts, answers queries in a.test. with SERVFAIL, and reads the file again")
    assert report(reading).starts
