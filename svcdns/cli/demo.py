"""`svcdns demo`: serves Corefile.example, sends a few queries over UDP, and serves until Ctrl-C.

The files are those of the working directory, if `Corefile.example` is there, or else a copy from the package. If the
machine has no resolver, the demo does not forward queries. A port that another program uses is replaced by a free one.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from svcdns.process import isolated
from svcdns.wire import names, tool_messages
from svcdns.wire.codes import RD, Class, Type, rcode_text, type_text
from svcdns.wire.errors import FormError
from svcdns.wire.tool_messages import Question

COREFILE: Final = "Corefile.example"
RESOLV_CONF: Final = "/etc/resolv.conf"
START_TIMEOUT: Final = 60.0
"""Seconds within which the server has to answer the first query."""
TIMEOUT: Final = 3.0
PORT_TRIES: Final = 20
"""So many ports are tried until one is free for both UDP and TCP."""

QUERIES: Final = (
    ("ClusterIP", "nginx.default.svc.cluster.local.", Type.A),
    ("its named port", "_http._tcp.nginx.default.svc.cluster.local.", Type.SRV),
    ("NodePort", "nginx-nodeport.default.svc.cluster.local.", Type.A),
    ("LoadBalancer", "my-web-service.default.svc.cluster.local.", Type.A),
    ("ExternalName", "shop.default.svc.cluster.local.", Type.A),
    ("headless", "db.default.svc.cluster.local.", Type.A),
    ("a Pod of it", "db-0.db.default.svc.cluster.local.", Type.A),
    ("reverse", "1.0.96.10.in-addr.arpa.", Type.PTR),
    ("static zone", "www.example.test.", Type.A),
    ("no such name", "nothing.default.svc.cluster.local.", Type.A),
)
FORWARDED: Final = ("forwarded", "example.com.", Type.A)

FILES: Final = Path(__file__).parent / "demo_files"
"""`Corefile.example` and the files that it names. The project's folder has symbolic links to them."""

_PAGE: Final = re.compile(r"^(\s*)(health|ready|prometheus)(\s+)([\d.]+):(\d+)", re.MULTILINE)
_SERVER: Final = re.compile(r"^(\S*:)(\d+)(\s*\{)", re.MULTILINE)


