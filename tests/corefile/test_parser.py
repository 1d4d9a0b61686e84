"""The Corefile language (docs/behaviour/corefile.md), and the errors of malformed Corefiles."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.corefile.blocks import Corefile, Directive
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import MAX_NESTING, parse

KUBEADM = """
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def read(text: str, **environ: str) -> Corefile:
    return parse(text, "Corefile", environ=environ)


def words(directive: Directive) -> list[object]:
    """Returns a directive as nested lists of words."""
    head: list[object] = [directive.name.text, *(word.text for word in directive.arguments)]
    return head if directive.body is None else [*head, [words(line) for line in directive.body]]


def directives(text: str, **environ: str) -> list[list[object]]:
    return [words(directive) for directive in read(text, **environ).blocks[0].directives]


def test_reads_the_corefile_of_kubeadm() -> None:
    corefile = read(KUBEADM)
    assert [(key.transport, key.zone, key.port) for key in corefile.blocks[0].keys] == [("dns", ".", 53)]
    found = directives(KUBEADM)
    assert [line[0] for line in found] == [
        "errors", "health", "ready", "kubernetes", "prometheus", "forward", "cache", "loop", "reload", "loadbalance",
    ]  # fmt: skip
    assert found[1] == ["health", [["lameduck", "5s"]]]
    assert found[6] == [
        "cache",
        "30",
        [["disable", "success", "cluster.local"], ["disable", "denial", "cluster.local"]],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('. {\n log "a b" c\n}', [["log", "a b", "c"]], id="quotes"),
        pytest.param('. {\n log "a \\"b\\" \\n"\n}', [["log", 'a "b" \\n']], id="only an escaped quote is an escape"),
        pytest.param('. {\n log a"b\n}', [["log", 'a"b']], id="a quote inside a word is literal"),
        pytest.param('. {\n log "a\nb" c\n}', [["log", "a\nb", "c"]], id="a quoted line end stays on its line"),
        pytest.param('. {\n log ""\n}', [["log", ""]], id="empty word"),
        pytest.param(". {\n log a#b c\n}", [["log", "a", "c"]], id="a comment inside a word ends at a space"),
        pytest.param(". {\n log a # b c\n}", [["log", "a"]], id="a comment ends with the line"),
        pytest.param(". {\n lo\rg a\r\n}\r\n", [["log", "a"]], id="carriage returns"),
        pytest.param('. {\n log "a\\\\" b\n}', [["log", "a\\\\", "b"]], id="an escaped backslash before a quote"),
        pytest.param('. {\n log "a\\"b"\n}', [["log", 'a"b']], id="an escaped quote"),
        pytest.param('. {\n log\n}\n"', [["log"]], id="a quote at the end"),
        pytest.param('.\nlog "a b', [["log", "a b"]], id="a quote without its end"),
        pytest.param('. "{"\n log\n"}"', [["log"]], id="quoted braces are braces"),
        pytest.param("\ufeff. {\r\n log\r\n}\r\n", [["log"]], id="byte-order mark and carriage returns"),
        pytest.param(".\nlog\nerrors", [["log"], ["errors"]], id="one block without braces"),
        pytest.param(".\n{\n log\n}", [["log"]], id="brace on the next line"),
        pytest.param(". {\n a {\n b {\n c\n }\n }\n}", [["a", [["b", [["c"]]]]]], id="nested braces"),
        pytest.param(
            "(s) {\n log\n errors\n}\n. {\n import s\n whoami\n}", [["log"], ["errors"], ["whoami"]], id="snippet"
        ),
        pytest.param(
            "(s) {\n a {args[0]} {args[1]}\n}\n. {\n import s x y\n}", [["a", "x", "y"]], id="snippet with arguments"
        ),
        pytest.param("(s) {\n b\n}\n. {\n a {\n import s\n }\n}", [["a", [["b"]]]], id="import in a body"),
    ],
)
def test_reads(text: str, expected: list[object]) -> None:
    """Quotes, comments, braces and line ends have the same meaning as in CoreDNS."""
    assert directives(text) == expected


def test_environment_variables() -> None:
    """An unset variable is replaced by an empty text. `{$}` is not a variable."""
    text = "{$ZONE}:{%PORT%} {\n log x{$A}y {$NONE} {$} {%%} {$SPACED}\n}"
    corefile = read(text, ZONE="example.org", PORT="5300", A="1", SPACED="a b")
    assert [(key.zone, key.port) for key in corefile.blocks[0].keys] == [("example.org.", 5300)]
    assert words(corefile.blocks[0].directives[0]) == ["log", "x1y", "", "{$}", "{%%}", "a b"]


