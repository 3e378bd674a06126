"""The run of ``demo``: a broker, its logins and a simulated fleet, for as long as somebody listens."""

import asyncio
import contextlib
import random
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from plantops_cli.cli.demo.demo_flags import DemoFlags
from plantops_cli.cli.listen.run import Listening, renderer
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.observers import announce
from plantops_cli.cli.shared.run import Limits
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.stopping import Stop, exit_for, on_signals
from plantops_cli.config import DEFAULT_USERNAME
from plantops_cli.demo.brokers import DemoBroker, embedded_broker, mosquitto_broker
from plantops_cli.demo.plants import make_plants
from plantops_cli.demo.simulation import publish_fleet
from plantops_cli.formats.renderer import Renderer
from plantops_cli.mosquitto.broker.executable import find_mosquitto
from plantops_cli.mosquitto.files.password_file import write_user
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.session import open_session
from plantops_cli.stream.subscriber import MQTTSubscriber

_DEVICES_USERNAME = "plants"
_OWN_BROKER = "your own broker: MQTT_BACKEND_PASSWORD=... plantops listen -h HOST"


def run_demo(flags: DemoFlags) -> Exit:
    """Show simulated plants as the flags say, and return the exit code.

    Args:
        flags: on which broker, how much of it, and how.

    Raises:
        ConfigError: flags are malformed, or the broker cannot be started.
        BrokerError: the connection to it was lost for good.
        OutputError: standard output refused a write.
    """
    limits = Limits(count=flags.count, timeout_seconds=flags.timeout_seconds)
    render = renderer(flags.output, Selection())
    demonstration = Demonstration(render, limits, is_embedded=flags.is_embedded, is_quiet=flags.is_quiet)
    return asyncio.run(demonstration.run())


class Demonstration:
    """One demo, from its broker to the last message; whatever ends it, nothing of it stays behind.

    Args:
        renderer: turns messages into the bytes to write.
        limits: when to stop.
        is_embedded: use the embedded broker even where Mosquitto is installed.
        is_quiet: True leaves out status and summary.
    """

    def __init__(self, renderer: Renderer, limits: Limits, *, is_embedded: bool, is_quiet: bool = False) -> None:
        self._renderer = renderer
        self._limits = limits
        self._is_embedded = is_embedded
        self._is_quiet = is_quiet
        self._passwords = {name: secrets.token_urlsafe(32) for name in (DEFAULT_USERNAME, _DEVICES_USERNAME)}
        self._listening: Listening | None = None
        self._stopped_by: Stop | None = None

    async def run(self) -> Exit:
        """Show the plants until stopped, and return the exit code.

        Raises:
            ConfigError: the broker cannot be started.
            BrokerError: the connection to it was lost for good.
            OutputError: standard output refused a write.
        """
        task = asyncio.current_task()
        assert task is not None
        with on_signals(lambda _, reason: self._stop(reason, task)):
            try:
                return await self._play()
            except asyncio.CancelledError:
                if self._stopped_by is None:
                    raise
                return exit_for(self._stopped_by, count=self._limits.count, shown=0)

    def _stop(self, reason: Stop, task: "asyncio.Task[object]") -> None:
        """First let the listener end by itself; without one, or when asked again, cut everything short."""
        is_first, self._stopped_by = self._stopped_by is None, reason
        if is_first and self._listening:
            self._listening.stop(reason)
        elif not task.cancelling():
            task.cancel()

    async def _play(self) -> Exit:
        with tempfile.TemporaryDirectory(prefix="plantops-demo-") as folder:
            password_file = Path(folder, "passwords")
            for name, password in self._passwords.items():
                write_user(password_file, name, password.encode())
            async with self._broker(password_file) as broker:
                if not self._is_quiet:
                    say(f"a dozen simulated plants on {broker.name} (Ctrl-C ends it); {_OWN_BROKER}")
                self._listening = Listening(
                    self._backend(broker), Selection(), self._renderer, self._limits, is_quiet=self._is_quiet
                )
                async with self._fleet(broker, self._listening):
                    return await self._listening.run(has_signals=False)

    def _broker(self, password_file: Path) -> AbstractAsyncContextManager[DemoBroker]:
        executable = None if self._is_embedded else find_mosquitto()
        if executable is None:
            return embedded_broker(password_file)
        return mosquitto_broker(executable, password_file, directory=password_file.parent)

    def _backend(self, broker: DemoBroker) -> MQTTSubscriber:
        return MQTTSubscriber(
            broker.host,
            broker.port,
            DEFAULT_USERNAME,
            self._passwords[DEFAULT_USERNAME],
            mqtt_version=broker.mqtt_version,
            on_status=announce(is_quiet=self._is_quiet),
        )

    @contextlib.asynccontextmanager
    async def _fleet(self, broker: DemoBroker, listening: Listening) -> AsyncIterator[None]:
        """Let the plants publish while the context lasts; when they cannot, the listening ends too."""
        options = ConnectOptions(
            host=broker.host,
            port=broker.port,
            username=_DEVICES_USERNAME,
            password=self._passwords[_DEVICES_USERNAME],
            mqtt_version=broker.mqtt_version,
        )
        session = await open_session(options)
        plants = make_plants(random.Random())
        fleet = asyncio.create_task(publish_fleet(session, plants), name="plantops-fleet")
        fleet.add_done_callback(lambda _: listening.stop(Stop.SOURCE_GONE))
        try:
            yield
        finally:
            fleet.cancel()
            await asyncio.wait((fleet,))
            await session.close()
        if not fleet.cancelled():
            fleet.result()
