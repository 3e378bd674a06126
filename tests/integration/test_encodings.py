"""Locales older than Unicode: no stranger's device id ends a report, and what programs read is UTF-8."""

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto
from tests.support.password_entries import ENTRY
from tests.support.plantops import Done, run
from tests.support.simulated_fleet import publishing

DEVICE = "pflänzchen-植物"
LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "iso-8859-1": {"PYTHONIOENCODING": "iso-8859-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
SHOWN = {
    "ascii": rb"pfl\xe4nzchen-\u690d\u7269",
    "iso-8859-1": b"pfl\xe4nzchen-\\u690d\\u7269",
    "C": rb"pfl\xe4nzchen-\u690d\u7269",
}

each_locale = pytest.mark.parametrize("name", LOCALES)
FOR_PEOPLE = {
    "check --within 500ms --expect roster": 2,
    "check --within 500ms --expect roster -o text": 2,
    "fleet --once --within 500ms -o table": 0,
    "fleet --events -W 1 -o text": 0,
    "listen -o pretty -C 1": 0,
    "parse-topic - -o text": 0,
    "parse-topic - --field device_id": 0,
    "doctor devices/+/telemetry": 0,
}


def beat(number: int) -> list[tuple[str, bytes]]:
    return [(f"devices/{DEVICE}/telemetry", '{"näme":"ü€"}'.encode())]


def look(line: str, name: str, broker: Mosquitto) -> Done:
    topics = f"devices/{DEVICE}/telemetry\n".encode()
    with publishing(broker, beat, interval=0.1):
        return run(*shlex.split(line), env=broker.environment | LOCALES[name], stdin=topics)


@pytest.mark.parametrize(
    ("line", "name"),
    [(line, "ascii") for line in FOR_PEOPLE] + [(next(iter(FOR_PEOPLE)), name) for name in LOCALES],
)
def test_what_people_read_escapes_what_the_locale_has_not(
    line: str, name: str, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "roster").write_text(f"missing-{DEVICE}\n")
    done = look(line, name, mosquitto)
    assert (done.code, done.errors) == (FOR_PEOPLE[line], [])
    assert SHOWN[name] in done.stdout
    done.stdout.decode("iso-8859-1" if name == "iso-8859-1" else "ascii")


@pytest.mark.parametrize(
    "line",
    [
        "check --within 500ms -o json",
        "fleet --once --within 500ms -o json",
        "fleet --once --within 500ms -o csv",
        "fleet --once --within 500ms -o md",
        "fleet --events -W 1 -o jsonl --quiet",
        "listen -o jsonl -C 1",
        "parse-topic - -o jsonl",
    ],
)
def test_what_programs_read_is_utf_8(line: str, mosquitto: Mosquitto) -> None:
    done = look(line, "iso-8859-1", mosquitto)
    assert (done.code, done.errors) == (0, [])
    assert DEVICE.encode() in done.stdout


@each_locale
def test_users_are_listed_and_help_is_shown(name: str, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text(f"jürgen:{ENTRY}\n")
    done = run("provision-user", "--list", "--file", "passwords", env=LOCALES[name])
    assert (done.code, done.errors) == (0, [])
    assert done.stdout.startswith(b"j\xfcrgen" if name == "iso-8859-1" else rb"j\xfcrgen")
    done = run("provision-user", "--list", "--file", "passwords", "-o", "json", env=LOCALES[name])
    assert json.loads(done.stdout)["users"][0]["username"] == "jürgen"
    assert run("listen", "--help", env=LOCALES[name]).code == 0


@each_locale
def test_an_error_names_what_the_locale_has_not(name: str) -> None:
    done = run("parse-topic", "-", env=LOCALES[name], stdin=f"devices/{DEVICE}\n".encode())
    assert done.code == 8
    assert "\\u690d" in done.errors[0]
    done = run("check", "--device", f"{DEVICE}/x", env=LOCALES[name])
    assert done.code == 3
    assert b"device id" in done.stdout


def test_the_demo_runs_in_any() -> None:
    done = run("demo", "-C", "1", "-o", "pretty", env=LOCALES["ascii"])
    assert (done.code, done.errors) == (0, [])


@pytest.mark.parametrize("name", ["utf-8", *LOCALES])
def test_a_password_of_the_environment_is_the_same_bytes_everywhere(
    name: str, own_mosquitto: Mosquitto, tmp_path: Path
) -> None:
    password = "pfl\xe4nzchen \u690d".encode() + b"\xff\xe4"
    (tmp_path / "secret").write_bytes(password)
    env = own_mosquitto.environment | LOCALES.get(name, {}) | {"MQTT_BACKEND_PASSWORD": os.fsdecode(password)}
    arguments = ("provision-user", "odd", "--file", "passwords", "--no-verify")
    assert run(*arguments, env=env).code == 0
    own_mosquitto.restart()
    done = run("listen", "-u", "odd", "-W", "0.3", env=env)
    assert (done.code, done.errors) == (27, [])
    drift = ("--if-missing", "--fail-on-drift", "--secret-file", "secret")
    assert run(*arguments, *drift, env=env).code == 0
