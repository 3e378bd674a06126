"""Real Mosquitto brokers for the tests: each on a free loopback port, and with the login that the tests use."""

from dataclasses import dataclass, field

from plantops_cli import testing
from plantops_cli.testing.own_mosquitto import START_SECONDS, executable, free_port

__all__ = ["PASSWORD", "START_SECONDS", "USERNAME", "Mosquitto", "executable", "free_port"]

USERNAME = "plantops_backend"
PASSWORD = "correct horse battery staple"  # a login of this machine's loopback, for the length of one test


@dataclass
class Mosquitto(testing.Mosquitto):
    """A broker that wants a login."""

    logins: dict[str, str] = field(default_factory=lambda: {USERNAME: PASSWORD}, repr=False)
