"""Passwords typed where mosquitto_sub takes them: found before anything else reads the command line."""

from collections.abc import Mapping, Sequence

from plantops_cli.errors import ConfigError

_END_OF_FLAGS = "--"


def check_ask_password(words: Sequence[str], flags: Mapping[str, bool]) -> None:
    """Refuse what follows ``-P`` like a value: to mosquitto_sub it is the password, here it would be a filter.

    Behind a lone ``-P`` nothing may stand but another flag, written as in the help: a password may begin with a
    dash too, and in ``-hunter2`` a parser sees a host. What follows ``--ask-password`` is not looked at.

    Args:
        words: a command line.
        flags: the names of all flags, and whether each takes a value.

    Raises:
        ConfigError: a word follows, or is attached; it is not repeated.
    """
    for position, word in enumerate(words):
        if word == _END_OF_FLAGS:
            return
        rest = _behind_the_letter(word, flags)
        if rest or (rest == "" and not _may_follow(words[position + 1 :], flags)):
            raise ConfigError(
                "-P takes no value: it asks for the password",
                hint="others would see a password on the command line; filters and user names go before -P, or "
                "behind --ask-password",
            )


def _behind_the_letter(word: str, flags: Mapping[str, bool]) -> str | None:
    """What is attached to ``-P``, behind other letters too, as in ``-RP``; None where a word has none."""
    before, letter, rest = word.partition("P")
    is_flag = before.startswith("-") and not before.startswith(_END_OF_FLAGS)
    # a letter that takes a value makes the rest of the word its value: -hPi names a host
    is_asked = bool(letter) and is_flag and not any(flags.get(f"-{one}", True) for one in before[1:])
    return rest if is_asked else None


def _may_follow(words: Sequence[str], flags: Mapping[str, bool]) -> bool:
    if not words or words == [_END_OF_FLAGS]:
        return True
    name, equals, _ = words[0].partition("=")
    return name in flags and (not equals or name.startswith("--"))
