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