def run(argv: Sequence[str]) -> int:
    """Runs the demo, and returns the exit code: 0 after Ctrl-C."""
    if argv:
        asked = argv[0] in ("-h", "-help", "--help")
        (sys.stdout if asked else sys.stderr).write("usage: svcdns demo   (it takes no arguments)\n")
        return 0 if asked else 2
    with tempfile.TemporaryDirectory(prefix="svcdns-demo-") as temporary:
        folder = _folder(Path(temporary))
        try:
            corefile, resolver = _corefile(folder, Path(temporary))
        except OSError as error:
            sys.stderr.write(f"svcdns demo: {error.filename}: {error.strerror}\n")
            return 1
        # Without a process group of its own the server would get Ctrl-C twice: from the terminal and from the demo.
        server = subprocess.Popen(
            isolated.command("svcdns", "serve", "-conf", str(corefile.absolute())), cwd=folder, process_group=0
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(
                number, lambda caught, _frame: server.send_signal(signal.SIGTERM if caught == signal.SIGHUP else caught)
            )
        return _wait_for_exit(server, folder, _address(corefile.read_text(encoding="utf-8")), resolver=resolver)


def _folder(temporary: Path) -> Path:
    """Returns the folder with the files to serve: the working directory, or a copy of the package's files in
    `temporary`.
    """
    if Path(COREFILE).exists():
        return Path()
    copy = temporary / "files"
    shutil.copytree(FILES, copy)
    return copy


def _wait_for_exit(server: subprocess.Popen[bytes], folder: Path, address: tuple[str, int], *, resolver: bool) -> int:
    if not _wait_until_serving(server, address):
        if server.poll() is None:
            sys.stderr.write(f"svcdns demo: the server does not answer within {START_TIMEOUT:g} s\n")
            server.terminate()
        return server.wait() or 1
    _show(address, folder, resolver=resolver)
    while True:
        code = server.poll()
        if code is not None:
            return code
        time.sleep(0.2)


def _corefile(folder: Path, temporary: Path) -> tuple[Path, bool]:
    """Returns the path of the Corefile to serve, and True if it forwards queries.

    If the Corefile in `folder` cannot be served unchanged, a changed copy is written to `temporary`.
    """
    path = folder / COREFILE
    written = path.read_text(encoding="utf-8")
    text, resolver = _SERVER.sub(_server_on_free_port, _PAGE.sub(_page_on_free_port, written)), _has_resolver()
    if not resolver:
        text = re.sub(r"^\s*(forward\b|loop\b).*\n", "", text, flags=re.MULTILINE)
        sys.stdout.write(f"There is no resolver in {RESOLV_CONF}: the demo serves everything but forwarding.\n")
    sys.stdout.flush()
    if text == written:
        return path, resolver
    local = temporary / "Corefile"
    local.write_text(text, encoding="utf-8")
    return local, resolver


def _page_on_free_port(line: re.Match[str]) -> str:
    """Returns the matched text of a Corefile. If another program uses the port of the HTTP page, replaces it by a free
    port.

    `line` matches the directive and the address of the page.
    """
    indent, plugin, gap, host, port = line.groups()
    return f"{indent}{plugin}{gap}{host}:{_free_port(plugin, host, int(port), socket.SOCK_STREAM)}"


def _server_on_free_port(line: re.Match[str]) -> str:
    """Returns the first line of a server block. If another program uses its port, replaces it by a free port."""
    key, port, brace = line.groups()
    return f"{key}{_free_port('DNS', '127.0.0.1', int(port), socket.SOCK_STREAM, socket.SOCK_DGRAM)}{brace}"


def _free_port(what: str, host: str, port: int, *kinds: int) -> int:
    """Returns `port`. If another program uses `port`, prints a line and returns a free port.

    The port must be free for all kinds of sockets in `kinds`.
    """
    if all(_is_free(host, port, kind) for kind in kinds):
        return port
    for _ in range(PORT_TRIES):
        with socket.socket(socket.AF_INET, kinds[0]) as probe:
            probe.bind((host, 0))
            free = int(probe.getsockname()[1])
        if all(_is_free(host, free, kind) for kind in kinds):
            break
    sys.stdout.write(f"Port {port} of {what} is taken: the demo uses port {free}.\n")
    return free


def _is_free(host: str, port: int, kind: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _has_resolver() -> bool:
    try:
        return bool(re.search(r"^\s*nameserver\s+\S+", Path(RESOLV_CONF).read_text(encoding="utf-8"), re.MULTILINE))
    except OSError:
        return False


def _address(corefile: str) -> tuple[str, int]:
    """Returns address and port of the first server block."""
    port = re.search(r"^\S*:(\d+)\s*\{", corefile, re.MULTILINE)
    host = re.search(r"^\s*bind\s+(\S+)", corefile, re.MULTILINE)
    return (host[1] if host else "127.0.0.1"), (int(port[1]) if port else 53)


def _wait_until_serving(server: subprocess.Popen[bytes], address: tuple[str, int]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        if query(address, "cluster.local.", Type.SOA, 0.2) is not None:
            return True
        time.sleep(0.05)
    return False


def _show(address: tuple[str, int], folder: Path, *, resolver: bool) -> None:
    lines = ["", "Some queries and their answers:"]
    for what, name, rtype in (*QUERIES, *((FORWARDED,) if resolver else ())):
        lines += [f"\n; {what}: {name} {type_text(rtype)}", *_answer_lines(query(address, name, rtype, TIMEOUT))]
    host, port = address
    lines += [
        "\nThe server goes on; Ctrl-C ends it. In another terminal:",
        f"    dig @{host} -p {port} nginx.default.svc.cluster.local",
        f"    dig @{host} -p {port} db.default.svc.cluster.local",
        f"    dig @{host} -p {port} SRV _http._tcp.nginx.default.svc.cluster.local",
        f"    dig @{host} -p {port} -x 10.96.0.1",
        f"Edit {folder / 'zones' / 'cluster.yaml'} (lower `replicas` of the StatefulSet) and query again: the answer follows at once.",
        "",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def query(address: tuple[str, int], name: str, rtype: int, timeout: float) -> bytes | None:
    """Sends a query over UDP, and returns the octets of the reply.

    Returns None if there is none within `timeout` seconds.
    """
    packet = tool_messages.query(0x5344, RD, [Question(names.from_text(name), rtype, Class.IN)])
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(address)
            sock.send(packet)
            return sock.recv(65535)
        except OSError:
            return None


def _answer_lines(reply: bytes | None) -> list[str]:
    if reply is None:
        return ["  (no answer)"]
    try:
        rcode, records = tool_messages.answer(reply)
    except FormError as error:
        return [f"  (a reply that cannot be read: {error})"]
    return [f"  {record}" for record in records] or [f"  {rcode_text(rcode)}, no records"]
