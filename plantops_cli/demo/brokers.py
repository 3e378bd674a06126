"""The two brokers of the demo, on a free loopback port: amqtt in this process, or a Mosquitto of our own."""

import asyncio
import contextlib
import importlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.broker.executable import harmless_environment
from plantops_cli.stream.options import MQTTVersion

HOST = "127.0.0.1"

_START_ATTEMPTS = 3
_START_SECONDS = 3.0
_STOP_SECONDS = 2.0
_POLL_SECONDS = 0.01
_RUNNING = re.compile(r"^mosquitto version (\S+) running$", re.MULTILINE)
# Mosquitto heeds "user" only when root starts it; then it must stay root to read a file of mode 0600
_CONFIG = """\
listener {port} {host}
allow_anonymous false
password_file {password_file}
persistence false
user root
log_dest stderr
log_timestamp false
"""


@dataclass(frozen=True, slots=True)
class DemoBroker:
    """A running broker.

    Attributes:
        name: what it is, for humans: ``mosquitto 2.0.11``.
        port: the TCP port it listens on.
        host: the address it listens on.
        mqtt_version: what a client may speak with it.
    """

    name: str
    port: int
    host: str = HOST
    mqtt_version: MQTTVersion = MQTTVersion.AUTO


@contextlib.asynccontextmanager
async def embedded_broker(password_file: Path) -> AsyncIterator[DemoBroker]:
    """Run amqtt in this process while the context lasts; it speaks MQTT 3.1.1 only.

    Args:
        password_file: who may log in, in Mosquitto's format; nobody else may.

    Raises:
        ConfigError: the extra ``demo`` is not installed, or no port could be had.
    """
    try:
        importlib.import_module("amqtt.broker")
    except ImportError as exc:
        raise ConfigError(
            f"the embedded broker cannot be loaded: {exc}", hint="pip install 'plantops-cli[demo]'"
        ) from exc
    from plantops_cli.demo.embedded import serve

    async with contextlib.AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(serve(password_file, host=HOST))
        except OSError as exc:
            raise ConfigError(f"the embedded broker cannot listen on {HOST}: {exc.strerror}") from exc
        yield DemoBroker(f"embedded amqtt {version('amqtt')}", port, mqtt_version=MQTTVersion.V311)


@contextlib.asynccontextmanager
async def mosquitto_broker(executable: str, password_file: Path, *, directory: Path) -> AsyncIterator[DemoBroker]:
    """Run a Mosquitto of our own while the context lasts.

    Args:
        executable: the path of the broker, as ``mosquitto.broker.executable`` finds it.
        password_file: who may log in; nobody else may.
        directory: an existing folder for its configuration and its log.

    Raises:
        ConfigError: it cannot be started; the message has the last line of its log.
    """
    process, broker = await _start_on_a_free_port(executable, password_file, directory=directory)
    try:
        yield broker
    finally:
        await _stop(process)


async def _start_on_a_free_port(
    executable: str, password_file: Path, *, directory: Path
) -> tuple[asyncio.subprocess.Process, DemoBroker]:
    log = directory / "mosquitto.log"
    # Somebody may take the port between our look and Mosquitto's bind: then another one
    for _ in range(_START_ATTEMPTS):
        port = _free_port()
        process = await _spawn(executable, _write_config(directory, password_file, port=port), log=log)
        try:
            found = await _until_running(process, log)
        except BaseException:
            await _stop(process)
            raise
        if found is not None:
            return process, DemoBroker(f"mosquitto {found}", port)
        await _stop(process)
    raise ConfigError(f"{executable} does not start: {_last_line(log)}", hint="try the embedded broker")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _write_config(directory: Path, password_file: Path, *, port: int) -> Path:
    config = directory / "mosquitto.conf"
    config.write_text(_CONFIG.format(port=port, host=HOST, password_file=password_file.absolute()))
    return config


async def _spawn(executable: str, config: Path, *, log: Path) -> asyncio.subprocess.Process:
    # A session of its own: Ctrl-C is for the listener, which says goodbye to a broker that still lives
    try:
        with log.open("wb") as sink:
            return await asyncio.create_subprocess_exec(
                executable,
                "-c",
                str(config),
                env=harmless_environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
    except OSError as exc:
        raise ConfigError(f"{executable} cannot be run: {exc.strerror}") from exc


async def _until_running(process: asyncio.subprocess.Process, log: Path) -> str | None:
    """Wait until the broker says that it listens, and return its version; None when it ended or never said so."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                if found := _RUNNING.search(_read(log)):
                    return found[1]
                await asyncio.sleep(_POLL_SECONDS)
    return None


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _last_line(log: Path) -> str:
    lines = _read(log).split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
