"""For the tests of a program that subscribes: a broker in memory, and a real Mosquitto of one's own."""

from plantops_cli.testing.in_memory import InMemoryBroker, testing
from plantops_cli.testing.own_mosquitto import Mosquitto
from plantops_cli.testing.published import Delivered, Published

__all__ = ["Delivered", "InMemoryBroker", "Mosquitto", "Published", "testing"]
