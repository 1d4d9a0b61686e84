"""Binds the DNS ports in the first milliseconds of a start. Queries wait in the sockets until the workers read them.

If the program restarts itself in an isolated interpreter, an environment variable passes the sockets on. Rule: the
module imports only modules that every interpreter has already loaded, and extension modules of the standard library.
"""

import _socket
import errno
import os
import sys

Address = tuple[str, int, str]
"""Host (empty for all addresses), port, and `udp` or `tcp`."""
EarlySocket = tuple[str, int, str, int, int]
"""The host, the port and `udp` or `tcp` of an address, the address family (4 or 6), and the descriptor."""
VARIABLE = "SVCDNS_EARLY_SOCKETS"
RECEIVE_BUFFER = 4 << 20
"""Octets of receive buffer to request.

The kernel's default holds 256 small packets, which is 13 ms at 20,000 queries a second.
"""
BACKLOG = 1024
SO_RCVBUFFORCE = 33
MTU_DISCOVER = {_socket.AF_INET: (_socket.IPPROTO_IP, 10), _socket.AF_INET6: (_socket.IPPROTO_IPV6, 23)}
"""Level and number of Linux's options IP_MTU_DISCOVER and IPV6_MTU_DISCOVER, by address family."""
PMTUDISC_OMIT = 5
IP_PKTINFO = getattr(_socket, "IP_PKTINFO", 8)
IPV6_RECVPKTINFO = getattr(_socket, "IPV6_RECVPKTINFO", 49)


def bind(addresses: list[Address]) -> list[EarlySocket]:
    """Binds a socket to each address, or two sockets if the host is empty, and returns the sockets.

    If an address cannot be bound, closes all sockets and returns an empty list.
    """
    out: list[EarlySocket] = []
    opened: list[_socket.socket] = []
    if any(map(is_taken, addresses)):
        return []
    try:
        for host, port, protocol in addresses:
            for family, bound in families(host):
                sock = _socket.socket(family, _socket.SOCK_DGRAM if protocol == "udp" else _socket.SOCK_STREAM)
                opened.append(sock)
                open_port(sock, (bound, port), wildcard=not host)
                out.append((host, port, protocol, 6 if family == _socket.AF_INET6 else 4, sock.fileno()))
    except OSError:
        for sock in opened:
            sock.close()
        return []
    for sock in opened:
        sock.detach()
    return out


def leave(sockets: list[EarlySocket]) -> None:
    """Passes the sockets on to the program that this process executes next (execve(2))."""
    for *_, descriptor in sockets:
        os.set_inheritable(descriptor, True)
    os.environ[VARIABLE] = " ".join(f"{os.getpid()}/{'/'.join(map(str, fields))}" for fields in sockets)


def received() -> list[EarlySocket]:
    """Returns the sockets that the previous program in this process has passed on."""
    out: list[EarlySocket] = []
    try:
        for text in os.environ.pop(VARIABLE, "").split():
            pid, host, port, protocol, family, descriptor = text.split("/")
            if int(pid) != os.getpid():
                return []
            os.set_inheritable(int(descriptor), False)
            out.append((host, int(port), protocol, int(family), int(descriptor)))
    except (OSError, ValueError):  # the variable does not come from this program
        return []
    return out


def families(host: str) -> list[tuple[int, str]]:
    """Returns the address families and the addresses to bind for a host. An empty host means all addresses."""
    if not host:
        return [(_socket.AF_INET, "0.0.0.0"), (_socket.AF_INET6, "::")]
    return [(_socket.AF_INET6 if ":" in host else _socket.AF_INET, host)]


def is_taken(address: Address) -> bool:
    """Returns True if the address is a UDP port to which a socket is bound, also if that socket has SO_REUSEPORT."""
    host, port, protocol = address
    if protocol != "udp" or not port:
        return False
    family, bound = families(host)[0]
    probe = None
    try:
        probe = _socket.socket(family, _socket.SOCK_DGRAM)
        probe.bind((bound, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    finally:
        if probe is not None:
            probe.close()
    return False


def open_port(sock: _socket.socket, target: "_socket._Address", *, wildcard: bool) -> None:
    """Sets the options of a listening socket, and binds it to the socket address `target`. Raises OSError.

    `wildcard` is True if the socket gets the packets to all addresses of this machine.
    """
    _prepare(sock, wildcard=wildcard)
    sock.bind(target)
    if sock.type == _socket.SOCK_STREAM:
        sock.listen(BACKLOG)


def _prepare(sock: _socket.socket, *, wildcard: bool) -> None:
    sock.setblocking(False)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
    if sock.type == _socket.SOCK_STREAM:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    if sock.family == _socket.AF_INET6:
        sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
    if sock.type == _socket.SOCK_DGRAM:
        _ignore_path_mtu(sock)
        try:
            sock.setsockopt(_socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except OSError:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, RECEIVE_BUFFER)
        if wildcard and sock.family == _socket.AF_INET:
            sock.setsockopt(_socket.IPPROTO_IP, IP_PKTINFO, 1)
        elif wildcard:
            sock.setsockopt(_socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


def _ignore_path_mtu(sock: _socket.socket) -> None:
    """Has the kernel ignore the path MTU in ICMP messages, which anybody can forge to have replies fragmented.

    Only Linux has this option.
    """
    if sys.platform == "linux":
        level, option = MTU_DISCOVER[sock.family]
        try:
            sock.setsockopt(level, option, PMTUDISC_OMIT)
        except OSError:  # old kernels do not have the option
            return
