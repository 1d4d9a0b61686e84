"""Finds the addresses of the DNS ports in a plain Corefile, in the first milliseconds of a start.

The module reads keys of server blocks, `bind`, and the options of `kubernetes` that decide how long the start takes. If
the Corefile has another line that could matter, for example `import`, the module returns no address. The control
process then finds the addresses (`svcdns.control.early_ports`), a tenth of a second later. Nothing is checked here.

Rule: the module imports only what every interpreter has already loaded (see `svcdns.process.isolated`).
"""

import os
import stat

Address = tuple[str, int, str]
"""Host (empty for all), port, and `udp` or `tcp`."""
DEFAULT_FILE = "Corefile"
MAX_SIZE = 1 << 20
_PROTOCOLS = {"dns": ("udp", "tcp"), "tls": ("tcp",)}
_DEFAULT_TLS_PORT = 853
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*/")
"""The characters of a zone name or a network that need no further look."""
_WITH_VALUE = ("conf", "dns.port", "p", "pidfile", "state")
_WITHOUT_VALUE = ("pin", "quiet")


class _UnclearError(Exception):
    """Raised if the Corefile has something that this module does not understand."""


def of_command_line(arguments: list[str]) -> list[Address]:
    """Returns the addresses of the DNS ports of a server that is started with these arguments.

    Returns an empty list if the addresses are unclear, and for a command that starts no server.
    """
    options = _options(arguments[1:] if arguments[:1] == ["serve"] else arguments)
    if options is None:
        return []
    path, port = options
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - pathlib is not loaded yet
            return []
        with open(path, "rb") as file:
            content = file.read(MAX_SIZE + 1)
    except (OSError, ValueError):
        return []
    return of_text(content, port) if len(content) <= MAX_SIZE else []


def _options(arguments: list[str]) -> tuple[str, int] | None:
    """Returns the path of the Corefile and the default port.

    Returns None if an argument is not an option of a start.
    """
    path, port = DEFAULT_FILE, "53"
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = name.removeprefix("-").removeprefix("-") if name.startswith("-") else ""
        if name in _WITHOUT_VALUE and not equals:
            continue
        if name not in _WITH_VALUE or not (equals or rest):
            return None
        value = value if equals else rest.pop(0)
        if not value or value.startswith("-"):
            return None
        if name == "conf":
            path = value
        elif name in ("dns.port", "p"):
            port = value
    return (path, int(port)) if _is_port(port) and path != "stdin" else None


def of_text(content: bytes, default_port: int) -> list[Address]:
    """Returns the addresses of all server blocks in the text of a Corefile.

    Returns an empty list if anything is unclear.
    """
    try:
        return _Reader(default_port).run(content.decode("ascii", "replace"))
    except _UnclearError:
        return []


class _Reader:
    def __init__(self, default_port: int) -> None:
        self._port = default_port
        self._keys: list[tuple[int, str]] = []
        """Port and transport of each key of the present block."""
        self._hosts: list[str] = []
        self._cluster: dict[str, list[str]] | None = None
        """The options of the present directive `kubernetes`."""
        self._depth = 0

    def run(self, text: str) -> list[Address]:
        out: dict[Address, None] = {}
        for line in text.split("\n"):
            words = _words(line)
            if not words:
                continue
            if words == ["}"]:
                self._end()
                if not self._depth:
                    out |= {
                        (host, port, protocol): None
                        for port, transport in self._keys
                        for host in self._hosts or [""]
                        for protocol in _PROTOCOLS[transport]
                    }
                continue
            opens = words[-1] == "{"
            self._line(words[:-1] if opens else words, opens=opens)
            self._depth += opens
        if self._depth:
            raise _UnclearError
        return list(out)

    def _line(self, words: list[str], *, opens: bool) -> None:
        if not words or words[0] == "import" or any(_has_brace_at_end(word) for word in words):
            raise _UnclearError
        if self._depth == 0:
            if not opens:
                raise _UnclearError
            self._keys = [self._key(key) for word in words for key in word.split(",") if key]
            self._hosts = []
            if not self._keys:
                raise _UnclearError
        elif self._depth == 1:
            self._directive(words, opens=opens)
        elif self._depth == 2 and self._cluster is not None:
            if "{" in words[0]:
                raise _UnclearError
            self._cluster.setdefault(words[0], words[1:])

    def _key(self, word: str) -> tuple[int, str]:
        scheme, separator, rest = word.rpartition("://")
        transport = scheme.lower() if separator else "dns"
        zone, colon, port = rest.partition(":")
        if transport not in _PROTOCOLS or not zone or not _LETTERS.issuperset(zone) or (colon and not _is_port(port)):
            raise _UnclearError
        return int(port) if colon else self._port if transport == "dns" else _DEFAULT_TLS_PORT, transport

    def _directive(self, words: list[str], *, opens: bool) -> None:
        if "{" in words[0]:
            raise _UnclearError
        if words[0] == "bind":
            if opens or len(words) == 1 or not all(map(_is_address, words[1:])):
                raise _UnclearError
            self._hosts += words[1:]
        elif words[0] == "kubernetes":
            self._cluster = {}
            if not opens:
                self._check_cluster()

    def _end(self) -> None:
        self._depth -= 1
        if self._depth < 0:
            raise _UnclearError
        if self._depth == 1:
            self._check_cluster()

    def _check_cluster(self) -> None:
        """Raises _UnclearError if the start must wait for lists from an API server.

        A start with manifests does not wait, and neither does a start with a snapshot.
        """
        options, self._cluster = self._cluster, None
        if options is None:
            return
        for name in ("manifests", "snapshot"):
            if value := os.environ.get(f"SVCDNS_{name.upper()}"):
                options.setdefault(name, value.split())
        if "manifests" not in options and not _has_files(*options.get("snapshot", [])[:1]):
            raise _UnclearError


def _words(line: str) -> list[str]:
    """Returns the words of a line, without a comment. A word in quotes is replaced by `?`."""
    line = line.replace("\t", " ").rstrip("\r")
    if line.lstrip(" ").startswith("#"):
        return []
    if '"' in line:
        line = _without_quotes(line)
    before, comment, _ = line.partition("#")
    if (comment and not before.endswith(" ")) or not before.isascii() or not before.isprintable():
        raise _UnclearError
    words = before.split()
    if words != ["}"] and any(word in ("{", "}") for word in words[:-1] + words[-1:] * (words[-1:] == ["}"])):
        raise _UnclearError
    return words


def _without_quotes(line: str) -> str:
    parts = line.split('"')
    outside = parts[::2]
    if len(parts) % 2 == 0 or "\\" in line or any("#" in part for part in outside[:-1]):
        raise _UnclearError
    if not all(part.endswith(" ") for part in outside[:-1]) or not all(part[:1] in ("", " ") for part in outside[1:]):
        raise _UnclearError
    return "?".join(outside)


def _has_brace_at_end(word: str) -> bool:
    return word.endswith("{") or word == "?{"


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text[:6]) < 65536


def _is_address(word: str) -> bool:
    """Returns True if a word is an IP address. Returns False for the name of an interface."""
    parts = word.split(".")
    if len(parts) == 4:
        return all(part.isdecimal() and len(part) <= 3 and int(part) < 256 and str(int(part)) == part for part in parts)
    return word.count(":") >= 2 and all(character in "0123456789abcdefABCDEF:" for character in word)


def _has_files(folder: str = "") -> bool:
    """Returns True if the folder has a file. Returns False for a relative path."""
    try:
        return os.path.isabs(folder) and bool(os.listdir(folder))  # noqa: PTH117, PTH208 - as above
    except OSError:
        return False
