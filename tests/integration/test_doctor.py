"""``plantops doctor``: each broken set-up is named by its cause, with its cure and its exit code."""

import asyncio
import json
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_listen_tls import tls_mosquitto
from tests.support import dynsec_broker
from tests.support.brokers import PASSWORD, Mosquitto, free_port
from tests.support.certificates import Certificates
from tests.support.plantops import Done, run, start, start_on_terminal
from tests.support.publishing import publish
from tests.support.scripted_broker import ScriptedBroker, serving

Steps = list[dict[str, Any]]


def examine(environment: dict[str, str], *arguments: str | Path, code: int) -> Steps:
    done = run("doctor", *map(str, arguments), "-o", "json", env=environment)
    assert PASSWORD.encode() not in done.stdout
    assert done.code == code, (done.stdout, done.stderr)
    document = json.loads(done.stdout)
    assert (document["ok"], document["exit_code"]) == (code == 0, code)
    steps: Steps = document["steps"]
    return steps


def broken(steps: Steps) -> tuple[str, str]:
    """The step that failed, and all that is said of it; those before it went well, those behind were not tried."""
    statuses = [step["status"] for step in steps]
    failed = statuses.index("failed")
    assert set(statuses[:failed]) <= {"ok", "warning"}
    assert set(statuses[failed + 1 :]) <= {"skipped"}
    step = steps[failed]
    assert step["cure"]
    return step["name"], "\n".join([*step["details"], step["cure"]])


def named(steps: Steps, name: str) -> dict[str, Any]:
    return next(step for step in steps if step["name"] == name)


# What is well


def test_where_all_is_well_every_step_says_so_and_takes_its_time(mosquitto: Mosquitto) -> None:
    steps = examine(mosquitto.environment, "--canary", code=0)
    assert [(step["name"], step["status"]) for step in steps] == [
        ("settings", "ok"),
        ("name", "ok"),
        ("TCP", "ok"),
        ("MQTT", "ok"),
        ("grants", "ok"),
        ("subscribe", "ok"),
        ("subscribe", "ok"),
        ("canary", "ok"),
    ]
    assert all(step["milliseconds"] > 0 for step in steps[1:4])
    assert "receive maximum: 20" in "".join(named(steps, "grants")["details"])
    assert "shared subscriptions: yes" in "".join(named(steps, "grants")["details"])


def test_every_setting_says_where_it_comes_from(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MQTT_CLIENT_ID=from-a-file\n")
    steps = examine(mosquitto.environment, "-u", "plantops_backend", "--canary", code=0)
    said = named(steps, "settings")["details"]
    assert "MQTT_HOST=127.0.0.1 (environment)" in said
    assert "MQTT_CLIENT_ID=from-a-file (.env)" in said
    assert "MQTT_BACKEND_USERNAME=plantops_backend (--username)" in said
    assert "password: given (MQTT_BACKEND_PASSWORD, environment)" in said
    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    steps = examine({"MQTT_BACKEND_PASSWORD": PASSWORD}, "--url", url, "--canary", code=0)
    assert f"MQTT_PORT={mosquitto.port} (--url)" in named(steps, "settings")["details"]


def test_a_retained_message_is_not_taken_for_a_live_one(own_mosquitto: Mosquitto) -> None:
    publish(own_mosquitto, "devices/a/heartbeat", b"1", retain=True)
    steps = examine(own_mosquitto.environment, code=0)
    assert "devices/a/heartbeat (retained, from before, 1 bytes)" in named(steps, "message")["details"]


def test_over_tls_the_certificate_is_described(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert) as broker:
        steps = examine(broker.environment, "--cafile", certificates.ca, "--canary", code=0)
        tls = named(steps, "TLS")
        assert "for 127.0.0.1, localhost" in tls["details"]
        assert "signed by plantops test ca" in tls["details"]
        # the certificates of these tests are good for two days
        assert tls["status"] == "warning"
        assert "renew the broker's certificate" in tls["cure"]
        steps = examine(broker.environment, "--insecure", "--canary", code=0)
        assert "--insecure" in named(steps, "TLS")["cure"]


def test_on_a_terminal_and_in_a_pipe_it_reads_well(mosquitto: Mosquitto) -> None:
    done = run("doctor", "--canary", env={**mosquitto.environment, "PYTHONIOENCODING": "utf-8"})
    assert [line.split()[0] for line in done.stdout.decode().splitlines() if line[0] != " "] == ["✓"] * 8
    done = run("doctor", "-p", "1", env={**mosquitto.environment, "PYTHONIOENCODING": "ascii"})
    assert b"FAIL TCP" in done.stdout
    assert b"-> is the broker running" in done.stdout


def test_on_a_terminal_long_lines_are_broken_at_spaces_and_keep_their_margin(mosquitto: Mosquitto) -> None:
    with start_on_terminal("doctor", "--wait", "0.1", env={**mosquitto.environment, "COLUMNS": "70"}) as (
        running,
        _,
    ):
        done = running.finish()
    assert done.code == 27
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode()).splitlines()
    assert max(map(len, lines)) <= 70
    margin = lines[0].index("127.0.0.1")
    assert all(line[:margin].strip() == "" for line in lines if line[0] == " ")
    assert len([line for line in lines if line.strip().startswith("→")]) == 1


