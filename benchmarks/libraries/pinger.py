"""Ask a web application for a page every few milliseconds: python -m benchmarks.libraries.pinger PORT

On SIGTERM it prints, for each request, when it was sent (monotonic nanoseconds) and how long it took.
"""

import signal
import socket
import sys
import time

_EVERY_SECONDS = 0.005
_REQUEST = b"GET / HTTP/1.1\r\nHost: benchmark\r\n\r\n"


def main(port: int) -> None:
    """Ask until SIGTERM, on one connection; while an answer is awaited, no other request is sent.

    Args:
        port: of the application on the loopback interface.
    """
    asked = list[bool]()
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    waits = list[tuple[int, int]]()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not asked:
            sent_at = time.monotonic_ns()
            connection.sendall(_REQUEST)
            _read_answer(connection)
            waits.append((sent_at, time.monotonic_ns() - sent_at))
            time.sleep(max(0.0, _EVERY_SECONDS - waits[-1][1] / 1e9))
    print("\n".join(f"{sent_at} {lasted}" for sent_at, lasted in waits), flush=True)


def _read_answer(connection: socket.socket) -> None:
    answer = b""
    while not answer.endswith(b"}"):  # the application answers with a JSON object
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionError("the application has gone")
        answer += chunk


if __name__ == "__main__":
    main(int(sys.argv[1]))
