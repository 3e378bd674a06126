"""A real Mosquitto with its dynamic security plugin, and Mosquitto's own tool to administer it."""

import json
import shutil
import subprocess
from pathlib import Path

from plantops_cli.mosquitto.text.dynsec import RESPONSE_TOPIC
from tests.support.brokers import Mosquitto
from tests.support.scripted_broker import ScriptedBroker, packet_of, publish

PUBLISH = 0x30
ADMIN, ADMIN_PASSWORD = "admin", "the administrator's own"
PLUGINS = (
    "usr/lib/mosquitto_dynamic_security.so",
    "usr/lib/*/mosquitto_dynamic_security.so",
    "usr/lib64/mosquitto_dynamic_security.so",
    "usr/local/lib/mosquitto_dynamic_security.so",
    "opt/homebrew/lib/mosquitto_dynamic_security.so",
    "opt/homebrew/Cellar/mosquitto/*/lib/mosquitto_dynamic_security.so",
    "usr/local/Cellar/mosquitto/*/lib/mosquitto_dynamic_security.so",
)


def start(folder: Path) -> Mosquitto:
    plugin = next((found for name in PLUGINS for found in Path("/").glob(name)), None)
    assert plugin, "the dynamic security plugin is not installed: it comes with Mosquitto"
    config = folder / "dynamic-security.json"
    run_ctrl("dynsec", "init", str(config), ADMIN, ADMIN_PASSWORD)
    broker = Mosquitto(folder, extra=f"plugin {plugin}\nplugin_opt_config_file {config}")
    broker.start()
    return broker


def run_ctrl(*arguments: str) -> str:
    executable = shutil.which("mosquitto_ctrl")
    assert executable, "mosquitto_ctrl is not installed: it comes with Mosquitto"
    done = subprocess.run([executable, *arguments], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    return done.stdout


def ctrl(broker: Mosquitto, *arguments: str) -> str:
    """Administer the plugin with Mosquitto's own tool."""
    login = ("-h", "127.0.0.1", "-p", str(broker.port), "-u", ADMIN, "-P", ADMIN_PASSWORD)
    return run_ctrl(*login, "dynsec", *arguments)


async def answer(broker: ScriptedBroker, *answers: object) -> None:
    """Play the plugin: one answer for each command, put between an unrelated one and rubbish."""
    for position, fields in enumerate(answers):
        await broker.wait_for(PUBLISH, position + 1)
        body = broker.of_kind(PUBLISH)[position].body
        size = 2 + int.from_bytes(body[:2], "big")
        command = json.loads(body[size + 3 :])["commands"][0]
        response = {"command": command["command"], "correlationData": command["correlationData"]}
        foreign = {"responses": [{"command": "getClient", "correlationData": "x", "error": "not for you"}]}
        await broker.send(packet_of(0x40, body[size : size + 2]))
        for payload in (b"\xff{", b"[]", json.dumps(foreign).encode()):
            await broker.send(publish(RESPONSE_TOPIC.encode(), payload))
        if fields is not None:
            ours = {"responses": [*foreign["responses"], response | fields]}  # type: ignore[operator]  # a dict
            await broker.send(publish(RESPONSE_TOPIC.encode(), json.dumps(ours).encode()))


DEFAULTS: dict[str, object] = {"data": {"acls": []}}
NO_ROLE = {"error": "Role not found"}
NO_USER = {"error": "Client not found"}
