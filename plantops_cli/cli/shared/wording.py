"""Words that several commands use in what they say."""


def counted(number: int, noun: str) -> str:
    """Say how many there are of something: ``1 outage``, ``1,000 messages``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def never_connected(obstacle: str, *, elapsed_seconds: float) -> str:
    """Say why a time ran out without a connection.

    Args:
        obstacle: what was waited for in the end, of ``MQTTSubscriber.obstacle``.
        elapsed_seconds: how long it tried.
    """
    return f"{obstacle}; stopped after {elapsed_seconds:.1f} s without a connection"


SILENCE = "nobody publishes, or the broker's ACL withholds it, which no SUBACK tells"
"""What it may mean that no message comes at all."""

SILENCE_OF_A_GROUP = (
    f"{SILENCE}; or another member of the group gets it all; or the broker does not know shared subscriptions and "
    "does not say so: then it comes without the group"
)
"""The same where the subscription is shared."""
