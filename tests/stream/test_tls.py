import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerError, BrokerUnreachableError, ConfigError, ProtocolRefusedError
from plantops_cli.stream.tls import TLSOptions
from tests.support.brokers import Mosquitto
from tests.support.certificates import Certificates, make_plain_certificate
from tests.support.subscribing import subscribing

LISTENER = "listener {{port}} 127.0.0.1\ncafile {ca}\ncertfile {cert}\nkeyfile {key}"


def tls_broker(folder: Path, certificates: Certificates, *, cert: Path, extra: str = "") -> Mosquitto:
    listener = LISTENER.format(ca=certificates.ca, cert=cert, key=certificates.server_key)
    return Mosquitto(folder, listener=listener, extra=extra)


@pytest.fixture(scope="module")
def tls_mosquitto(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Mosquitto]:
    broker = tls_broker(tmp_path_factory.mktemp("tls"), certificates, cert=certificates.server_cert)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def closed_mosquitto(tmp_path: Path, certificates: Certificates) -> Iterator[Mosquitto]:
    """A broker that wants a client certificate."""
    extra = "require_certificate true"
    broker = tls_broker(tmp_path, certificates, cert=certificates.server_cert, extra=extra)
    broker.start()
    yield broker
    broker.stop()


async def refusal(broker: Mosquitto, tls: TLSOptions | None) -> BrokerError:
    async with subscribing(broker, tls=tls) as subscriber:
        with pytest.raises(BrokerError) as caught:
            await subscriber.connect()
    return caught.value


async def test_a_broker_of_a_trusted_authority_is_connected(
    tls_mosquitto: Mosquitto, certificates: Certificates
) -> None:
    async with subscribing(tls_mosquitto, tls=TLSOptions(cafile=certificates.ca)) as subscriber:
        await subscriber.connect()
        assert await subscriber.subscribe("a/b") == 1


async def test_a_broker_of_another_authority_is_refused_for_good(
    tls_mosquitto: Mosquitto, certificates: Certificates
) -> None:
    error = await refusal(tls_mosquitto, TLSOptions(cafile=certificates.wrong_ca))
    assert isinstance(error, ProtocolRefusedError)
    assert "certificate was not accepted" in str(error)
    assert "TLSOptions(cafile=...)" in str(error.hint)


@pytest.mark.parametrize(("cert", "reason"), [("expired_cert", "expired"), ("other_host_cert", "127.0.0.1")])
async def test_a_certificate_out_of_date_or_of_another_host_is_refused_for_good(
    tmp_path: Path, certificates: Certificates, cert: str, reason: str
) -> None:
    broker = tls_broker(tmp_path, certificates, cert=getattr(certificates, cert))
    broker.start()
    try:
        error = await refusal(broker, TLSOptions(cafile=certificates.ca))
    finally:
        broker.stop()
    assert isinstance(error, ProtocolRefusedError)
    assert reason in str(error)


async def test_insecure_connects_to_anybody_and_says_so_once(
    tls_mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with subscribing(tls_mosquitto, tls=TLSOptions(insecure=True)) as subscriber:
        for _ in range(2):
            await subscriber.connect()
            await subscriber.disconnect()
    assert caplog.text.count("is not checked: anybody in between can read all") == 1


async def test_insecure_with_an_authority_leaves_only_the_name_unchecked(
    tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    broker = tls_broker(tmp_path, certificates, cert=certificates.other_host_cert)
    broker.start()
    try:
        async with subscribing(broker, tls=TLSOptions(cafile=certificates.ca, insecure=True)) as subscriber:
            await subscriber.connect()
        error = await refusal(broker, TLSOptions(cafile=certificates.wrong_ca, insecure=True))
    finally:
        broker.stop()
    assert caplog.text.count(f"may bear any name: whoever has one that {certificates.ca} vouches for") == 1
    assert isinstance(error, ProtocolRefusedError)
    assert "certificate was not accepted" in str(error)


async def test_insecure_with_an_authority_takes_no_certificate_that_has_run_out(
    tmp_path: Path, certificates: Certificates
) -> None:
    broker = tls_broker(tmp_path, certificates, cert=certificates.expired_cert)
    broker.start()
    try:
        error = await refusal(broker, TLSOptions(cafile=certificates.ca, insecure=True))
    finally:
        broker.stop()
    assert "expired" in str(error)


async def test_an_authority_need_not_say_all_that_rfc_5280_asks_for(tmp_path: Path) -> None:
    authority, cert, key = make_plain_certificate(tmp_path)
    listener = f"listener {{port}} 127.0.0.1\ncertfile {cert}\nkeyfile {key}"
    with Mosquitto(tmp_path, listener=listener) as broker:
        async with subscribing(broker, tls=TLSOptions(cafile=authority)) as subscriber:
            await subscriber.connect()


def test_a_certificate_is_checked_alike_by_every_python() -> None:
    for options in (TLSOptions(), TLSOptions(insecure=True)):
        assert not options.context().verify_flags & ssl.VERIFY_X509_STRICT


async def test_a_client_certificate_opens_a_broker_that_asks_for_one(
    closed_mosquitto: Mosquitto, certificates: Certificates
) -> None:
    tls = TLSOptions(cafile=certificates.ca, certfile=certificates.client_cert, keyfile=certificates.client_key)
    async with subscribing(closed_mosquitto, tls=tls) as subscriber:
        await subscriber.connect()


async def test_a_missing_client_certificate_is_hinted_at(
    closed_mosquitto: Mosquitto, certificates: Certificates
) -> None:
    error = await refusal(closed_mosquitto, TLSOptions(cafile=certificates.ca))
    assert isinstance(error, BrokerUnreachableError)
    assert "TLSOptions(certfile=..., keyfile=...)" in str(error.hint)


async def test_tls_spoken_to_a_plain_port_says_so(mosquitto: Mosquitto, certificates: Certificates) -> None:
    error = await refusal(mosquitto, TLSOptions(cafile=certificates.ca))
    assert "TLS handshake failed" in str(error)
    assert "without TLS" in str(error.hint)


async def test_plain_mqtt_spoken_to_a_tls_port_hints_at_tls(tls_mosquitto: Mosquitto) -> None:
    error = await refusal(tls_mosquitto, None)
    assert "tls=" in str(error.hint)


def test_the_authorities_of_the_system_and_the_host_name_are_checked_by_default() -> None:
    context = TLSOptions().context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_file_that_is_not_there_is_named(tmp_path: Path, certificates: Certificates) -> None:
    gone = tmp_path / "gone.pem"
    for options in (
        TLSOptions(cafile=gone),
        TLSOptions(certfile=gone),
        TLSOptions(certfile=certificates.client_cert, keyfile=gone),
    ):
        with pytest.raises(ConfigError, match=r"gone\.pem: No such file"):
            options.context()


def test_a_ca_file_that_is_no_pem_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.txt").write_text("hello")
    with pytest.raises(ConfigError, match="no certificate in PEM form"):
        TLSOptions(cafile=tmp_path / "ca.txt").context()


def test_a_key_without_its_certificate_is_refused(certificates: Certificates) -> None:
    with pytest.raises(ConfigError, match="without its certificate"):
        TLSOptions(keyfile=certificates.client_key).context()


def test_a_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    with pytest.raises(ConfigError, match="key values mismatch"):
        TLSOptions(certfile=certificates.client_cert, keyfile=certificates.server_key).context()
