"""Loopback addresses that do not answer, and names that have several addresses."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def silent(*hosts: str, port: int) -> Iterator[None]:
    """Let nobody answer at these addresses, not even to say that nobody is there.

    Args:
        hosts: addresses such as 127.0.0.2.
        port: of a broker that listens at another address.
    """
    with ExitStack() as stack:
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            busy = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            busy.bind((host, port))
            busy.listen(0)
            stack.enter_context(socket.create_connection((host, port)))  # fills the queue of the listener
        yield


def resolver(*hosts: str, name: str = "broker.example") -> Callable[..., Sequence[Any]]:
    """A ``socket.getaddrinfo`` to which a name has these addresses, in this order."""
    usual = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: Any, **more: Any) -> Sequence[Any]:
        if host != name:
            return usual(host, port, *rest, **more)
        return [one for address in hosts for one in usual(address, port, *rest, **more)]

    return look_up
