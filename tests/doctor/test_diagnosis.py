"""The steps of an examination, on brokers that are well and on brokers that are not."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plantops_cli import errors
from plantops_cli.doctor.diagnosis import Diagnosis
from plantops_cli.doctor.step import Step, StepResult
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.tls import TLSOptions
from tests.integration.test_listen_tls import tls_mosquitto
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.certificates import Certificates
from tests.support.scripted_broker import (
    CLOSE,
    PUBLISH,
    ScriptedBroker,
    connack,
    disconnect,
    packet_of,
    properties_of,
    serving,
    with_length,
)
from tests.support.silent_addresses import resolver, silent

FILTERS = ("devices/+/telemetry", "devices/+/heartbeat")
OK, WARNING, FAILED, SKIPPED = StepResult
NO_WAIT_SECONDS = 0.1
A_RETAINED_HEARTBEAT = b"\x31\x16\x00\x13devices/a/heartbeat\x00"


def login(port: int, **more: Any) -> ConnectOptions:
    return ConnectOptions(host="127.0.0.1", port=port, username=USERNAME, password=PASSWORD, **more)


async def examined(
    options: ConnectOptions, filters: Sequence[str] = FILTERS[:1], *, wait_seconds: float = 10.0, **more: Any
) -> list[Step]:
    return [step async for step in Diagnosis(options, filters, wait_seconds=wait_seconds, **more).steps()]


def broker_that_grants(**granted: int | str) -> ScriptedBroker:
    return ScriptedBroker(answers=[connack(0, version=5, properties=properties_of(**granted))])


def results(steps: list[Step]) -> list[tuple[str, StepResult]]:
    return [(step.name, step.result) for step in steps]


def broken(steps: list[Step]) -> Step:
    """The step that failed; behind it nothing was tried."""
    failed = next(position for position, step in enumerate(steps) if step.result is FAILED)
    assert {step.result for step in steps[failed + 1 :]} <= {SKIPPED}
    return steps[failed]


async def test_where_all_is_well_each_step_is_ok_in_its_order(mosquitto: Mosquitto) -> None:
    steps = await examined(login(mosquitto.port), FILTERS, is_canary=True)
    assert results(steps) == [
        ("name", OK),
        ("TCP", OK),
        ("MQTT", OK),
        ("grants", OK),
        ("subscribe", OK),
        ("subscribe", OK),
        ("canary", OK),
    ]
    assert all(step.error is None for step in steps)


async def test_a_step_that_fails_is_the_last_that_is_tried() -> None:
    steps = await examined(login(free_port()))
    assert results(steps) == [
        ("name", OK),
        ("TCP", FAILED),
        ("MQTT", SKIPPED),
        ("grants", SKIPPED),
        ("subscribe", SKIPPED),
        ("message", SKIPPED),
    ]
    assert isinstance(broken(steps).error, errors.BrokerUnreachableError)


async def test_silent_addresses_of_a_name_are_passed_over_and_named(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver("127.0.0.2", "::1", "127.0.0.1"))
    options = ConnectOptions(host="broker.example", port=mosquitto.port, username=USERNAME, password=PASSWORD)
    with silent("127.0.0.2", port=mosquitto.port):
        steps = await examined(options, is_canary=True)
    tcp, mqtt = steps[1], steps[2]
    assert steps[0].details == ("broker.example is 127.0.0.2, ::1, 127.0.0.1",)
    assert tcp.details[0] == f"127.0.0.1 port {mosquitto.port} answers"
    assert f"127.0.0.2 port {mosquitto.port}: no answer" in tcp.details
    assert tcp.cure == "broker.example has addresses that do not answer"
    assert mqtt.result is not FAILED


async def test_an_address_that_stands_for_another_one_is_reached(mosquitto: Mosquitto) -> None:
    anywhere = replace(login(mosquitto.port), host="0.0.0.0")
    steps = await examined(anywhere, is_canary=True)
    assert steps[1].details == (f"127.0.0.1 port {mosquitto.port} answers",)
    assert not [step for step in steps if step.result is FAILED]


async def test_where_no_address_answers_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(socket, "getaddrinfo", resolver("127.0.0.2", "127.0.0.1"))
    with silent("127.0.0.2", port=port):
        options = ConnectOptions(host="broker.example", port=port, timeout_seconds=0.5)
        step = broken(await examined(options))
    assert step.name == "TCP"
    assert step.details == (
        f"127.0.0.2 port {port}: no answer",
        f"127.0.0.1 port {port}: connection refused",
    )
    assert str(step.error) == f"broker.example:{port}: no answer to the attempt to connect within 0.5 s"


async def test_a_unix_socket_takes_the_place_of_name_and_tcp(tmp_path: Path) -> None:
    steps = await examined(login(1883, unix_socket=str(tmp_path / "none")))
    assert [step.name for step in steps] == ["socket", "MQTT", "grants", "subscribe", "message"]
    assert broken(steps).cure == "is the broker running, and has it a listener 0 at this path?"


async def test_a_host_without_an_address_is_the_name_s_fault() -> None:
    options = ConnectOptions(host="broker.invalid", port=1883)
    step = broken(await examined(options))
    assert (step.name, type(step.error)) == ("name", errors.BrokerUnreachableError)


async def test_a_login_that_is_refused_is_explained_for_each_version(mosquitto: Mosquitto) -> None:
    options = ConnectOptions(host="127.0.0.1", port=mosquitto.port, username=USERNAME, password="wrong horse")
    step = broken(await examined(options))
    assert (step.name, type(step.error)) == ("MQTT", errors.CredentialsRefusedError)
    assert "all mean a wrong user name or password" in step.details[1]
    assert "wrong horse" not in repr(step)


async def test_a_certificate_is_described_when_it_is_accepted(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert) as broker:
        steps = await examined(login(broker.port, tls=TLSOptions(certificates.ca)), is_canary=True)
        unnamed = await examined(
            login(broker.port, tls=TLSOptions(certificates.ca, insecure=True)), is_canary=True
        )
        unchecked = await examined(login(broker.port, tls=TLSOptions(insecure=True)), is_canary=True)
    tls = steps[2]
    # the certificates of these tests are good for two days
    assert (tls.name, tls.result) == ("TLS", WARNING)
    assert "for 127.0.0.1, localhost" in tls.details
    assert tls.cure is not None
    assert tls.cure.startswith("renew the broker's certificate")
    assert unchecked[2].cure is not None
    assert unchecked[2].cure.startswith("the certificate is not checked")
    assert str(unnamed[2].cure).startswith("the name in it is not checked")
    assert unnamed[3].cure == unchecked[3].cure == "leave TLSOptions(insecure=True) away"
    assert "signed by plantops test ca" in unnamed[2].details


async def test_and_too_when_it_is_refused(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.other_host_cert) as broker:
        step = broken(await examined(login(broker.port, tls=TLSOptions(certificates.ca))))
    assert (step.name, type(step.error)) == ("TLS", errors.ProtocolRefusedError)
    assert "for elsewhere.invalid" in step.details
    assert step.cure == "connect to a name that stands in it, or issue one for 127.0.0.1"


async def test_of_one_whose_authority_nobody_knows_nothing_is_shown(
    tmp_path: Path, certificates: Certificates
) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert) as broker:
        step = broken(await examined(login(broker.port, tls=TLSOptions(certificates.wrong_ca))))
    assert len(step.details) == 1
    assert step.cure is not None
    assert step.cure.startswith("name the authority that signed it")


async def test_a_refused_subscription_names_filter_and_code() -> None:
    async with serving(ScriptedBroker(subacks=[(0x87,)])) as broker:
        step = broken(await examined(login(broker.port)))
    assert (step.name, type(step.error)) == ("subscribe", errors.SubscriptionRefusedError)
    assert step.details == ("devices/+/telemetry: refused, SUBACK 0x87, Not authorized",)


async def test_what_the_broker_says_of_a_refused_subscription_is_shown() -> None:
    suback = packet_of(0x90, b"\0\1" + with_length(properties_of(ReasonString="eight at\x1b most")) + b"\x97")
    async with serving(ScriptedBroker(subacks=[suback])) as broker:
        step = broken(await examined(login(broker.port)))
    assert step.details[1] == r"the broker says 'eight at\x1b most'"
    assert "fewer filters" in str(step.cure)


async def test_an_end_over_a_subscription_is_told_as_one() -> None:
    async with serving(ScriptedBroker(subacks=[disconnect(0x9E)])) as broker:
        step = broken(await examined(login(broker.port), ["$share/g/a"]))
    assert "the broker ended the connection over '$share/g/a'" in step.details[0]
    assert isinstance(step.error, errors.SubscriptionRefusedError)


async def test_a_password_that_a_function_gives_is_shown_by_no_step_that_repeats_the_broker() -> None:
    async with serving(broker_that_grants(ReasonString=f"let in with {PASSWORD}")) as broker:
        steps = await examined(replace(login(broker.port), password=lambda: PASSWORD), wait_seconds=0.1)
    assert "the broker says 'let in with ...'" in steps[3].details


async def test_what_the_broker_has_said_that_it_lacks_is_not_asked_for() -> None:
    async with serving(broker_that_grants(WildcardSubscriptionAvailable=0)) as broker:
        step = broken(await examined(login(broker.port)))
    assert step.name == "subscribe"
    assert "has said that it does not take 'devices/+/telemetry'" in step.details[0]
    assert "name each topic in full" in str(step.cure)


async def test_a_broker_that_takes_qos_0_alone_gets_its_canary_so() -> None:
    async with serving(broker_that_grants(MaximumQoS=0, ReasonString="welcome")) as broker:
        steps = await examined(login(broker.port), FILTERS[1:], is_canary=True, wait_seconds=NO_WAIT_SECONDS)
        await broker.wait_for(PUBLISH)
    assert (steps[3].name, steps[3].cure) == ("grants", "this broker has no QoS 1")
    assert "the broker says 'welcome'" in steps[3].details


async def test_less_than_was_asked_for_is_a_warning() -> None:
    async with serving(ScriptedBroker(subacks=[(0,)])) as broker:
        steps = await examined(login(broker.port), wait_seconds=NO_WAIT_SECONDS)
    assert steps[-2].details == ("devices/+/telemetry: granted at QoS 0, not 1",)
    assert (steps[-2].result, steps[-2].cure) == (WARNING, "messages may be lost")


async def test_silence_is_a_warning_that_names_both_of_its_causes() -> None:
    async with serving(ScriptedBroker()) as broker:
        steps = await examined(login(broker.port), wait_seconds=NO_WAIT_SECONDS)
    assert (steps[-1].name, steps[-1].result, steps[-1].details) == ("message", WARNING, ("none in 0.1 s",))
    assert steps[-1].cure is not None
    assert "nobody may have published" in steps[-1].cure
    assert "acl_file withholds it" in steps[-1].cure


@pytest.mark.parametrize(("version", "result"), [("5", OK), ("3.1.1", WARNING)])
async def test_a_shared_subscription_may_be_the_cause_of_silence(version: str, result: StepResult) -> None:
    async with serving(ScriptedBroker()) as broker:
        how = login(broker.port, mqtt_version=MQTTVersion(version))
        steps = await examined(how, ["$share/g/a"], wait_seconds=NO_WAIT_SECONDS)
    assert steps[-2].result is result
    assert "does not know shared subscriptions" in str(steps[-1].cure)


async def test_a_retained_message_is_called_one() -> None:
    async with serving(ScriptedBroker(after_suback=A_RETAINED_HEARTBEAT)) as broker:
        steps = await examined(login(broker.port))
    assert steps[-1].details == ("devices/a/heartbeat (retained, from before, 0 bytes)",)


async def test_a_connection_that_ends_while_a_message_is_waited_for_is_broken() -> None:
    async with serving(ScriptedBroker(after_suback=b"\xe0\x02\x8b\x00")) as broker:
        step = broken(await examined(login(broker.port)))
    assert isinstance(step.error, errors.ConnectionLostError)
    assert "0x8b" in step.details[0]


async def test_a_broker_that_hangs_up_on_connect_is_broken_there() -> None:
    async with serving(ScriptedBroker(answers=[CLOSE])) as broker:
        step = broken(await examined(login(broker.port)))
    assert (step.name, type(step.error)) == ("MQTT", errors.BrokerUnreachableError)


async def test_a_canary_that_no_filter_matches_is_not_sent(mosquitto: Mosquitto) -> None:
    steps = await examined(login(mosquitto.port), ["$SYS/broker/version"], is_canary=True)
    assert (steps[-1].name, steps[-1].result) == ("canary", WARNING)
    assert steps[-1].details[0].startswith("no filter matches devices/plantops-canary-")


async def test_who_breaks_off_leaves_no_connection_behind(mosquitto: Mosquitto) -> None:
    steps = Diagnosis(login(mosquitto.port), FILTERS).steps()
    async for step in steps:
        if step.name == "grants":
            break
    await steps.aclose()
    assert {task.get_name() for task in asyncio.all_tasks()} & {"plantops-diagnosis"} == set()


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_the_broker_grants_is_listed_and_held_against_what_was_asked(tmp_path: Path, qos: int) -> None:
    broker = Mosquitto(tmp_path, extra="max_qos 1")
    broker.start()
    try:
        steps = await examined(login(broker.port), qos=qos, wait_seconds=NO_WAIT_SECONDS)
    finally:
        broker.stop()
    grants = next(step for step in steps if step.name == "grants")
    assert "maximum QoS: 1" in ", ".join(grants.details)
    assert grants.cure == ("this broker has no QoS 2" if qos == 2 else None)
