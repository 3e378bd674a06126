"""Publish messages that carry the moment of their sending: python -m benchmarks.paced_publisher PORT QOS COUNT"""

import sys
import time

from benchmarks.link import payload, topic_of
from benchmarks.real_broker import connect
from tests.support.scripted_broker import publish

MESSAGES_PER_SECOND = 1_000
_NANOSECONDS = 1_000_000_000 // MESSAGES_PER_SECOND


def main(port: int, qos: int, count: int) -> None:
    """Publish at a steady pace; a message that is late does not delay the next.

    Args:
        port: of the broker.
        qos: 0 or 1.
        count: messages.
    """
    link = connect(port)
    started_at = time.monotonic_ns()
    for number in range(count):
        left = started_at + number * _NANOSECONDS - time.monotonic_ns()
        if left > 0:
            time.sleep(left / 1e9)
        stamp = time.monotonic_ns()
        link.send(publish(topic_of(number), payload(stamp), qos=qos, mid=number % 65_535 + 1, version=4))
    if qos:
        link.wait_until_acknowledged(count)
    link.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
