"""A password is changed while listeners run, as docs/passwords.md tells, and no message is lost."""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from plantops_cli.cli.shared.exits import Exit
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.example_conf import DEVICES, FarmMosquitto, farm_mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Done, Running, run, start
from tests.support.processes import COMMAND
from tests.support.reliable_publisher import ReliablePublisher

PAGE = (Path(__file__).parents[2] / "docs" / "passwords.md").read_text()
SECOND_LOGIN, SAME_LOGIN = "A second login", "A new password for the same login"
SOME = 100
TELEMETRY = "devices/+/telemetry"
CHANGING = "it was right before, so it may be changing"
_RIGHTS = f"user {DEVICES[0]}\ntopic write devices/#\n\npattern read {TELEMETRY}\n"


class PatternFarm(FarmMosquitto):
    """A broker on which the right to read belongs to no user."""

    def configuration(self) -> str:
        made = super().configuration()
        (self.folder / "acl").write_text(_RIGHTS)
        return made


def environment(broker: Mosquitto) -> dict[str, str]:
    """What finds the broker, without a password."""
    return {name: value for name, value in broker.environment.items() if name != "MQTT_BACKEND_PASSWORD"}


def follow(section: str, number: int, *, broker: Mosquitto, folder: Path) -> None:
    """Run one of the commands that a section of the page tells, in a folder of its own."""
    _, _, told = PAGE.partition(f"## {section}\n")
    command = re.findall(r"```sh\n(.*?)```", told, re.DOTALL)[number].replace("/etc/mosquitto", str(broker.folder))
    program = folder / "bin" / "plantops"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    env = os.environ | environment(broker) | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def listening(
    broker: Mosquitto, folder: Path, name: str, *flags: str, secret: str = "password"
) -> Iterator[Running]:
    arguments = ("listen", "--durable", name, "--secret-file", str(folder / secret), *flags)
    with start(*arguments, "--to", str(folder / f"{name}.jsonl"), TELEMETRY, env=environment(broker)) as listener:
        listener.stderr.wait_for("connected to")
        yield listener


def stop(listener: Running) -> Done:
    done = listener.finish(2)
    assert done.code == Exit.OK, done.stderr
    assert PASSWORD not in done.stderr
    return done


def wait_for_all(publisher: ReliablePublisher, *files: Path) -> None:
    """Let the publisher end, and wait until each of its messages stands in each file."""
    account = publisher.finish()
    assert not account.unheard
    deadline = time.monotonic() + PATIENCE_SECONDS
    for file in files:
        while missing := account.acknowledged.keys() - numbers(file):
            assert time.monotonic() < deadline, f"{file.name}: {len(missing)} lost, such as {min(missing)}"
            time.sleep(0.1)


def numbers(file: Path) -> set[int]:
    *lines, _ = file.read_text().split("\n")
    return {json.loads(line)["payload"]["n"] for line in lines}


def more(publisher: ReliablePublisher) -> None:
    publisher.wait_for(len(publisher.account.acknowledged) + SOME)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the password of the listeners in it."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "password").chmod(0o600)
    return tmp_path


@pytest.fixture
def farm() -> Iterator[FarmMosquitto]:
    with farm_mosquitto() as broker:
        yield broker


@pytest.fixture
def pattern_farm() -> Iterator[FarmMosquitto]:
    with TemporaryDirectory() as place, PatternFarm(Path(place)) as broker:
        yield broker


def test_with_a_second_login_old_and_new_listeners_lose_nothing(farm: FarmMosquitto, folder: Path) -> None:
    # the sessions begin
    for name in ("shed", "away"):
        with listening(farm, folder, name) as listener:
            stop(listener)
    publisher = ReliablePublisher(farm.port, login=DEVICES, rate=200)
    new_login = ("-u", "backend_b")
    with publisher.running():
        with listening(farm, folder, "shed") as old:
            more(publisher)
            follow(SECOND_LOGIN, 0, broker=farm, folder=folder)
            more(publisher)
            assert "lost" not in stop(old).stderr
        more(publisher)
        with (
            listening(farm, folder, "shed", *new_login, secret="password_b") as shed,
            listening(farm, folder, "away", *new_login, secret="password_b") as away,
        ):
            follow(SECOND_LOGIN, 1, broker=farm, folder=folder)
            more(publisher)
            wait_for_all(publisher, folder / "shed.jsonl", folder / "away.jsonl")
            for new in (shed, away):
                assert "lost" not in stop(new).stderr


