"""The simulated fleet in real time."""

import asyncio
from collections.abc import Sequence
from typing import NoReturn, Protocol

from plantops_cli.demo.plants import Plant, due, next_due
from plantops_cli.messages import QoS


class Publisher(Protocol):
    """Whatever can publish an MQTT message."""

    async def publish(self, topic: str, payload: bytes, *, qos: QoS, retain: bool) -> object:
        """Publish one message; return when it is out."""
        ...


async def publish_fleet(publisher: Publisher, plants: Sequence[Plant]) -> NoReturn:
    """Publish what the plants say at QoS 1, when they say it, until cancelled.

    Args:
        publisher: a connected client.
        plants: the fleet, at its start.
    """
    clock = asyncio.get_running_loop().time
    start_seconds = clock()
    while True:
        for publication in due(plants, clock() - start_seconds):
            await publisher.publish(publication.topic, publication.payload, qos=1, retain=publication.retain)
        await asyncio.sleep(next_due(plants) - (clock() - start_seconds))
