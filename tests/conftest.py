"""What every test may ask for."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.brokers import Mosquitto
from tests.support.certificates import Certificates, make_certificates

# The commands are to find what they find with a user: no unbuffered streams, which hide late failures, and
# a Ctrl-C that ends them, which a shell turns off for what it runs in the background
os.environ.pop("PYTHONUNBUFFERED", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# the same examples at every run in CI; no deadline, for machines are busy
hypothesis.settings.register_profile("plantops", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("plantops")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that wait: side by side they cost no time, but at the end they would cost all of theirs."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One broker for all tests that leave it as it is."""
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker for one test, which may stop and start it."""
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority, a server's, a client's and some wrong certificates."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the environment and the .env of whoever runs the tests out of them."""
    for name in ("URL", "HOST", "PORT", "TLS", "CAFILE", "CERTFILE", "KEYFILE", "CLIENT_ID", "PASSWORD_FILE"):
        monkeypatch.delenv(f"MQTT_{name}", raising=False)
    for name in ("USERNAME", "PASSWORD", "PASSWORD_FILE"):
        monkeypatch.delenv(f"MQTT_BACKEND_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """Give the library's loggers back as they were, for a command line that is run in here sets them."""
    loggers = [logging.getLogger(name) for name in ("plantops", "plantops.paho")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
