"""What a message costs a listener: 50,000 messages at QoS 0 through a real Mosquitto."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.measure import Comparison
from benchmarks.measure import compare as compare_runs
from tests.brokers import PASSWORD, USERNAME, Mosquitto

_MESSAGES = 50_000
_SECONDS_TO_SUBSCRIBE = 1.0
_PAYLOAD = '{"soil_moisture":41.5,"temperature":21.25,"humidity":55.0,"light":12000,"battery":87.5,"seq":123456}'
_AIOMQTT = """
import asyncio, json, os, sys
import aiomqtt
async def main():
    port, password = int(os.environ["MQTT_PORT"]), os.environ["MQTT_BACKEND_PASSWORD"]
    v5 = aiomqtt.ProtocolVersion.V5
    login = {"username": "plantops_backend", "password": password}
    async with aiomqtt.Client("127.0.0.1", port, protocol=v5, **login) as client:
        await client.subscribe("devices/+/telemetry")
        left = int(sys.argv[1])
        async for message in client.messages:
            print(json.dumps({"topic": str(message.topic), "payload": json.loads(message.payload)}))
            left -= 1
            if not left:
                return
asyncio.run(main())
"""


def compare() -> Iterator[Comparison]:
    """Yield the comparisons of this module."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder), extra="max_queued_messages 0")
        broker.start()
        try:
            yield from _compare_on(broker)
        finally:
            broker.stop()


def _compare_on(broker: Mosquitto) -> Iterator[Comparison]:
    plantops = [sys.executable, "-m", "plantops_cli", "listen", "-q", "0", "-o", "jsonl", "-C", str(_MESSAGES)]
    mosquitto_sub = [_client("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), "-u", USERNAME]
    mosquitto_sub += ["-P", PASSWORD, "-t", "devices/+/telemetry", "-F", "%j", "-C", str(_MESSAGES)]
    aiomqtt = [sys.executable, "-c", _AIOMQTT, str(_MESSAGES)]
    for peer, command in {"mosquitto_sub -F %j": mosquitto_sub, "aiomqtt loop": aiomqtt}.items():
        yield compare_runs(
            f"listen -o jsonl, {_MESSAGES:,} messages",
            peer,
            ours=lambda: _cpu_of_listener(plantops, broker),
            peers=lambda command=command: _cpu_of_listener(command, broker),  # type: ignore[misc]  # bound early
            runs=3,
        )


def _cpu_of_listener(command: list[str], broker: Mosquitto) -> float:
    """Start a listener, publish once it has subscribed, and return its CPU seconds."""
    environment = {**os.environ, **broker.environment}
    quiet = subprocess.DEVNULL
    listener = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment)
    time.sleep(_SECONDS_TO_SUBSCRIBE)
    _publish(broker)
    _, status, usage = os.wait4(listener.pid, 0)
    listener.returncode = os.waitstatus_to_exitcode(status)
    assert listener.returncode == 0, f"{command[0]} ended with {listener.returncode}"
    return usage.ru_utime + usage.ru_stime


def _publish(broker: Mosquitto) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(USERNAME, PASSWORD)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    sent = [client.publish(f"devices/d{i % 100}/telemetry", _PAYLOAD) for i in range(_MESSAGES)]
    sent[-1].wait_for_publish()
    client.disconnect()
    client.loop_stop()


def _client(name: str) -> str:
    executable = shutil.which(name)
    assert executable, f"{name} is not installed"
    return executable
