"""What stands behind ``-P`` is a password to whoever comes from mosquitto_sub: refused whatever it looks like."""

from collections.abc import Sequence

import pytest

from plantops_cli.cli.shared.typed_secrets import check_ask_password
from plantops_cli.errors import ConfigError

FLAGS = {
    "-P": False,
    "--ask-password": False,
    "-R": False,
    "--quiet": False,
    "-h": True,
    "-C": True,
    "--count": True,
    "--tls": False,
    "--no-tls": False,
}
SECRET = "hunter2"


@pytest.mark.parametrize(
    "words",
    [
        ("listen", "-P", SECRET),
        ("listen", f"-P{SECRET}"),
        ("listen", f"-P={SECRET}"),
        ("listen", f"-RP{SECRET}"),
        ("listen", "-RP", SECRET),
        ("listen", "-P", f"-{SECRET}"),  # to a parser: the host unter2
        ("listen", "-P", f"--{SECRET}"),
        ("listen", "-P", f"-C={SECRET}"),
        ("listen", "-P", f"-P{SECRET}"),
        ("listen", "-P", "--", SECRET),
        ("listen", "-P", "-"),
        ("listen", "-P", ""),
        ("listen", "-C", "1", "-P", SECRET, "-P"),
        ("listen", "-P", "-P", SECRET),
        ("listen", "-PR", SECRET),
    ],
)
def test_it_is_refused_and_not_repeated(words: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match="-P takes no value") as refused:
        check_ask_password(list(words), FLAGS)
    assert SECRET not in f"{refused.value!r} {refused.value.hint}"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("listen", "-P"),
        ("listen", "-P", "--"),
        ("listen", "devices/#", "-P"),
        ("listen", "-P", "-C", "1"),
        ("listen", "-P", "--count=1", "devices/#"),
        ("listen", "-P", "--no-tls"),
        ("listen", "-RP"),
        ("listen", "--ask-password", "devices/#"),
        ("listen", "-hPi.example", "devices/P"),
        ("listen", "--", "-P", "x"),
        ("listen", "P", "-"),
    ],
)
def test_what_asks_for_a_password_and_nothing_more_is_let_through(words: Sequence[str]) -> None:
    check_ask_password(list(words), FLAGS)
