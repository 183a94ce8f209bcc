"""Listening sockets, and why an address cannot be had."""

from __future__ import annotations

import errno
import socket

from .errors import StartupError

_REASONS = {
    errno.EADDRINUSE: "the address is in use. Stop the program that has it, or choose another port (--port, or the "
    "setting port; 0 takes a free one).",
    errno.EACCES: "the system does not permit it; ports below 1024 need privileges. Choose a higher port (--port).",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address. Correct the setting host (--host).",
}


def listen(ingress: str, host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listening TCP sockets, one per address of `host`; as `Process.listen`.

    Raises:
        StartupError: the address cannot be taken; the message says why and what to do.
    """
    try:
        return _open(host, port, backlog)
    except OSError as exc:
        reason = _REASONS.get(exc.errno or 0, f"{exc.strerror or exc}. Choose another host or port.")
        if isinstance(exc, socket.gaierror):
            reason = f"{host!r} is no known host name. Correct the setting host (--host)."
        raise StartupError(f"The {ingress} ingress cannot listen on {host or '*'}:{port}: {reason}") from exc


def _open(host: str, port: int, backlog: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            try:
                each = socket.socket(family, kind, protocol)
            except OSError as exc:  # a family that the name has and the machine has not
                if exc.errno == errno.EAFNOSUPPORT and len(infos) > 1:
                    continue
                raise
            found.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # A free port is the same one on all addresses.
            taken = port or (found[0].getsockname()[1] if len(found) > 1 else 0)
            each.bind((address[0], taken, *address[2:]))
            each.listen(backlog)
            each.setblocking(False)
    except BaseException:
        for each in found:
            each.close()
        raise
    return found