def test_keys_are_separated_by_spaces_and_commas() -> None:
    keys = read("a.org, b.org:54,\nc.org dns://d.org {\n}").blocks[0].keys
    assert [(key.zone, key.port) for key in keys] == [("a.org.", 53), ("b.org.", 54), ("c.org.", 53), ("d.org.", 53)]


def test_imports_files_and_globs(tmp_path: Path) -> None:
    """Paths are relative to the importing file. A pattern without a match causes a warning."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.conf").write_text("log\n")
    (tmp_path / "parts" / "b.conf").write_text("import deeper.inc\n")
    (tmp_path / "parts" / "deeper.inc").write_text("\n errors\n")
    path = str(tmp_path / "Corefile")
    corefile = parse(". {\n import parts/*.conf\n import nothing*\n}\n", path, environ={})
    assert [words(d) for d in corefile.blocks[0].directives] == [["log"], ["errors"]]
    place = corefile.blocks[0].directives[1].position
    assert (place.file, place.line, place.column) == (str(tmp_path / "parts" / "deeper.inc"), 2, 2)
    assert corefile.warnings == ("No files matching import glob pattern: nothing*",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            ". {\n log\n",
            "Corefile:2:2 - Error during parsing: the '{' at line 1 has no end; a line with '}' was expected here",
            id="open",
        ),
        pytest.param(
            ". {\n log\n}\n}\na. {\n log\n}\n",
            "Corefile:4:1 - Error during parsing: '}' without a '{' before it",
            id="close once too often in the middle",
        ),
        pytest.param(
            ". {\n log }\n",
            "Corefile:2:6 - Error during parsing: '}' behind a directive; a line of its own was expected",
            id="close behind a directive",
        ),
        pytest.param(
            ". {\n errors { } }\n",
            "Corefile:2:13 - Error during parsing: '}' behind '}'; a line of its own was expected",
            id="close behind an option block",
        ),
        pytest.param(
            ". {\n errors {\n stacktrace\n",
            "Corefile:3:2 - Error during parsing: the '{' at line 2 has no end; a line with '}' was expected here",
            id="open option block",
        ),
        pytest.param(
            ". {\n a {\n } b\n}",
            "Corefile:3:4 - Error during parsing: 'b' behind '}'; a line of its own was expected",
            id="behind brace",
        ),
        pytest.param(
            '. {\n log "x\n}',
            'Corefile:2:6 - Error during parsing: quote without its end; a closing " was expected',
            id="quote",
        ),
        pytest.param(
            "a, {\n}",
            "Corefile:1:4 - Error during parsing: another zone was expected behind the comma, found '{'",
            id="comma",
        ),
        pytest.param(
            "a,",
            "Corefile:1:1 - Error during parsing: another zone was expected behind the comma, found the end of the file",
            id="comma end",
        ),
        pytest.param("{\n}", "Corefile:1:1 - Error during parsing: a zone was expected before '{'", id="no key"),
        pytest.param(
            "a:65536 {\n}",
            "Corefile:1:1 - Error during parsing: '65536' is not a port; a number up to 65535 was expected",
            id="port",
        ),
        pytest.param(
            '. {\n f "x\n}\n',
            'Corefile:2:4 - Error during parsing: quote without its end; a closing " was expected',
            id="a quote that takes the end of the block",
        ),
        pytest.param(
            "a: {\n}", "Corefile:1:1 - Error during parsing: expecting data after last colon: 'a:'", id="empty port"
        ),
        pytest.param(
            "a..b {\n}",
            "Corefile:1:1 - Error during parsing: 'a..b' is not a domain name: label of 0 octets; 1 to 63 are allowed",
            id="name",
        ),
        pytest.param(
            "(s) {\n import s\n}\n. {\n import s\n}",
            "Corefile:2:9 - Error during parsing: snippet 's' imports itself",
            id="self import",
        ),
        pytest.param(
            "(s) {\n}\n(s) {\n}",
            "Corefile:3:1 - Error during parsing: snippet 's' is defined already; each name may be defined once",
            id="twice defined",
        ),
        pytest.param(
            ". {\n import nofile\n}",
            "Corefile:2:9 - Error during parsing: File to import not found: nofile",
            id="no file",
        ),
        pytest.param(
            ". {\n import\n}",
            "Corefile:2:2 - Error during parsing: Wrong argument count or unexpected line ending after 'import'; "
            "a snippet or file was expected",
            id="import nothing",
        ),
        pytest.param(
            ". {\n import a*b*c\n}",
            "Corefile:2:9 - Error during parsing: import pattern 'a*b*c'; at most one '*' and one '?', and no brackets, are allowed",
            id="two stars",
        ),
    ],
)
def test_bad_files_get_one_line(text: str, line: str) -> None:
    """An error has file, line and column, the text found and the text expected."""
    with pytest.raises(CorefileError) as caught:
        read(text)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(". {\n errors { }\n}", [["errors", []]], id="empty option block"),
        pytest.param(". {\n f . x { a 2 }\n}", [["f", ".", "x", [["a", "2"]]]], id="option block on one line"),
        pytest.param(". {\n f { a 3\n b 5s\n }\n}", [["f", [["a", "3"], ["b", "5s"]]]], id="option behind the brace"),
        pytest.param(". {\n f {\n a 3\n b 5s }\n}", [["f", [["a", "3"], ["b", "5s"]]]], id="brace behind an option"),
        pytest.param(". { f\n g\n}", [["f"], ["g"]], id="directive behind the brace"),
        pytest.param(". { f {\n a\n }\n}", [["f", [["a"]]]], id="option block behind the brace"),
        pytest.param(".\n{ f\n}", [["f"]], id="brace on the next line with a directive"),
        pytest.param(". { }", [], id="empty server block"),
        pytest.param(". { import s\n}", None, id="import behind the brace"),
        pytest.param("(s) { f { a 1 } }\n. {\n import s\n}", [["f", [["a", "1"]]]], id="snippet on one line"),
        pytest.param('. {\n f "{" "}"\n}', [["f", []]], id="quoted braces are braces"),
    ],
)
def test_braces_stand_where_coredns_takes_them(text: str, expected: list[object] | None) -> None:
    snippet = "" if expected is not None else "(s) {\n f\n}\n"
    assert directives(snippet + text) == (expected if expected is not None else [["f"]])


def test_a_block_may_begin_on_the_line_where_another_ends() -> None:
    assert [block.keys[0].zone for block in read("a {\n f\n} b {\n g\n}").blocks] == ["a.", "b."]


@pytest.mark.parametrize(
    ("text", "zones", "warnings"),
    [
        pytest.param("a {\n f\n}\n}", ["a."], ["Corefile:4:1 - '}' without a '{' before it is ignored"], id="stray"),
        pytest.param(
            "a b{\n f\n}",
            ["a."],
            ["Corefile:1:3 - the '{' of 'b{' belongs to the name; a space was expected before it"],
            id="attached to a key",
        ),
        pytest.param(
            "a {\n f {\n }\n",
            ["a."],
            ["Corefile:1:3 - '{' without its end; the server block ends with the file"],
            id="last brace missing",
        ),
        pytest.param(
            "a\n f\n}\n", ["a."], ["Corefile:3:1 - '}' without a '{' before it ends the server block"], id="no opening"
        ),
        pytest.param(
            "foo://a {\n}",
            ["foo://a."],
            [
                "Corefile:1:1 - 'foo://' is no scheme that svcdns or CoreDNS has, so it belongs to the name",
                'Warning: Domain "foo://a." does not follow RFC1035 preferred syntax',
            ],
            id="scheme",
        ),
        pytest.param(
            "a:x {\n}",
            ["a:x."],
            [
                "Corefile:1:1 - 'x' is not a port, so it belongs to the name; a number was expected",
                'Warning: Domain "a:x." does not follow RFC1035 preferred syntax',
            ],
            id="port",
        ),
        pytest.param(
            "a,b {\n}",
            ["a.", "b."],
            ["Corefile:1:1 - 'a,b' has several zones; for CoreDNS it is one, as a space was expected after ','"],
            id="zones without a space between them",
        ),
        pytest.param(
            "a {\n f x#y z\n}",
            ["a."],
            ["Corefile:2:5 - a comment inside a word ends at the next space; a space was expected before '#'"],
            id="comment inside a word",
        ),
        pytest.param(
            "(s) {\n f {args[0]}\n}\na {\n import s\n}",
            ["a."],
            ["Corefile:2:4 - snippet 's' is imported without arguments, '{args[0]}' stays as it is"],
            id="no arguments for a snippet",
        ),
        pytest.param(
            'a {\n f\n}\n"', ["a."], ["Corefile:4:1 - quote without its end; the word ends with the file"], id="quote"
        ),
        pytest.param(
            "a {\n f\n}\n{$UNSET} {\n g\n}",
            ["a."],
            ["Corefile:4:1 - the environment leaves no zone, the server block is not served"],
            id="no zone",
        ),
    ],
)
def test_what_coredns_misreads_is_a_warning(text: str, zones: list[str], warnings: list[str]) -> None:
    """svcdns warns about text that CoreDNS misreads, and reads the rest of the Corefile."""
    corefile = read(text)
    assert [key.zone for block in corefile.blocks for key in block.keys] == zones
    assert list(corefile.warnings) == warnings


@pytest.mark.parametrize("depth", [MAX_NESTING, 5000])
def test_nesting_limit(depth: int) -> None:
    at_most = ". {\n" + "x {\n" * (MAX_NESTING - 1) + "}\n" * MAX_NESTING
    assert len(read(at_most).blocks) == 1
    with pytest.raises(
        CorefileError, match=rf"^Corefile:{MAX_NESTING + 1}:3 - .*: blocks nested more than {MAX_NESTING} deep$"
    ):
        read(". {\n" + "x {\n" * depth + "}\n" * (depth + 1))


def test_import_limit() -> None:
    """Snippets that import each other would multiply without end."""
    bomb = (
        "(s0) {\n log\n}\n"
        + "".join(f"(s{n}) {{\n" + f" import s{n - 1}\n" * 10 + "}\n" for n in range(1, 6))
        + ". {\n import s5\n}"
    )
    with pytest.raises(CorefileError, match="maximum snippet import depth"):
        read(bomb)


def test_the_digest_covers_contents_and_positions() -> None:
    """docs/behaviour/corefile.md#what-a-reload-compares has the rule."""
    base = read(". {\n log {$A}\n}", A="1").digest
    assert read(". {\n log {$A} # comment\n}", A="1").digest == base
    assert read(". {\n log {$A}\n}", A="2").digest != base
    assert read("\n. {\n log {$A}\n}", A="1").digest != base


