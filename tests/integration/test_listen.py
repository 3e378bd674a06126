"""``plantops listen`` on a real Mosquitto, through real pipes."""

import base64
import fcntl
import json
import os
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Done, Running, Stream, read_to_the_end, run, start
from tests.support.processes import COMMAND
from tests.support.publishing import publish
from tests.support.terminal import run_on_terminal

MANY = 10_000
PIPE_BYTES = 65_536
DEEP = b"[" * 5_000 + b"]" * 5_000
LONG = b'"' + b"x" * (8 << 20) + b'"'


@pytest.fixture
def device() -> str:
    """A device id that no other test uses."""
    return f"plant-{uuid4().hex[:12]}"


@pytest.fixture
def patient_mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that drops nothing when a publisher is faster than a subscriber; by default it queues 1,000."""
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    yield broker
    broker.stop()


def numbered(count: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(count)]


def publish_in_flight(broker: Mosquitto, topic: str, payloads: Sequence[bytes]) -> None:
    """Publish at QoS 1 with up to 100 messages in flight, and wait for every PUBACK."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(USERNAME, PASSWORD)
    client.max_inflight_messages_set(100)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        for sent in [client.publish(topic, payload, qos=1) for payload in payloads]:
            sent.wait_for_publish(PATIENCE_SECONDS)
            assert sent.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


def wait_until_the_pipe_is_full(listening: Running) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    waiting = 0
    while waiting < PIPE_BYTES - 4 * os.fpathconf(listening.stdout.descriptor, "PC_PIPE_BUF"):
        assert time.monotonic() < deadline, f"{waiting} bytes in the pipe"
        time.sleep(0.02)
        waiting = struct.unpack("i", fcntl.ioctl(listening.stdout.descriptor, termios.FIONREAD, b"\0" * 4))[0]


def fill(pipe: int) -> None:
    """Write to a pipe until not a byte fits into it any more."""
    for size in (select.PIPE_BUF, 1):
        try:
            while os.write(pipe, b"x" * size):
                pass
        except BlockingIOError:
            pass


def shown(done: Done) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.lines]


def payloads(done: Done) -> list[object]:
    return [line.get("payload") for line in shown(done)]


# Nothing lost, nothing altered


def test_ten_thousand_messages_arrive_once_each_through_a_pipe(patient_mosquitto: Mosquitto) -> None:
    arguments = ("-o", "jsonl", "-C", str(MANY))
    with start("listen", *arguments, env=patient_mosquitto.environment, pipe_to="wc -l") as listening:
        listening.stderr.wait_for("connected to")
        publish(patient_mosquitto, "devices/a/telemetry", *numbered(MANY))
        assert int(listening.finish().stdout) == MANY


def test_ten_thousand_messages_arrive_in_order(patient_mosquitto: Mosquitto) -> None:
    with start("listen", "-C", str(MANY), env=patient_mosquitto.environment, pipe_to="cat") as listening:
        listening.stderr.wait_for("connected to")
        publish_in_flight(patient_mosquitto, "devices/a/telemetry", numbered(MANY))
        done = listening.finish()
    assert payloads(done) == [{"n": number} for number in range(MANY)]


def test_json_payloads_pass_byte_for_byte(mosquitto: Mosquitto, device: str) -> None:
    sent = b'{"b":1.10,"a":1E+05,"a":-0,"n":%s, "u":"\\u00e9\xc3\xa9"}' % (b"1234567890" * 4)
    publish(mosquitto, f"devices/{device}/telemetry", sent, retain=True)
    done = run("listen", "--device", device, "-C", "1", env=mosquitto.environment)
    assert b'"payload":' + sent + b"}" in done.stdout


