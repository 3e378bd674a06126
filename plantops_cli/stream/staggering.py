"""From the name of a broker to a TCP connection: its addresses, tried staggered, so that silent ones cost little.

Whoever waits for one address to time out before the next is tried may have no time left for the one that answers;
so each gets a head start only, and the first to answer wins (Happy Eyeballs, RFC 8305).
"""

import asyncio
import os
import re
import socket
from collections.abc import Callable, Sequence
from errno import ECONNREFUSED
from typing import Any

import aiohappyeyeballs

from plantops_cli.stream.waiting import in_daemon_thread

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""An address as ``socket.getaddrinfo`` returns it."""

HEAD_START_SECONDS = 0.25
"""When the next address is tried while one has not answered (RFC 8305, 5)."""

_CODE = re.compile(r"\[Errno (\d+)\]")


async def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses of a name, in the order of the system's own choice (RFC 6724).

    It runs in a thread that nobody has to wait for, however long a name server says nothing.

    Args:
        host: a name, or an address, which needs no name server.
        port: the TCP port.

    Raises:
        OSError, UnicodeError: there is no such name.
    """
    found = await in_daemon_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(found))


async def connect_to_first(
    addresses: Sequence[Address], *, seconds: float, on_try: Callable[[Address], None] = lambda _: None
) -> socket.socket:
    """Connect by TCP to the first address that answers; IPv6 and IPv4 take turns.

    Args:
        addresses: at least one.
        seconds: how long it may take; within half of that each one has been tried.
        on_try: told of each address when it is tried.

    Raises:
        OSError: none of them answered, for the reason that says most about the broker.
    """

    def begin(address: Address) -> socket.socket:
        on_try(address)
        return socket.socket(*address[:3])

    try:
        async with asyncio.timeout(seconds):
            return await aiohappyeyeballs.start_connection(
                addresses,
                happy_eyeballs_delay=min(HEAD_START_SECONDS, seconds / 2 / len(addresses)),
                socket_factory=begin,
            )
    except RuntimeError as exc:  # of uvloop, for what is an OSError elsewhere
        raise OSError(str(exc)) from exc
    except TimeoutError:
        raise
    except OSError as exc:
        raise _most_telling(exc) from exc


def _most_telling(exc: OSError) -> OSError:
    """Return what to tell of addresses that failed, in the words of the system.

    asyncio puts the address in the place of the reason; reasons that differ come as one text, with their numbers.
    """
    codes = [exc.errno] if exc.errno else [int(code) for code in _CODE.findall(str(exc))]
    if ECONNREFUSED in codes:  # somebody is there, which the others do not tell
        return ConnectionRefusedError(ECONNREFUSED, os.strerror(ECONNREFUSED))
    reasons = dict.fromkeys(map(os.strerror, codes))
    return OSError(codes[0], ", ".join(reasons)) if codes else exc
