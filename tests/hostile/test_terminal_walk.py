"""No stranger commands the terminal, neither by messages nor by any other words that find their way to it."""

import os
import re
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.background_broker import in_background
from tests.support.certificates import make_certificate_with
from tests.support.hostile.screen import faults
from tests.support.hostile.walks import Walk, walk
from tests.support.hostile.words import (
    ALL,
    COMMANDS,
    CONTROLS,
    DEVICES,
    NOT_UTF_8,
    PAYLOADS,
    SEEN_AS_JSON,
    SEEN_AS_TEXT,
    UNSEEN,
    USERS,
)
from tests.support.plantops import PATIENCE_SECONDS, read_to_the_end, start_on_terminal
from tests.support.scripted_broker import ScriptedBroker, packet_of, publish

STORM = b"".join(
    publish(b"devices/" + device + b"/" + kind, payload, version=5)
    for device in DEVICES
    for kind in (b"telemetry", b"heartbeat")
    for payload in PAYLOADS
)
THOROUGHLY = [False, pytest.param(True, marks=pytest.mark.long)]
STORM_SECONDS, REST_SECONDS = 0.5, 0.8
LOGIN = {"MQTT_HOST": "127.0.0.1", "MQTT_BACKEND_PASSWORD": "secret"}


@pytest.fixture
def storm() -> Iterator[dict[str, str]]:
    """How to reach a broker that sends all of it to each subscriber, again and again."""
    with in_background(ScriptedBroker(after_suback=STORM)) as broker:
        yield {**LOGIN, "MQTT_PORT": str(broker.port)}


@pytest.mark.parametrize(
    "shown", [b"a\x1b[8mb", b"\xc2\x9b", b"a\rb", b"\x1b[1;41m", b"\x1b]0;x\x07", "\u3164".encode()]
)
def test_the_judge_sees_what_is_wrong(shown: bytes) -> None:
    assert faults(shown)


def test_the_judge_lets_our_own_pass() -> None:
    assert faults("\x1b[?1049h\x1b[H\x1b[1;38;5;28mgrün\x1b[0m\r\n\x1b[?25h".encode()) == []


@pytest.mark.parametrize("is_thorough", THOROUGHLY)
def test_no_message_commands_the_terminal(storm: dict[str, str], tmp_path: Path, is_thorough: bool) -> None:
    contract = tmp_path / "plants.py"
    contract.write_text("import pydantic\nclass Telemetry(pydantic.BaseModel):\n    soil: int\n")
    once = ("fleet", "--once", "--within", "1s", "-o")
    check = ("check", "--within", "1s")
    walks = [
        Walk(("listen", "-C", "100"), 0, SEEN_AS_TEXT),
        Walk(("listen", "-C", "100", "-o", "jsonl"), 0, SEEN_AS_JSON),
        Walk(("listen", "-W", "1", "--device", "nobody", COMMANDS + UNSEEN), 27),
        Walk(("listen", "-C", "100", "--debug"), 0, "passed over", is_stdout_piped=True),
        Walk((*once, "table"), 0, SEEN_AS_TEXT),
        Walk((*once, "json"), 0, SEEN_AS_JSON),
        Walk(("fleet", "--events", "-W", "1", "-o", "text"), 0, SEEN_AS_TEXT),
        Walk(("fleet", "--field", ALL), 0, SEEN_AS_TEXT, keys=b"q"),
        Walk((*check, "-o", "json", "--contract", "plants:Telemetry"), 2),
        Walk((*check, "--expect-ids", COMMANDS + UNSEEN), 2, SEEN_AS_TEXT),
        Walk(("doctor", "--wait", "0.5s"), 0, SEEN_AS_TEXT),
    ]
    if is_thorough:
        walks += [
            Walk(("listen", "-C", "100", "--quiet", "#"), 0, SEEN_AS_TEXT),
            Walk((*once, "csv"), 0, SEEN_AS_TEXT),
            Walk((*once, "md"), 0, SEEN_AS_TEXT),
            Walk(("fleet", "--events", "-W", "1", "-o", "jsonl"), 0, SEEN_AS_JSON),
            Walk((*check, "-o", "nagios", "--contract", "plants:Telemetry"), 2),
            Walk((*check, "-o", "text"), 0),
            Walk((*check, "-o", "prometheus"), 0),
            Walk(("doctor", "--wait", "0.5s", "-o", "json"), 0, SEEN_AS_JSON),
        ]
    walk(walks, env=storm)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the CPU time of a process is read from /proc")