# What is broken


def test_no_password(mosquitto: Mosquitto) -> None:
    environment = {**mosquitto.environment, "MQTT_BACKEND_PASSWORD": ""}
    name, said = broken(examine(environment, code=2))
    assert name == "settings"
    assert "set MQTT_BACKEND_PASSWORD" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a/#/b",), "'#' must be the whole last level"),
        (("-q", "3"), "QoS 3"),
        (("--tls", "--cafile", "x"), "CA file x"),
    ],
)
def test_flags_that_make_no_sense(mosquitto: Mosquitto, arguments: tuple[str, ...], said: str) -> None:
    steps = examine(mosquitto.environment, *arguments, code=2)
    assert (steps[-1]["name"], steps[-1]["status"]) == ("settings", "failed")
    assert said in steps[-1]["details"][0]


def test_an_unknown_host_name() -> None:
    name, said = broken(examine({"MQTT_BACKEND_PASSWORD": "x"}, "-h", "broker.invalid", code=3))
    assert name == "name"
    assert "unknown host name" in said


def test_a_wrong_port(mosquitto: Mosquitto) -> None:
    name, said = broken(examine(mosquitto.environment, "-p", str(free_port()), code=3))
    assert name == "TCP"
    assert "connection refused" in said
    assert "is this its port?" in said


def test_tls_on_a_plain_port(mosquitto: Mosquitto) -> None:
    name, said = broken(examine(mosquitto.environment, "--tls", code=3))
    assert name == "TLS"
    assert "is this a TLS port?" in said


def test_no_tls_on_a_tls_port(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert) as broker:
        name, said = broken(examine(broker.environment, code=3))
    assert name == "MQTT"
    assert "a TLS port needs --tls" in said


def test_an_expired_certificate(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.expired_cert) as broker:
        name, said = broken(examine(broker.environment, "--cafile", certificates.ca, code=3))
    assert name == "TLS"
    assert "certificate has expired" in said
    assert "valid until 20" in said
    assert "renew the broker's certificate" in said


def test_a_certificate_for_another_host(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.other_host_cert) as broker:
        name, said = broken(examine(broker.environment, "--cafile", certificates.ca, code=3))
    assert name == "TLS"
    assert "for elsewhere.invalid" in said
    assert "issue one for 127.0.0.1" in said


@pytest.mark.parametrize("is_given", [True, False])
def test_an_authority_that_nobody_trusts(tmp_path: Path, certificates: Certificates, is_given: bool) -> None:
    arguments = ("--cafile", certificates.wrong_ca) if is_given else ("--tls",)
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert) as broker:
        name, said = broken(examine(broker.environment, *arguments, code=3))
    assert name == "TLS"
    assert "name the authority that signed it: --cafile" in said


def test_a_broker_that_wants_a_client_certificate(tmp_path: Path, certificates: Certificates) -> None:
    extra = "require_certificate true"
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert, extra=extra) as broker:
        name, said = broken(examine(broker.environment, "--cafile", certificates.ca, code=3))
    assert name == "MQTT"
    assert "--cert and --key" in said


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_wrong_password(mosquitto: Mosquitto, version: str) -> None:
    environment = {**mosquitto.environment, "MQTT_BACKEND_PASSWORD": "wrong horse"}
    steps = examine(environment, "-V", version, code=5)
    assert "wrong horse" not in json.dumps(steps)
    name, said = broken(steps)
    assert name == "MQTT"
    assert "refused user 'plantops_backend'" in said
    assert "4 and 5 of MQTT 3.1.1, 0x86 and 0x87 of MQTT 5 all mean" in said
    assert "plantops provision-user" in said