def test_with_a_new_password_old_and_new_listeners_lose_nothing(pattern_farm: FarmMosquitto, folder: Path) -> None:
    with listening(pattern_farm, folder, "away") as away:
        stop(away)
    publisher = ReliablePublisher(pattern_farm.port, login=DEVICES, rate=200)
    with listening(pattern_farm, folder, "shed") as shed, publisher.running():
        more(publisher)
        follow(SAME_LOGIN, 0, broker=pattern_farm, folder=folder)
        assert (folder / "password").read_text().strip() != PASSWORD
        shed.stderr.wait_for("session resumed")
        with listening(pattern_farm, folder, "away") as away:
            more(publisher)
            wait_for_all(publisher, folder / "shed.jsonl", folder / "away.jsonl")
            stop(away)
        assert CHANGING in stop(shed).stderr


def provision_elsewhere(broker: FarmMosquitto, file: Path) -> None:
    """Give the login a new password that no listener knows."""
    config = f"{broker.folder}/mosquitto.conf"
    arguments = ("provision-user", "--config", config, "--generate", "--secret-file", str(file))
    done = run(*arguments, env=environment(broker))
    assert done.code == Exit.OK, done.stderr


def test_a_password_that_arrives_late_is_waited_for_and_told_each_time(farm: FarmMosquitto, folder: Path) -> None:
    with listening(farm, folder, "shed") as listener:
        provision_elsewhere(farm, folder / "elsewhere")
        for _ in range(3):
            listener.stderr.wait_for(f"{CHANGING}: retry in")
        (folder / "elsewhere").rename(folder / "password")
        listener.stderr.wait_for("session resumed")
        stop(listener)


def test_a_password_that_never_arrives_ends_the_listener_with_5(farm: FarmMosquitto, folder: Path) -> None:
    with listening(farm, folder, "shed", "--login-patience", "1s") as listener:
        provision_elsewhere(farm, folder / "elsewhere")
        done = listener.finish()
    assert done.code == Exit.CREDENTIALS
    assert f"refused user '{USERNAME}'" in done.errors[0]


def test_a_password_that_the_broker_does_not_know_yet_does_not_replace_the_right_one(
    farm: FarmMosquitto, folder: Path
) -> None:
    with listening(farm, folder, "shed") as listener:
        (folder / "password").write_text("the broker has not heard of it\n")
        farm.restart()
        listener.stderr.wait_for("session resumed")
        assert CHANGING not in stop(listener).stderr


def test_a_password_in_an_env_file_is_read_anew(farm: FarmMosquitto, folder: Path) -> None:
    env_file = folder / "farm.env"
    env_file.write_text(f"MQTT_BACKEND_PASSWORD='{PASSWORD}'\n")
    flags = ("listen", "--durable", "shed", "--env-file", str(env_file), TELEMETRY)
    with start(*flags, env=environment(farm)) as listener:
        listener.stderr.wait_for("connected to")
        provision_elsewhere(farm, folder / "elsewhere")
        env_file.write_text(f"MQTT_BACKEND_PASSWORD={(folder / 'elsewhere').read_text()}")
        listener.stderr.wait_for("session resumed")
        stop(listener)


def test_a_first_login_that_is_refused_is_final(farm: FarmMosquitto, folder: Path) -> None:
    (folder / "password").write_text("wrong\n")
    for flags in ((), ("--wait-for-broker",)):
        done = run("listen", "--secret-file", str(folder / "password"), *flags, env=environment(farm))
        assert done.code == Exit.CREDENTIALS
        assert "retry" not in done.stderr


def test_a_password_of_the_environment_cannot_change_so_that_its_refusal_is_final(
    farm: FarmMosquitto, folder: Path
) -> None:
    with start("listen", TELEMETRY, env=farm.environment) as listener:
        listener.stderr.wait_for("connected to")
        provision_elsewhere(farm, folder / "elsewhere")
        done = listener.finish()
    assert done.code == Exit.CREDENTIALS
    assert done.stderr.count("refused user") == 1