def test_a_line_says_what_when_and_how(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/heartbeat", b"1", retain=True)
    [line] = shown(run("listen", "--device", device, "-C", "1", env=mosquitto.environment))
    assert list(line) == ["tst", "topic", "device_id", "kind", "qos", "retain", "payload"]
    assert line["topic"] == f"devices/{device}/heartbeat"
    assert (line["device_id"], line["kind"], line["qos"], line["retain"]) == (device, "heartbeat", 1, True)


NOT_JSON = [b"", b"alive", b"NaN", b'{"a":NaN}', DEEP]


def test_any_payload_is_delivered_and_what_is_not_json_is_marked(mosquitto: Mosquitto, device: str) -> None:
    with start("listen", "--device", device, "-C", "7", env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", *NOT_JSON, b"\xff\x00", LONG)
        done = listening.finish()
    *texts, binary, long = shown(done)
    assert done.code == 0
    assert [text["payload"] for text in texts] == [payload.decode() for payload in NOT_JSON]
    assert all(line["valid"] is False and line["error"] for line in [*texts, binary])
    assert base64.b64decode(str(binary["payload_b64"])) == b"\xff\x00"
    assert str(long["payload"]).encode() == LONG.strip(b'"')
    assert "valid" not in long


def test_any_payload_has_its_line_for_people(mosquitto: Mosquitto, device: str) -> None:
    with start("listen", "--device", device, "-C", "7", "-o", "pretty", env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", *NOT_JSON, b"\xff\x00", LONG)
        done = listening.finish()
    assert (done.code, len(done.lines)) == (0, 7)
    assert [b"invalid" in line for line in done.lines] == [True] * 6 + [False]


# Outages


def test_the_stream_goes_on_after_the_broker_was_restarted(own_mosquitto: Mosquitto) -> None:
    with start("listen", "-C", "2", env=own_mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(own_mosquitto, "devices/a/telemetry", b"1")
        listening.stdout.wait_for("\n")
        own_mosquitto.stop()
        listening.stderr.wait_for("connection lost.*\n.*retry in ")
        own_mosquitto.start()
        listening.stderr.wait_for("resumed after ")
        publish(own_mosquitto, "devices/a/telemetry", b"2")
        done = listening.finish()
    assert (done.code, payloads(done)) == (0, [1, 2])
    assert "1 outage, messages may be missing: " in done.stderr.splitlines()[-1]


def test_wait_for_broker_connects_when_the_broker_appears(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with start("listen", "--wait-for-broker", env=broker.environment) as listening:
        listening.stderr.wait_for("retry in ")
        broker.start()
        try:
            listening.stderr.wait_for("connected to ")
            assert listening.finish(signal.SIGTERM).code == 0
        finally:
            broker.stop()


def test_waiting_for_a_broker_ends_by_sigterm(tmp_path: Path) -> None:
    with start("listen", "--wait-for-broker", env=Mosquitto(tmp_path).environment) as listening:
        listening.stderr.wait_for("retry in ")
        done = listening.finish(signal.SIGTERM)
    assert (done.code, done.errors) == (0, [])
    assert done.seconds < 5


# How it ends


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        ((), signal.SIGINT, 0),
        ((), signal.SIGTERM, 0),
        (("-C", "5"), signal.SIGINT, 130),
        (("-C", "5"), signal.SIGTERM, 143),
    ],
)
def test_a_signal_is_an_end_and_a_failure_only_when_a_count_was_asked_for(
    mosquitto: Mosquitto, device: str, arguments: Sequence[str], number: int, code: int
) -> None:
    with start("listen", "--device", device, *arguments, env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        done = listening.finish(number)
    assert (done.code, done.errors, done.stdout) == (code, [], b"")


def test_a_second_ctrl_c_ends_at_once(mosquitto: Mosquitto, device: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stderr")
    said = os.open(tmp_path / "stderr", os.O_RDWR | os.O_NONBLOCK)
    with start("listen", "--device", device, env=mosquitto.environment, redirect="2>stderr") as listening:
        Stream(said).wait_for("connected to .*\n")
        fill(said)  # the farewell now waits for somebody to read it
        while listening.process.poll() is None:
            listening.process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        assert listening.process.returncode == -signal.SIGINT
    os.close(said)


def test_a_reader_that_has_gone_ends_the_stream_without_another_message(mosquitto: Mosquitto, device: str) -> None:
    with start("listen", "--device", device, env=mosquitto.environment, pipe_to="head -n 1") as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", b"1")
        done = listening.finish()
    assert (payloads(done), done.stderr.splitlines()[-1]) == ([1], "exit 0")
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_in_the_middle_of_a_flood_ends_the_stream(mosquitto: Mosquitto, device: str) -> None:
    with start("listen", "--device", device, env=mosquitto.environment, pipe_to="head -n 1") as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", *[b'"%s"' % (b"x" * 1_000)] * 500)
        done = listening.finish()
    assert done.stderr.splitlines()[-1] == "exit 0"
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_reading_cannot_hold_sigterm_back(mosquitto: Mosquitto, device: str) -> None:
    with start("listen", "--device", device, env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", *[b'"%s"' % (b"x" * 1_000)] * 200)
        wait_until_the_pipe_is_full(listening)
        listening.process.terminate()
        assert listening.process.wait(timeout=10) == 0
        done = listening.finish()
    assert done.stdout.endswith(b"\n")
    assert f" {len(done.lines)} shown" in done.stderr


def test_a_count_that_is_met_ends_with_0_and_not_one_line_more(mosquitto: Mosquitto, device: str) -> None:
    with start("listen", "--device", device, "-C", "3", env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", *numbered(5))
        done = listening.finish()
    assert (done.code, payloads(done)) == (0, [{"n": 0}, {"n": 1}, {"n": 2}])


@pytest.mark.parametrize(
    ("is_retained", "arguments", "code"),
    [(False, (), 27), (True, (), 0), (True, ("-C", "1"), 0), (True, ("-C", "2"), 27)],
    ids=["no message", "a message", "count met", "count unmet"],
)
def test_a_timeout_is_a_failure_without_a_message_or_with_a_count_unmet(
    mosquitto: Mosquitto, device: str, *, is_retained: bool, arguments: Sequence[str], code: int
) -> None:
    if is_retained:
        publish(mosquitto, f"devices/{device}/telemetry", b"1", retain=True)
    done = run("listen", "--device", device, "-W", "1", *arguments, env=mosquitto.environment)
    assert (done.code, len(done.lines), done.errors) == (code, int(is_retained), [])


def test_a_timeout_may_be_a_fraction_of_a_second(mosquitto: Mosquitto, device: str) -> None:
    done = run("listen", "--device", device, "-W", "0.5", env=mosquitto.environment)
    assert re.search(r"\n.* 0 messages in [0-4]\.\d s ", done.stderr)


# What is chosen


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("devices/{id}/#",), ["telemetry", "heartbeat", "status"]),
        (("devices/{id}/#", "-T", "devices/+/telemetry", "-T", "+/+/status"), ["heartbeat"]),
        (("--device", "{id}"), ["telemetry", "heartbeat"]),
        (("--device", "{id}", "--kind", "heartbeat"), ["heartbeat"]),
        (("devices/#", "--device", "{id}", "--kind", "telemetry"), ["telemetry"]),
    ],
)
def test_only_what_was_asked_for_is_shown(
    mosquitto: Mosquitto, device: str, arguments: Sequence[str], wanted: list[str]
) -> None:
    filled = [argument.format(id=device) for argument in arguments]
    with start("listen", *filled, "-C", str(len(wanted)), env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, "devices/somebody-else/other", b"0")
        for kind in ("telemetry", "heartbeat", "status"):
            publish(mosquitto, f"devices/{device}/{kind}", b"0")
        done = listening.finish()
    assert [str(line["topic"]).split("/") for line in shown(done)] == [
        ["devices", device, kind] for kind in wanted
    ]


def test_no_retained_leaves_out_what_the_broker_has_kept(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b'"kept"', retain=True)
    with start("listen", "--device", device, "-R", "-C", "1", env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", b'"live"')
        assert payloads(listening.finish()) == ["live"]


def test_retained_only_leaves_out_what_is_published_now(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b'"kept"', retain=True)
    arguments = ("--device", device, "--retained-only", "-W", "1")
    with start("listen", *arguments, env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/heartbeat", b'"live"')
        done = listening.finish()
    assert payloads(done) == ["kept"]
    assert "2 messages" in done.stderr
    assert "1 shown" in done.stderr


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_granted_qos_is_said_and_kept(mosquitto: Mosquitto, device: str, qos: int) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b"1", qos=2, retain=True)
    done = run("listen", "--device", device, "-q", str(qos), "-C", "1", env=mosquitto.environment)
    assert f"devices/{device}/telemetry at QoS {qos}, devices/{device}/heartbeat at QoS {qos}" in done.stderr
    assert [line["qos"] for line in shown(done)] == [qos]


# Who connects, and how


def test_the_broker_sees_client_id_version_and_keepalive_as_they_were_given(own_mosquitto: Mosquitto) -> None:
    publish(own_mosquitto, "devices/a/telemetry", b"1", retain=True)
    arguments = ("-i", "plant-watch", "-V", "3.1.1", "-k", "7", "-C", "1")
    done = run("listen", *arguments, env=own_mosquitto.environment)
    assert "with MQTT 3.1.1" in done.stderr
    # p2 is Mosquitto's number for MQTT 3.1.1
    assert f"as plant-watch (p2, c1, k7, u'{USERNAME}')" in (own_mosquitto.folder / "log").read_text()


def test_two_listeners_without_a_client_id_do_not_take_each_other_over(mosquitto: Mosquitto, device: str) -> None:
    arguments = ("listen", "--device", device, "-C", "1")
    with (
        start(*arguments, env=mosquitto.environment) as one,
        start(*arguments, env=mosquitto.environment) as two,
    ):
        one.stderr.wait_for("connected to")
        two.stderr.wait_for("connected to")
        publish(mosquitto, f"devices/{device}/telemetry", b"1")
        assert (one.finish().code, two.finish().code) == (0, 0)


def test_a_login_can_come_from_a_secret_file(mosquitto: Mosquitto, device: str, tmp_path: Path) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b"1", retain=True)
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(f"{PASSWORD}\n")
    env = mosquitto.environment | {"MQTT_BACKEND_PASSWORD": "", "MQTT_BACKEND_USERNAME": "somebody-else"}
    done = run("listen", "--device", device, "-u", USERNAME, "--secret-file", str(secret), "-C", "1", env=env)
    assert (done.code, done.errors) == (0, [])


def test_a_password_can_come_from_standard_input(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b"1", retain=True)
    env = mosquitto.environment | {"MQTT_BACKEND_PASSWORD": ""}
    done = run("listen", "--device", device, "--secret-file", "-", "-C", "1", env=env, stdin=PASSWORD.encode())
    assert (done.code, done.errors) == (0, [])


def test_a_password_can_be_typed_and_is_not_shown(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b"1", retain=True)
    env = {**os.environ, **mosquitto.environment, "MQTT_BACKEND_PASSWORD": ""}
    done = run_on_terminal(
        [*COMMAND, "listen", "--device", device, "-P", "-C", "1"], answers=[f"{PASSWORD}\n".encode()], env=env
    )
    assert done.returncode == 0
    assert PASSWORD.encode() not in done.stdout + done.stderr


# What is said beside the messages


def test_status_and_summary_tell_the_story(own_mosquitto: Mosquitto) -> None:
    publish(own_mosquitto, "devices/a/telemetry", b"1", retain=True)
    with start("listen", "-C", "4", env=own_mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        publish(own_mosquitto, "devices/a/telemetry", b"nonsense", b"2")
        publish(own_mosquitto, "devices/a/heartbeat", b"{}")
        said = listening.finish().stderr.splitlines()
    endpoint = f"127.0.0.1:{own_mosquitto.port}"
    assert said[0] == f"plantops: connecting to {endpoint}"
    assert said[1] == (
        f"plantops: connected to {endpoint} with MQTT 5: "
        "devices/+/telemetry at QoS 1, devices/+/heartbeat at QoS 1"
    )
    assert said[2].startswith("plantops: 4 messages in ")
    assert said[2].endswith("(3 telemetry, 1 heartbeat, 0 other; 1 invalid, 1 retained, 0 duplicates)")


def test_quiet_says_nothing_but_messages(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b"1", retain=True)
    done = run("listen", "--device", device, "--quiet", "-C", "1", env=mosquitto.environment)
    assert (payloads(done), done.stderr) == ([1], "")


def test_pretty_lines_off_a_terminal_have_no_colour(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b'{"moisture":41.5}', retain=True)
    done = run("listen", "--device", device, "-o", "pretty", "-C", "1", env=mosquitto.environment)
    assert device.encode() in done.stdout
    assert b"moisture=41.5" in done.stdout
    assert b"\x1b" not in done.stdout


def test_a_closed_stderr_neither_stops_the_stream_nor_gets_into_it(mosquitto: Mosquitto, device: str) -> None:
    publish(mosquitto, f"devices/{device}/telemetry", b"1", retain=True)
    done = run("listen", "--device", device, "-C", "1", env=mosquitto.environment, redirect="2>&-")
    assert (done.code, payloads(done)) == (0, [1])


def test_a_stderr_that_nobody_reads_any_more_does_not_stop_the_stream(mosquitto: Mosquitto, device: str) -> None:
    with start("listen", "--device", device, "-C", "1", env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        listening.stderr.close()
        publish(mosquitto, f"devices/{device}/telemetry", b"1")
        read_to_the_end(listening.stdout)
        assert (listening.process.wait(timeout=10), listening.stdout.text.count(b"\n")) == (0, 1)


def test_a_closed_stdout_is_an_error_that_is_said(mosquitto: Mosquitto) -> None:
    done = run("listen", env=mosquitto.environment, redirect=">&-")
    assert (done.code, len(done.errors)) == (1, 1)
    assert "standard output is closed" in done.errors[0]