@pytest.fixture
def acl_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker whose ACL lets the backend publish and read nothing."""
    acl = tmp_path / "acl"
    acl.write_text("user plantops_backend\ntopic write devices/#\n")
    acl.chmod(stat.S_IRUSR | stat.S_IWUSR)
    broker = Mosquitto(tmp_path, extra=f"acl_file {acl}")
    broker.start()
    yield broker
    broker.stop()


def test_an_acl_that_withholds_everything_is_suspected_from_the_silence(acl_broker: Mosquitto) -> None:
    steps = examine(acl_broker.environment, "--wait", "0.5", code=27)
    assert steps[-1]["status"] == "warning"
    assert steps[-1]["details"] == ["none in 0.5 s"]
    assert "a granted SUBACK proves nothing" in steps[-1]["cure"]
    assert {step["status"] for step in steps[:-1]} == {"ok"}


def test_an_acl_that_withholds_everything_is_proven_by_a_canary(acl_broker: Mosquitto) -> None:
    name, said = broken(examine(acl_broker.environment, "--canary", "--wait", "1", code=6))
    assert name == "canary"
    assert "was published and did not come back" in said
    assert "grants the subscription and withholds the messages" in said


def test_a_canary_that_may_not_be_published_proves_nothing(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("user plantops_backend\ntopic read devices/#\n")
    broker = Mosquitto(tmp_path, extra=f"acl_file {acl}")
    broker.start()
    try:
        steps = examine(broker.environment, "--canary", "--wait", "1", code=0)
        old = examine(broker.environment, "--canary", "--wait", "1", "-V", "3.1.1", code=0)
    finally:
        broker.stop()
    assert "may not publish" in steps[-1]["details"][0]
    assert "PUBACK 0x87" in steps[-1]["details"][0]
    assert "MQTT 3.1.1 does not tell" in old[-1]["cure"]
    assert "no words for it" in named(old, "grants")["details"][0]


def test_a_subscription_that_dynamic_security_refuses(tmp_path: Path) -> None:
    broker = dynsec_broker.start(tmp_path)
    try:
        name, said = broken(examine(broker.environment, code=6))
    finally:
        broker.stop()
    assert name == "subscribe"
    assert "devices/+/telemetry: refused, SUBACK 0x87" in said
    assert "access control" in said


def test_a_broker_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {"MQTT_BACKEND_PASSWORD": "x", "MQTT_HOST": "127.0.0.1"}
        name, said = broken(
            examine(environment, "-p", str(silent.getsockname()[1]), "--connect-timeout", "2", code=3)
        )
    assert name == "MQTT"
    assert "no MQTT answer within" in said
    assert "is it an MQTT broker" in said


async def test_a_broker_that_is_silent_on_mqtt_5() -> None:
    async with serving(ScriptedBroker(answers=[None, 0])) as broker:
        environment = {"MQTT_BACKEND_PASSWORD": "x", "MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port)}
        steps = await asyncio.to_thread(examine, environment, "--wait", "0.1", "--connect-timeout", "4", code=27)
    step = named(steps, "MQTT")
    assert step["status"] == "warning"
    assert "connected with MQTT 3.1.1" in str(step["details"])
    assert re.search(r"no answer to MQTT 5 within (3|2\.\d) s", str(step["details"]))
    assert "-V 3.1.1" in str(step["cure"])


def test_a_unix_socket_without_a_broker(tmp_path: Path) -> None:
    steps = examine({"MQTT_BACKEND_PASSWORD": "x"}, "--unix", tmp_path / "socket", code=3)
    name, said = broken(steps)
    assert name == "socket"
    assert "no such file" in said.lower()
    assert "TCP" not in {step["name"] for step in steps}


def test_a_broker_with_less_than_was_asked_for(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, extra="max_qos 0")
    broker.start()
    try:
        steps = examine(broker.environment, "--wait", "0.3", code=27)
    finally:
        broker.stop()
    assert named(steps, "grants")["cure"] == "this broker has no QoS 1"
    assert named(steps, "subscribe")["details"] == ["devices/+/telemetry: granted at QoS 0, not 1"]
    assert named(steps, "subscribe")["status"] == "warning"


def test_ctrl_c_ends_it(mosquitto: Mosquitto) -> None:
    def stopped() -> Done:
        with start("doctor", "--wait", "60", env=mosquitto.environment) as running:
            running.stdout.wait_for("telemetry: granted")
            return running.finish(2)

    done = stopped()
    assert done.code == 130
    assert done.seconds < 5
