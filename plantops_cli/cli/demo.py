"""``plantops demo``: all of it with nothing installed and nothing configured."""

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from plantops_cli.cli import options as o

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import NoReturn

    from plantops_cli.cli.exits import Exit
    from plantops_cli.cli.listening import Limits, Render
    from plantops_cli.demo.broker import DemoBroker

_DEVICES_USERNAME = "plants"
_OWN_BROKER = "your own broker: MQTT_BACKEND_PASSWORD=... plantops listen -h HOST"


def demo(
    *,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Use the embedded broker even where Mosquitto is installed.")
    ] = False,
    count: o.Count = None,
    timeout: o.Timeout = None,
    output: o.Output = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001  # the error boundary looks for it
) -> None:
    """Show a dozen simulated plants, live, on a broker that lasts as long as the demo.

    The broker is a Mosquitto of its own where one is installed, else the
    embedded one; the login is made by the code of provision-user, the messages
    are shown by that of listen.
    """
    import asyncio

    from plantops_cli.cli.listening import Limits, renderer

    limits = Limits(count=count, timeout_seconds=timeout, is_quiet=quiet)
    raise typer.Exit(asyncio.run(_play(limits, renderer(output), is_embedded=embedded)))


async def _play(limits: "Limits", render: "Render", *, is_embedded: bool) -> "Exit":
    import secrets
    import tempfile
    from pathlib import Path

    from plantops_cli.config import DEFAULT_USERNAME
    from plantops_cli.mosquitto.password_file import provision_user

    with tempfile.TemporaryDirectory(prefix="plantops-demo-") as folder:
        passwords = {name: secrets.token_urlsafe(32) for name in (DEFAULT_USERNAME, _DEVICES_USERNAME)}
        password_file = Path(folder, "passwords")
        for name, password in passwords.items():
            provision_user(password_file, name, password.encode())
        async with _broker(password_file, is_embedded=is_embedded) as broker:
            _introduce(broker, limits)
            return await _listen_to_plants(broker, passwords, limits, render)


def _broker(password_file: "Path", *, is_embedded: bool) -> "AbstractAsyncContextManager[DemoBroker]":
    from plantops_cli.demo.broker import embedded_broker, find_mosquitto, mosquitto_broker

    executable = None if is_embedded else find_mosquitto()
    if executable is None:
        return embedded_broker(password_file)
    return mosquitto_broker(executable, password_file, directory=password_file.parent)


def _introduce(broker: "DemoBroker", limits: "Limits") -> None:
    from plantops_cli.cli.talk import say

    if not limits.is_quiet:
        say(f"a dozen simulated plants on {broker.name} (Ctrl-C ends it); {_OWN_BROKER}")


async def _listen_to_plants(
    broker: "DemoBroker", passwords: dict[str, str], limits: "Limits", render: "Render"
) -> "Exit":
    import random

    from plantops_cli.cli.listening import Listening, announce
    from plantops_cli.cli.selection import Selection
    from plantops_cli.config import DEFAULT_USERNAME
    from plantops_cli.demo.plants import make_plants
    from plantops_cli.demo.simulation import publish_fleet
    from plantops_cli.stream.options import ConnectOptions, MQTTVersion
    from plantops_cli.stream.session import open_session
    from plantops_cli.stream.subscriber import MQTTSubscriber

    devices = ConnectOptions(
        host=broker.host,
        port=broker.port,
        username=_DEVICES_USERNAME,
        password=passwords[_DEVICES_USERNAME],
        mqtt_version=MQTTVersion(broker.mqtt_version),
    )
    backend = MQTTSubscriber(
        broker.host,
        broker.port,
        DEFAULT_USERNAME,
        passwords[DEFAULT_USERNAME],
        mqtt_version=broker.mqtt_version,
        on_status=announce(limits),
    )
    session = await open_session(devices, lambda _: None)
    assert session.client is not None
    plants = make_plants(random.Random())  # noqa: S311  # plants need no cryptography
    try:
        async with _in_background(publish_fleet(session.client, plants)):
            return await Listening(backend, Selection(), render, limits).run()
    finally:
        await session.close()


@asynccontextmanager
async def _in_background(work: "Coroutine[object, object, NoReturn]") -> "AsyncIterator[None]":
    """Run endless work beside the context; if it fails, the context is cut short and the failure raised."""
    import asyncio

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name="plantops-fleet")
        yield
        task.cancel()