def test_after_a_storm_it_rests(storm: dict[str, str]) -> None:
    with ExitStack() as stack:
        reading = stack.enter_context(ThreadPoolExecutor())
        processes = []
        for arguments in (("listen",), ("fleet", "--events"), ("fleet",)):
            running, _ = stack.enter_context(start_on_terminal(*arguments, env=storm))
            running.stdout.wait_for(re.escape(SEEN_AS_TEXT))
            reading.submit(read_to_the_end, running.stdout)
            processes.append(running.process)
        time.sleep(STORM_SECONDS)
        before = [cpu_seconds(process.pid) for process in processes]
        time.sleep(REST_SECONDS)
        taken = [cpu_seconds(process.pid) - at for process, at in zip(processes, before, strict=True)]
        assert max(taken) < REST_SECONDS / 4, taken
        for process in processes:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has taken so far (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def words_of_a_broker(*, has_reference: bool) -> bytes:
    """Reason String, User Property and, where it may stand, Server Reference; with their length."""
    words = ALL.replace("\ufeff", "").encode()  # which paho takes for malformed
    text = len(words).to_bytes(2, "big") + words
    return packet_of(0, b"\x1f" + text + b"\x26" + text + text + (b"\x1c" + text if has_reference else b""))[1:]


def refusing_to_connect(code: int) -> ScriptedBroker:
    return ScriptedBroker(answers=[packet_of(0x20, bytes([0, code]) + words_of_a_broker(has_reference=True))])


def refusing_to_subscribe(code: int) -> ScriptedBroker:
    # the packet identifier is that of the first SUBSCRIBE, which has two filters
    words = words_of_a_broker(has_reference=False)
    return ScriptedBroker(subacks=[packet_of(0x90, b"\0\1" + words + bytes([code, code]))])


def hanging_up(code: int) -> ScriptedBroker:
    return ScriptedBroker(after_suback=packet_of(0xE0, bytes([code]) + words_of_a_broker(has_reference=True)))


@pytest.mark.parametrize("is_thorough", THOROUGHLY)
def test_no_word_of_a_broker_commands_the_terminal(is_thorough: bool) -> None:
    scenes = [
        (refusing_to_connect(0x87), 5, "refused user"),
        (refusing_to_connect(0x9D), 3, "0x9d"),
        (refusing_to_subscribe(0x87), 6, "refused to subscribe"),
        (hanging_up(0x8E), 3, "same client id"),
        (ScriptedBroker(answers=[10 * COMMANDS.encode()]), 3, ""),
    ]
    walks = list[Walk]()
    with ExitStack() as stack:
        for broker, code, shows in scenes:
            stack.enter_context(in_background(broker))
            address = ("-p", str(broker.port))
            walks.append(Walk(("listen", *address, "--debug"), code, shows))
            if is_thorough:
                walks += [
                    Walk(("listen", *address), code, shows, is_stdout_piped=True),
                    Walk(("fleet", *address, "--events"), code, shows),
                    Walk(("check", *address, "--within", "1s"), 2 if code in (5, 6) else 3, "PLANTOPS"),
                ]
        first = ("-p", str(scenes[0][0].port))
        walks += [
            Walk(("doctor", *first), 5, "0x87"),
            Walk(("check", *first), 2, "CONNACK 0x87"),
            Walk(("fleet", *first), 5, "refused user"),
            Walk(("listen", *first), 5, "refused user", is_stdout_piped=True),
        ]
        walk(walks, env=LOGIN)


def test_no_certificate_commands_the_terminal(tmp_path: Path) -> None:
    name = COMMANDS.replace("\x1b[2J", "") + "\u202e\u200b"
    authority, certificate, key = make_certificate_with(tmp_path, name, host=f"x{COMMANDS[:17]}.invalid")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    with in_background(ScriptedBroker(), tls) as broker:
        trusting = ("--cafile", str(authority))
        walks = [
            Walk(("doctor", "--wait", "0.1s", *trusting), 27, SEEN_AS_TEXT),
            Walk(("doctor", "--wait", "0.1s", "-o", "json", *trusting), 27, SEEN_AS_JSON),
            Walk(("doctor", "--tls"), 3, "not accepted"),
            Walk(("listen", "--tls", "--debug"), 3, "not accepted"),
        ]
        walk(walks, env={**LOGIN, "MQTT_PORT": str(broker.port)})


STRANGE = COMMANDS + CONTROLS + UNSEEN
USAGE, UNREACHABLE, FILE, TOPIC = 2, 3, 7, 8
SETTINGS = {
    "MQTT_PORT": USAGE,
    "MQTT_TLS": USAGE,
    "MQTT_CAFILE": USAGE,
    "MQTT_CERTFILE": USAGE,
    "MQTT_CLIENT_ID": USAGE,
    "MQTT_BACKEND_PASSWORD_FILE": USAGE,
}
FLAGS = {
    "--host": USAGE,
    "--cafile": USAGE,
    "--client-id": USAGE,
    "--url": USAGE,
    "--kind": USAGE,
    "--filter-out": USAGE,
    f"--{STRANGE}": USAGE,
}
MORE_FLAGS = {
    "--unix": UNREACHABLE,
    "--port": USAGE,
    "--cert": USAGE,
    "--secret-file": USAGE,
    "--durable": USAGE,
    "--group": USAGE,
    "--output": USAGE,
    "--count": USAGE,
    "--rotate-size": USAGE,
    "--rotate-every": USAGE,
    "--metrics-port": USAGE,
    "--session-expiry": USAGE,
    "--mqtt-version": USAGE,
}


@pytest.mark.parametrize("arguments", [("listen", "--debug"), pytest.param(("doctor",), marks=pytest.mark.long)])
def test_no_setting_commands_the_terminal(arguments: Sequence[str]) -> None:
    walk([Walk(arguments, code, env={name: STRANGE}) for name, code in SETTINGS.items()], env={"MQTT_PORT": "1"})


@pytest.mark.parametrize("is_thorough", THOROUGHLY)
def test_what_is_no_text_is_shown_as_escapes_and_is_no_accident(tmp_path: Path, is_thorough: bool) -> None:
    odd = os.fsdecode(NOT_UTF_8)
    (tmp_path / "roster").write_bytes(NOT_UTF_8)
    in_text = ascii(odd)[1:-1]
    in_json = in_text.replace("\\", "\\\\")
    walks = [
        Walk(("listen", "--host", odd), UNREACHABLE, in_text),
        Walk(("listen", odd), USAGE, in_text),
        Walk(("doctor", "--unix", odd, "-o", "json"), UNREACHABLE, in_json),
        Walk(("check", "--unix", odd, "-o", "json"), 3, in_json),
        Walk(("provision-user", "--file", f"{odd}/{odd}", "--no-verify", "-o", "json"), FILE),
        Walk(("parse-topic", f"devices/{odd}/telemetry"), TOPIC),
    ]
    if is_thorough:
        walks += [
            Walk(("listen", "--unix", odd), UNREACHABLE, in_text),
            Walk(("listen", "--client-id", odd), USAGE),
            Walk(("listen", "--username", odd), USAGE, in_text),
            Walk(("check", "--cafile", odd, "-o", "json"), 3, in_json),
            Walk(("check", "--contract", f"{odd}:{odd}"), 3, in_text),
            Walk(("fleet", "--once", "--expect", "roster"), USAGE),
        ]
    walk(walks, env={**LOGIN, "MQTT_PORT": "1", "NOTIFY_SOCKET": "@none"})


@pytest.mark.parametrize("is_thorough", THOROUGHLY)
def test_no_flag_commands_the_terminal(is_thorough: bool) -> None:
    flags = FLAGS | MORE_FLAGS if is_thorough else FLAGS
    walks = [Walk(("listen", flag, f"{STRANGE}/#/"), code) for flag, code in flags.items()]
    walk(walks, env={**LOGIN, "MQTT_PORT": "1"})


@pytest.mark.parametrize("is_thorough", THOROUGHLY)
def test_no_file_and_no_user_commands_the_terminal(tmp_path: Path, is_thorough: bool) -> None:
    folder = tmp_path / STRANGE
    folder.mkdir()
    password_file, secret = folder / "passwords", folder / "secret"
    password_file.write_bytes(b"".join(b"%s:$7$101$c2FsdA==$aGFzaA==\n" % name for name in USERS))
    secret.write_text("secret")
    (tmp_path / ".env").write_bytes(f"MQTT_CLIENT_ID='{STRANGE}\nnothing {STRANGE}\n".encode())
    (folder / "notes").write_text(STRANGE)
    (folder / "rights").write_text(f"{COMMANDS}{UNSEEN}\n")
    (folder / "conf").write_text(f"password_file {password_file}\nallow_anonymous {COMMANDS}\n")
    with_secret = ("provision-user", "--no-verify", "--secret-file", str(secret))
    make = (*with_secret, "--file", str(password_file))
    show = ("provision-user", "--no-verify", "--file")
    walks = [
        Walk((*show, str(password_file), "--list"), 0, SEEN_AS_TEXT),
        Walk((*show, str(password_file), "--list", "-o", "json"), 0, SEEN_AS_JSON),
        Walk((*show, str(folder / "new"), "--generate", "--show"), 0, SEEN_AS_TEXT),
        Walk((*make, STRANGE), USAGE, SEEN_AS_TEXT),
        Walk((*make, "--acl-file", str(folder / "rights")), FILE, SEEN_AS_TEXT),
        Walk((*with_secret, "--config", str(folder / "conf")), FILE, SEEN_AS_TEXT),
        Walk(("parse-topic", f"devices/{STRANGE}/telemetry", f"devices/{STRANGE}/#"), TOPIC, SEEN_AS_TEXT),
        Walk(("parse-topic", f"devices/{STRANGE}/telemetry", "-o", "jsonl"), 0, SEEN_AS_JSON),
        Walk(("check", "--contract", f"{STRANGE}:{STRANGE}", "--within", "1s"), 3, SEEN_AS_TEXT),
        Walk(("listen", "--to", str(folder / "none" / "x"), "--anonymous"), USAGE, SEEN_AS_TEXT),
        Walk((STRANGE,), USAGE, SEEN_AS_TEXT),
    ]
    if is_thorough:
        walks += [
            Walk((*with_secret, "--file", str(folder)), FILE, SEEN_AS_TEXT),
            Walk((*with_secret, "--config", str(folder / "notes")), USAGE),
            Walk((*make, "--reload", f"pid:{folder}"), 0, SEEN_AS_TEXT),
            Walk((*make, "--reload", STRANGE), USAGE),
            Walk((*make, "--owner", STRANGE), USAGE),
            Walk(("parse-topic", f"devices/{STRANGE}/heartbeat", "--field", "device_id"), 0, SEEN_AS_TEXT),
            Walk(("check", "--expect", str(folder / "notes"), "--within", "1s"), 3),
        ]
    walk(walks, env={"MQTT_PORT": "1", "MQTT_HOST": "127.0.0.1"})
