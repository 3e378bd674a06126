"""A scripted broker beside the test, in a thread: for commands that are run to their end."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.scripted_broker import ScriptedBroker


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
        server = await asyncio.start_server(broker.serve, "127.0.0.1", 0, ssl=tls)
        broker.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stopped.wait()
        server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="hostile-broker")
    thread.start()
    try:
        assert ready.wait(10)
        yield broker
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()
