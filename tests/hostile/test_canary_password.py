"""The password is seen where it belongs, in the CONNECT packet and in its own file, and nowhere else."""

import base64
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pytest

from plantops_cli.cli.app import build_app
from plantops_cli.mosquitto.files.password_file import write_user
from tests.support.background_broker import in_background
from tests.support.brokers import Mosquitto
from tests.support.hostile.canary import CANARY, sightings
from tests.support.hostile.errands import Errand, run_all
from tests.support.plantops import run, start_on_terminal
from tests.support.scripted_broker import ScriptedBroker

THOROUGHLY = [False, pytest.param(True, marks=pytest.mark.long)]
NOBODY = ("-h", "127.0.0.1", "-p", "1")
BRIEFLY = {
    "listen": ("-W", "1"),
    "fleet": ("--once", "--within", "0.5s"),
    "check": ("--within", "0.5s"),
    "doctor": ("--wait", "0.2s"),
}
WITHOUT_CONNECTION = {"parse-topic", "demo"}
OTHERS = {"provision-user", *WITHOUT_CONNECTION}


def test_every_command_is_walked() -> None:
    names = {
        (command.name or command.callback.__name__).replace("_", "-")
        for command in build_app().registered_commands
        if command.callback
    }
    assert names == {*BRIEFLY, *OTHERS}


@pytest.mark.parametrize("form", [CANARY, quote(CANARY), CANARY.encode().hex(), repr(CANARY), ascii(CANARY)])
def test_the_canary_is_found_in_every_form(form: str) -> None:
    assert sightings(f"before {form} behind".encode())


@pytest.mark.parametrize("before", [b"", b"u:", b"us:", b"use:"])
def test_the_canary_is_found_in_base64(before: bytes) -> None:
    assert sightings(base64.b64encode(before + CANARY.encode() + b" and more"))


@pytest.fixture
def broker(own_mosquitto: Mosquitto) -> Mosquitto:
    """A broker that takes the password from the user ``kanari``, and from nobody else."""
    write_user(own_mosquitto.folder / "passwords", "kanari", CANARY.encode())
    assert own_mosquitto.process is not None
    own_mosquitto.process.send_signal(signal.SIGHUP)
    return own_mosquitto


OTHERS_BUT_LONG = pytest.param(("fleet", "check", "doctor"), marks=pytest.mark.long)


@pytest.mark.parametrize("names", [("listen",), OTHERS_BUT_LONG])
def test_no_run_and_no_failure_of_a_connection_shows_the_password(
    names: Sequence[str], broker: Mosquitto, tmp_path: Path
) -> None:
    known = ("-h", "127.0.0.1", "-p", str(broker.port))
    with in_background(ScriptedBroker(answers=[CANARY.encode() * 20])) as malformed:
        scenes: list[tuple[str, ...]] = [
            (*known, "-V", "3.1.1"),
            (*known, "--tls"),
            NOBODY,
            ("-h", "127.0.0.1", "-p", str(malformed.port)),
        ]
        errands = [Errand((name, *BRIEFLY[name], *scene, "--debug"), "") for scene in scenes for name in names]
        run_all(errands, tmp_path)
    assert sightings((broker.folder / "log").read_bytes()) == []


def test_no_command_that_connects_shows_the_password(broker: Mosquitto, tmp_path: Path) -> None:
    login = ("-h", "127.0.0.1", "-p", str(broker.port), "-u", "kanari", "--debug")
    says = {"listen": "messages in", "fleet": "devices", "check": "no message", "doctor": "granted"}
    accepted = [Errand((name, *BRIEFLY[name], *login), says[name]) for name in BRIEFLY]
    refused = [Errand((name, *BRIEFLY[name], *login[:4]), "refused user") for name in ("check", "doctor")]
    run_all(accepted + refused, tmp_path)


@pytest.mark.parametrize("is_thorough", THOROUGHLY)
def test_no_way_to_give_a_password_shows_it(tmp_path: Path, is_thorough: bool) -> None:
    secret, long = tmp_path / "secret", tmp_path / "long"
    secret.write_text(CANARY)
    long.write_text(CANARY * 6000)
    nothing = {"MQTT_BACKEND_PASSWORD": ""}
    listen = ("listen", *NOBODY, "--debug")
    errands = [
        Errand((*listen, "--secret-file", "-"), "nothing listens", nothing, stdin=CANARY.encode()),
        Errand((*listen, "--secret-file", "long"), "has more than", nothing),
        Errand(listen, "nothing listens", {**nothing, "MQTT_BACKEND_PASSWORD_FILE": "secret"}),
        Errand(listen, "are both set", {"MQTT_BACKEND_PASSWORD_FILE": "secret"}),
        Errand(("doctor", *NOBODY, "-o", "json"), "given (MQTT_BACKEND_PASSWORD, environment)"),
        Errand(("parse-topic", "devices/a/telemetry", "none", "--debug"), "error"),
        Errand(("demo", "--embedded", "-C", "1", "--debug"), "plants"),
    ]
    if is_thorough:
        errands += [
            Errand((*listen, "--secret-file", "secret"), "nothing listens", nothing),
            Errand(listen, "nothing listens", {"MQTT_BACKEND_PASSWORD": f"\udcff{CANARY}"}),
            Errand((*listen, "-P"), "no terminal", nothing, stdin=CANARY.encode()),
            Errand((*listen, "--secret-file", "secret", "-P"), "both given"),
            Errand(("listen", "-p", "70000", "--debug"), "--port 70000"),
            Errand(("demo", "-C", "1", "--debug"), "plants"),
        ]
    run_all(errands, tmp_path)


