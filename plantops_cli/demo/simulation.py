"""The simulated fleet in real time."""

import asyncio
from collections.abc import Sequence
from typing import NoReturn, Protocol

from plantops_cli.demo.plants import Plant, due, next_due


class Publisher(Protocol):
    """Whatever can publish an MQTT message."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> object:
        """Publish one message; return when it is out."""
        ...


async def publish_fleet(publisher: Publisher, plants: Sequence[Plant], *, qos: int = 1) -> NoReturn:
    """Publish what the plants say, when they say it, until cancelled.

    Args:
        publisher: a connected client.
        plants: the fleet, at its start.
        qos: the quality of service of every message.
    """
    clock = asyncio.get_running_loop().time
    start_seconds = clock()
    while True:
        for publication in due(plants, clock() - start_seconds):
            await publisher.publish(publication.topic, publication.payload, qos=qos, retain=publication.retain)
        await asyncio.sleep(next_due(plants) - (clock() - start_seconds))
