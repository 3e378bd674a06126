"""The programs that are measured, and where the ones that are not plantops' own come from."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.link import TOPIC_FILTER, packets
from tests.support.brokers import PASSWORD, USERNAME

FOLDER = Path(__file__).parent.parent / "build" / "benchmarks"
_GMQTT = "gmqtt==0.8.0"
_MQTT_JS = "mqtt@5.16.0"
_INSTALL_SECONDS = 180
_SLOW, _FAST, _VERY_FAST = 0.2, 5.0, 10.0
_PLACES = ("{port}", "{qos}", "{count}")

_AIOMQTT_LOOP = """
import asyncio, json, sys
import aiomqtt
port, qos, count = map(int, sys.argv[1:4])
async def main():
    left = count
    async with aiomqtt.Client("127.0.0.1", port, username=sys.argv[4], password=sys.argv[5]) as client:
        await client.subscribe("devices/+/telemetry", qos)
        async for message in client.messages:
            print(message.topic, json.loads(message.payload))
            left -= 1
            if not left:
                return
asyncio.run(main())
"""
_GMQTT_LOOP = """
import asyncio, json, sys
import gmqtt
port, qos, left = map(int, sys.argv[1:4])
async def main():
    done = asyncio.Event()
    client = gmqtt.Client("benchmark")
    client.set_auth_credentials(sys.argv[4], sys.argv[5])
    client.on_connect = lambda client, *_: client.subscribe("devices/+/telemetry", qos)
    def on_message(client, topic, payload, qos, properties):
        global left
        print(topic, json.loads(payload))
        left -= 1
        if not left:
            done.set()
        return 0
    client.on_message = on_message
    await client.connect("127.0.0.1", port)
    await done.wait()
    await client.disconnect()
asyncio.run(main())
"""
_FLOOR = """
import os, socket, sys
port, qos, count, size = map(int, sys.argv[1:5])
broker = socket.create_connection(("127.0.0.1", port))
broker.sendall(b"\\x10\\x11\\0\\4MQTT\\4\\2\\0\\0\\0\\5floor")
broker.recv(4)
broker.sendall(b"\\x82\\x18\\0\\1\\0\\x13devices/+/telemetry\\0")
left = count * size + 5  # the SUBACK comes first
while left:
    data = broker.recv(262_144)
    left -= len(data)
    while data:
        data = data[os.write(1, data):]
os.write(1, b"\\n" * count)  # which says that all have come
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """A program that subscribes and prints one line for each message.

    Attributes:
        name: what it is called in the tables.
        arguments: its command line; ``{port}``, ``{qos}`` and ``{count}`` stand for themselves.
        share: how many times the messages of the others it takes to measure it.
        is_counting: whether it ends by itself after ``{count}`` messages.
        levels: the QoS at which it can be measured.
    """

    name: str
    arguments: tuple[str, ...]
    share: float = 1.0
    is_counting: bool = True
    levels: tuple[int, ...] = (0, 1)

    def command(self, *, port: int, qos: int, count: int) -> list[str]:
        """The command line for a broker on the loopback interface."""
        values = dict(zip(_PLACES, map(str, (port, qos, count)), strict=True))
        return [values.get(argument, argument) for argument in self.arguments]


def plantops(*more: str) -> Listener:
    """The listener of this project, with more options if given."""
    program = (sys.executable, "-m", "plantops_cli", "listen", "--quiet", "-h", "127.0.0.1", "-p", "{port}")
    options = ("-u", USERNAME, "-q", "{qos}", "-C", "{count}", "-o", "jsonl")
    return Listener("plantops listen -o jsonl", (*program, *options, *more, TOPIC_FILTER), share=_FAST)


def mosquitto_sub(*more: str) -> Listener:
    """Mosquitto's own listener, with more options if given."""
    program = (tool("mosquitto_sub"), "-h", "127.0.0.1", "-p", "{port}", "-u", USERNAME, "-P", PASSWORD)
    options = ("-q", "{qos}", "-C", "{count}", "-F", "%j", "-t", TOPIC_FILTER)
    return Listener("mosquitto_sub -F %j", (*program, *options, *more))