def test_no_dotenv_shows_the_password_in_it(tmp_path: Path) -> None:
    lines = {
        "right": f"MQTT_BACKEND_PASSWORD='{CANARY}'",
        "open": f"MQTT_BACKEND_PASSWORD='{CANARY}",
        "bare": f"MQTT_BACKEND_PASSWORD {CANARY}",
        "foreign": f"MQTT_BACKEND_PASSWORD='{CANARY}'\n\xff",
        "wrong": f"MQTT_BACKEND_PASSWORD='{CANARY}'\nMQTT_PORT=x",
        "admin": f"MQTT_ADMIN_PASSWORD='{CANARY}'\nMQTT_TLS=x",
    }
    folders = [tmp_path / name for name in lines]
    for folder, line in zip(folders, lines.values(), strict=True):
        folder.mkdir()
        (folder / ".env").write_bytes(line.encode("latin-1"))
        (folder / ".env").chmod(0o600)
    listen = Errand(("listen", *NOBODY[:2], "-p", "1", "--debug"), "error", {"MQTT_BACKEND_PASSWORD": ""})
    run_all([listen] * len(folders), *folders)


def test_a_password_on_the_command_line_is_not_repeated(tmp_path: Path) -> None:
    encoded = quote(CANARY, safe="")
    urls = (f"mqtt://u:{encoded}@127.0.0.1", f"mqtt://u:{CANARY}@127.0.0.1", f"mqtt://127.0.0.1:{encoded}")
    typed = [
        *zip(("listen", "doctor", "check"), ("--url",) * 3, urls, strict=True),
        ("listen", "--anonymous", "--websockets", f"ws://u:{CANARY}@127.0.0.1/mqtt"),
        ("provision-user", "u", CANARY),
        ("check", f"--password={CANARY}", "--debug"),
    ]
    errands = [Errand((*given, "--debug"), "", has_it_in_arguments=True) for given in typed]
    run_all(errands, tmp_path)


def test_no_signal_makes_it_show_the_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        listen = ("listen", "-h", "127.0.0.1", "-p", str(silent.getsockname()[1]), "--debug")
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT)
        crash = {"PYTHONFAULTHANDLER": "1"}
        run_all([Errand(listen, "connecting", crash, signal=number) for number in numbers], tmp_path)


@pytest.mark.parametrize("is_thorough", THOROUGHLY)
def test_no_run_of_provision_user_shows_the_password(broker: Mosquitto, tmp_path: Path, is_thorough: bool) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    ours = {"secret": CANARY, "control": f"{CANARY}\x07", "long": CANARY * 6000}
    for name, text in ours.items():
        (folder / name).write_text(text)
    (folder / "broken").write_text("no password file")
    address = ("-h", "127.0.0.1", "-p", str(broker.port))
    provision = ("provision-user", "--debug", "--file")
    admin = {"MQTT_ADMIN_PASSWORD": CANARY}
    errands = [
        Errand((*provision, "made", "--no-verify", "-o", "json", "--secret-file", "secret"), "created"),
        Errand((*provision, "none", "--dry-run", "-o", "json"), '"dry_run": true'),
        Errand((*provision, "broken"), "error"),
        Errand((*provision, "none", "--secret-file", "control"), "control"),
        Errand((*provision, "tried", "--trial-broker", "--no-verify"), "created"),
        Errand(("provision-user", "--debug", "--backend", "dynsec", *address), "refused", admin),
    ]
    if is_thorough:
        errands += [
            Errand((*provision, "unproven", *address), "error"),
            Errand((*provision, "made-too", "--no-verify"), "created"),
            Errand((*provision, "none", "--secret-file", "long"), "more than"),
            Errand((*provision, "none", "--reload", "command:sh -c 'env >&2; false'", "--no-verify"), "--config"),
            Errand((*provision, "broken", "--list"), "error"),
            Errand((*provision, "none", "--remove", "--no-verify"), ""),
        ]
    run_all(errands, folder)
    assert {path.name for path in folder.iterdir() if path.is_file() and sightings(path.read_bytes())} == set(ours)


def test_a_generated_password_is_only_in_its_file(tmp_path: Path) -> None:
    arguments = ("provision-user", "--file", "made", "--no-verify", "--generate", "--secret-file", "new")
    done = run(*arguments, "-o", "json", "--debug")
    password = (tmp_path / "new").read_bytes().strip()
    assert len(password) > 40
    assert password not in done.stdout + done.stderr.encode() + (tmp_path / "made").read_bytes()


@pytest.mark.parametrize(
    "arguments", [("listen", *NOBODY, "-P"), ("provision-user", "--file", "made", "--no-verify", "-P")]
)
def test_what_is_typed_at_a_prompt_is_not_echoed(arguments: tuple[str, ...]) -> None:
    with start_on_terminal(*arguments, "--debug") as (running, keyboard):
        for _ in range(1 if arguments[0] == "listen" else 2):
            running.stderr.wait_for(": ")
            keyboard.write(f"{CANARY}\n".encode())
        done = running.finish()
    assert sightings(done.stdout) == []
