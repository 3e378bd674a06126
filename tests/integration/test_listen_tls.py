"""``plantops listen`` over TLS, on a Mosquitto with certificates of our own."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_listen_failures import assert_one_clear_error
from tests.support.brokers import Mosquitto
from tests.support.certificates import Certificates
from tests.support.plantops import Done, run, start


@contextmanager
def tls_mosquitto(folder: Path, certificates: Certificates, *, cert: Path, extra: str = "") -> Iterator[Mosquitto]:
    """A broker that speaks nothing but TLS."""
    broker = Mosquitto(
        folder,
        extra=extra,
        listener=f"listener {{port}} 127.0.0.1\ncafile {certificates.ca}\ncertfile {cert}\n"
        f"keyfile {certificates.server_key}",
    )
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def tls_broker(tmp_path: Path, certificates: Certificates) -> Iterator[Mosquitto]:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert) as broker:
        yield broker


@pytest.fixture
def strict_broker(tmp_path: Path, certificates: Certificates) -> Iterator[Mosquitto]:
    """A broker that wants a certificate of its clients."""
    extra = "require_certificate true"
    with tls_mosquitto(tmp_path, certificates, cert=certificates.server_cert, extra=extra) as broker:
        yield broker


def connect(broker: Mosquitto, *arguments: str | Path) -> Done:
    """Listen until connected, then stop."""
    with start("listen", *map(str, arguments), env=broker.environment) as listening:
        listening.stderr.wait_for("connected to")
        return listening.finish(signal.SIGTERM)


def fail(broker: Mosquitto, *arguments: str | Path) -> Done:
    return run("listen", *map(str, arguments), env=broker.environment)


def test_a_ca_file_is_all_that_tls_needs(tls_broker: Mosquitto, certificates: Certificates) -> None:
    done = connect(tls_broker, "--cafile", certificates.ca)
    assert (done.code, done.errors) == (0, [])


def test_a_url_says_tls_host_port_and_user(tls_broker: Mosquitto, certificates: Certificates) -> None:
    url = f"mqtts://plantops_backend@localhost:{tls_broker.port}"
    done = connect(tls_broker, "-L", url, "--cafile", certificates.ca)
    assert f"connected to localhost:{tls_broker.port}" in done.stderr


def test_a_client_certificate_opens_a_broker_that_wants_one(
    strict_broker: Mosquitto, certificates: Certificates
) -> None:
    cert, key = certificates.client_cert, certificates.client_key
    assert connect(strict_broker, "--cafile", certificates.ca, "--cert", cert, "--key", key).code == 0


def test_insecure_connects_to_anybody_with_a_warning(tls_broker: Mosquitto) -> None:
    done = connect(tls_broker, "--insecure")
    assert done.code == 0
    assert done.stderr.count("warning: the certificate of") == 1


def test_insecure_with_an_authority_takes_its_certificates_for_any_host(
    tmp_path: Path, certificates: Certificates
) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.other_host_cert) as broker:
        done = connect(broker, "--cafile", certificates.ca, "--insecure")
        assert (done.code, done.stderr.count("may bear any name")) == (0, 1)
        refused = fail(broker, "--cafile", certificates.wrong_ca, "--insecure")
    assert_one_clear_error(refused, 3, "certificate was not accepted", "--cafile")


def test_without_a_client_certificate_a_broker_that_wants_one_is_3(
    strict_broker: Mosquitto, certificates: Certificates
) -> None:
    assert_one_clear_error(fail(strict_broker, "--cafile", certificates.ca), 3, str(strict_broker.port))


def test_a_certificate_of_another_authority_is_3(tls_broker: Mosquitto, certificates: Certificates) -> None:
    done = fail(tls_broker, "--cafile", certificates.wrong_ca)
    assert_one_clear_error(done, 3, f"127.0.0.1:{tls_broker.port}", "certificate was not accepted", "--cafile")


def test_the_authorities_of_the_system_do_not_know_our_own(tls_broker: Mosquitto) -> None:
    assert_one_clear_error(fail(tls_broker, "--tls"), 3, "certificate was not accepted")


def test_a_certificate_for_another_host_is_3(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.other_host_cert) as broker:
        done = fail(broker, "--cafile", certificates.ca)
    assert_one_clear_error(done, 3, "certificate was not accepted", "127.0.0.1")


def test_a_certificate_that_has_run_out_is_3(tmp_path: Path, certificates: Certificates) -> None:
    with tls_mosquitto(tmp_path, certificates, cert=certificates.expired_cert) as broker:
        done = fail(broker, "--cafile", certificates.ca)
    assert_one_clear_error(done, 3, "certificate has expired")


def test_tls_to_a_plain_port_is_3(mosquitto: Mosquitto) -> None:
    assert_one_clear_error(fail(mosquitto, "--tls"), 3, f"127.0.0.1:{mosquitto.port}", "TLS port")


def test_plain_mqtt_to_a_tls_port_is_3(tls_broker: Mosquitto) -> None:
    assert_one_clear_error(fail(tls_broker, "--no-tls"), 3, f"127.0.0.1:{tls_broker.port}", "--tls")


def test_a_ca_file_without_a_certificate_in_it_is_2(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")
    assert_one_clear_error(fail(mosquitto, "--cafile", tmp_path / "ca.pem"), 2, "ca.pem", "PEM")