def aiomqtt_loop() -> Listener:
    """What one writes with aiomqtt in ten lines, by its defaults."""
    return Listener("aiomqtt loop", _script(sys.executable, _AIOMQTT_LOOP), share=_SLOW)


def floor() -> Listener:
    """The least that a listener in Python can do: read bytes and write them, as many system calls as needed."""
    arguments = (sys.executable, "-c", _FLOOR, *_PLACES, str(packets(4, 0).size))
    return Listener("recv and write alone", arguments, share=_VERY_FAST, levels=(0,))


def others() -> tuple[list[Listener], list[str]]:
    """The peers that are fetched for this alone, and why those are missing that cannot be had."""
    found, missing = list[Listener](), list[str]()
    for get in (_gmqtt_loop, _mqtt_js):
        result = get()
        if isinstance(result, Listener):
            found.append(result)
        else:
            missing.append(result)
    return found, missing


def tool(name: str) -> str:
    """The path of a program of Mosquitto's."""
    path = shutil.which(name)
    assert path, f"{name} is not installed"
    return path


def versions() -> dict[str, str]:
    """Version by name of what was measured, for those that are there."""
    known = {
        "plantops": importlib.metadata.version("plantops-cli"),
        "aiomqtt": importlib.metadata.version("aiomqtt"),
        "paho-mqtt": importlib.metadata.version("paho-mqtt"),
        "Mosquitto": _first_line([tool("mosquitto"), "-h"]).removeprefix("mosquitto version "),
    }
    if _gmqtt_python().exists():
        known["gmqtt"] = _GMQTT.partition("==")[2]
    manifest = FOLDER / "node_modules" / "mqtt" / "package.json"
    if manifest.exists():
        known["MQTT.js"] = json.loads(manifest.read_text())["version"]
        known["Node.js"] = _first_line(["node", "--version"]).removeprefix("v")
    return known


@cache
def _gmqtt_loop() -> Listener | str:
    python = _gmqtt_python()
    make = [[sys.executable, "-m", "venv", "--clear", str(python.parent.parent)]]
    make += [[str(python), "-m", "pip", "install", "--quiet", _GMQTT]]
    if shutil.which("uv"):
        make = [["uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(python.parent.parent)]]
        make += [["uv", "pip", "install", "--quiet", "--python", str(python), _GMQTT]]
    has_it = [str(python), "-c", f"import importlib.metadata as m; assert m.version('gmqtt') == '{_GMQTT[7:]}'"]
    why = _install(has_it, make)
    if why:
        return f"gmqtt: not measured: {why}"
    return Listener("gmqtt loop", _script(str(python), _GMQTT_LOOP))


@cache
def _mqtt_js() -> Listener | str:
    if not shutil.which("npm"):
        return "MQTT.js: not measured: there is no npm"
    program = FOLDER / "node_modules" / ".bin" / "mqtt"
    options = ["--no-audit", "--no-fund", "--no-save", "--loglevel", "error", "--prefix", str(FOLDER)]
    why = _install(["test", "-x", str(program)], [["npm", "install", *options, _MQTT_JS]])
    if why:
        return f"MQTT.js: not measured: {why}"
    where = ("-h", "127.0.0.1", "-p", "{port}", "-u", USERNAME, "-P", PASSWORD)
    arguments = (str(program), "subscribe", *where, "-q", "{qos}", "-v", "-t", TOPIC_FILTER)
    return Listener("MQTT.js mqtt subscribe -v", arguments, is_counting=False)


def _gmqtt_python() -> Path:
    return FOLDER / "venv" / "bin" / "python"


def _script(python: str, text: str) -> tuple[str, ...]:
    return (python, "-c", text, *_PLACES, USERNAME, PASSWORD)


def _install(is_there: list[str], commands: list[list[str]]) -> str | None:
    """Run commands unless a first one says that all is there; return why it failed, or None."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        if subprocess.run(is_there, capture_output=True, check=False).returncode == 0:
            return None
    except OSError:
        pass  # not even a program to ask
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{command[0]}: {error.__class__.__name__}"
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["no reason given"]
            return f"{Path(command[0]).name} ended with {done.returncode}: {said[-1]}"
    return None


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0]
