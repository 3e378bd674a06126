"""The examples, run as they stand but for paths and port."""

import asyncio
import os
from pathlib import Path

from plantops_cli.mosquitto.conf_file import read_config
from plantops_cli.mosquitto.proof import Verdict, log_in
from plantops_cli.stream.options import ConnectOptions
from tests.brokers import PASSWORD, USERNAME, Mosquitto

CONFIG = Path(__file__).parents[1] / "examples" / "mosquitto.conf"


def test_the_configuration_starts_a_broker_that_lets_the_backend_in_and_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(f"user {USERNAME}\ntopic read devices/+/telemetry\n")
    (tmp_path / "acl").chmod(0o600)
    text = CONFIG.read_text()
    for name, place in {
        "listener 1883": "",  # the broker of the tests has its own
        "allow_anonymous false": "",
        "password_file /etc/mosquitto/passwords": "",
        "/etc/mosquitto/acl": str(tmp_path / "acl"),
        "/run/mosquitto/mosquitto.pid": str(tmp_path / "pid"),
        "/var/lib/mosquitto/": f"{tmp_path}/",
    }.items():
        assert f"{name}\n" in text, name
        text = text.replace(f"{name}\n", f"{place}\n")
    broker = Mosquitto(tmp_path, extra=text, is_persistence_given=True)
    broker.start()
    try:
        login = ConnectOptions(host="127.0.0.1", port=broker.port, username=USERNAME, password=PASSWORD)
        nobody = ConnectOptions(host="127.0.0.1", port=broker.port)
        assert asyncio.run(log_in(login)) is Verdict.ACCEPTED
        assert asyncio.run(log_in(nobody)) is Verdict.REFUSED
        assert int((tmp_path / "pid").read_text()) == (broker.process.pid if broker.process else os.getpid())
    finally:
        broker.stop()


def test_the_configuration_is_one_that_provision_user_finds_its_way_in() -> None:
    config = read_config(CONFIG)
    assert config.password_files == ("/etc/mosquitto/passwords",)
    assert config.acl_files == ("/etc/mosquitto/acl",)
    assert config.pid_file == "/run/mosquitto/mosquitto.pid"
    assert [listener.port for listener in config.login_listeners] == [1883]
