"""A fake broker that floods whoever subscribes with prebuilt packets, so that the client is what is measured."""

import socket
import threading
import time
from types import TracebackType
from typing import Self

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.link import Link, packets
from tests.support.scripted_broker import CONNECT, PINGREQ, SUBSCRIBE, Packet, connack, suback

WINDOW = 1_000  # unacknowledged at once, unless the client's Receive Maximum is less
ENDLESS = 2**31 - 1  # what mosquitto_sub can count to


class FakeBroker:
    """Serves on a free loopback port, MQTT 3.1.1 and 5, until it is left; a client may come again.

    Args:
        qos: of the messages, 0 or 1.
        count: how many each connection gets once it has subscribed.
    """

    def __init__(self, *, qos: int, count: int) -> None:
        self._qos, self._count = qos, count
        for version in (4, 5):
            packets(version, qos)  # built now, not while a client waits
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._links: list[Link] = []
        self.port: int = self._listening.getsockname()[1]
        self.poured_at = 0.0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self._listening.shutdown(socket.SHUT_RDWR)  # on Linux this wakes the thread that accepts
        except OSError:
            pass  # elsewhere closing does
        self._listening.close()
        for link in self._links:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            link = Link(connection)
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: Link) -> None:
        version, window = 4, WINDOW
        try:
            for packet in link.received():
                if packet.kind == CONNECT:
                    version, window = packet.body[6], min(WINDOW, receive_maximum(packet))
                    link.send(connack(0, version=version))
                elif packet.kind == SUBSCRIBE:
                    link.send(suback(packet.body, [self._qos], version=version))
                    threading.Thread(target=self._pour, args=(link, version, window), daemon=True).start()
                elif packet.kind == PINGREQ:
                    link.send(b"\xd0\x00")
        except OSError:
            pass  # the client went away

    def _pour(self, link: Link, version: int, window: int) -> None:
        self.poured_at = time.monotonic()
        try:
            link.pour(packets(version, self._qos), self._count, window=window)
        except OSError:
            pass  # the client went away, or this broker was left


def receive_maximum(connect: Packet) -> int:
    """How many unacknowledged messages the client takes at once (MQTT 5, 3.1.2.11.3)."""
    if connect.body[6] != 5:
        return 65_535
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as paho has it
    properties.unpack(connect.body[10:])  # type: ignore[no-untyped-call]  # as paho has it
    return getattr(properties, "ReceiveMaximum", 65_535)
