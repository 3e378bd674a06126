"""The port between a session and its client, at which a test may put another client in place."""

import asyncio
from typing import Any

import pytest

from plantops_cli.errors import BrokerUnreachableError
from plantops_cli.stream.client import Client
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.port import ClientPort, MakeClient
from plantops_cli.stream.session import open_session
from plantops_cli.stream.subscriber import MQTTSubscriber


def test_the_client_of_the_network_is_one_by_its_type() -> None:
    make_client: MakeClient = Client
    assert make_client is Client


class Unreachable(Client):
    """A client whose broker is away, without any socket."""

    async def reach(self, seconds: float) -> None:
        await asyncio.sleep(0)
        raise BrokerUnreachableError("nobody there", endpoint="nowhere")


async def test_a_session_speaks_through_the_client_that_it_is_given() -> None:
    made: list[ClientPort] = []

    def make_client(*arguments: Any) -> ClientPort:
        made.append(Unreachable(*arguments))
        return made[-1]

    with pytest.raises(BrokerUnreachableError, match="nobody there"):
        await open_session(ConnectOptions(host="127.0.0.1"), make_client=make_client)
    assert len(made) == 1


async def test_a_subscriber_connects_through_the_client_of_its_lifeline() -> None:
    subscriber = MQTTSubscriber("127.0.0.1")
    subscriber._lifeline.make_client = Unreachable
    with pytest.raises(BrokerUnreachableError, match="nobody there"):
        await subscriber.connect()
