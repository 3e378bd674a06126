"""A scripted broker beside the test, in a thread: for commands that are run to their end."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.scripted_broker import ScriptedBroker, serving


@contextmanager
def in_background(broker: ScriptedBroker, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedBroker]:
    """Serve on a free loopback port until the context ends.

    Args:
        broker: gets the port.
        tls: certificate and key, for TLS.
    """
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # of clients that leave in the middle
    ready, stopped = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with serving(broker, tls):
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="hostile-broker")
    thread.start()
    try:
        assert ready.wait(10)
        yield broker
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()