def test_a_corefile_survives_msgpack() -> None:
    """Control sends its parsed Corefile to the workers."""
    corefile = read(KUBEADM)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(corefile), type=Corefile) == corefile


@given(st.text(alphabet='. {}\n\t"#ab:/\\$%,()import*', max_size=60))
def test_any_text_parses_or_is_a_corefile_error(text: str) -> None:
    with contextlib.suppress(CorefileError):
        assert read(text).digest


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        pytest.param("{$A}", {"A": "{$B}", "B": "x"}, "x", id="a value with a variable"),
        pytest.param("{%A%}", {"A": "{$B}", "B": "x"}, "x", id="a value with a variable of the other form"),
        pytest.param("{$A:default}", {"A": "x"}, "", id="no defaults"),
        pytest.param("a{$A}b{$A}c", {"A": "x"}, "axbxc", id="inside a word"),
        pytest.param("{$}{$A}", {"A": "x"}, "{$}{$A}", id="a variable without a name ends the replacement"),
        pytest.param("{$A", {"A": "x"}, "{$A", id="no end"),
        pytest.param("{%A}B%}", {"A}B": "x"}, "x", id="a brace in the name"),
        pytest.param("{$A}", {"A": "{$A}"}, "{$A}", id="a value with its own variable"),
    ],
)
def test_variables_are_replaced_as_coredns_replaces_them(text: str, environ: dict[str, str], value: str) -> None:
    """A value may contain another variable, which is replaced too."""
    assert directives(f'. {{\n f "{text}"\n}}', **environ) == [["f", value]]


def test_a_pattern_finds_hidden_files(tmp_path: Path) -> None:
    """As in Go, `*` matches hidden files. Hidden folders, which a mounted ConfigMap has, are not searched."""
    (tmp_path / "d" / "..data").mkdir(parents=True)
    (tmp_path / "d" / ".a").write_text("f")
    (tmp_path / "d" / "b").write_text("g")
    (tmp_path / "x]y").write_text("h")
    found = parse(". {\n import d/*\n import x]y\n}", str(tmp_path / "Corefile"), environ={})
    assert [words(line) for line in found.blocks[0].directives] == [["f"], ["g"], ["h"]]
