"""Commands run side by side on terminals of their own, and what is wrong with what they show."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from tests.support.hostile.screen import faults
from tests.support.plantops import PATIENCE_SECONDS, read_to_the_end, start_on_terminal

AT_ONCE = 6


@dataclass(frozen=True)
class Walk:
    """A command, and what is known of its end.

    Args:
        arguments: the command line without the name of the program.
        code: its exit code.
        shows: what is to be seen on the terminal, to prove that the stranger's words came so far.
        env: variables to add to the environment.
        is_stdout_piped: whether only stdin and stderr are the terminal.
        keys: typed as soon as ``shows`` is seen.
    """

    arguments: Sequence[str]
    code: int
    shows: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    is_stdout_piped: bool = False
    keys: bytes = b""

    def run(self) -> list[str]:
        """Run the command, and return what is wrong."""
        try:
            shown, code = self._look()
        except Exception as exc:
            return [f"{self}: {exc!r}"]
        wrong = faults(shown)
        if b"Traceback" in shown and "--debug" not in self.arguments:
            wrong.append(f"a traceback: {shown[-400:]!r}")
        if code != self.code:
            wrong.append(f"exit code {code}, not {self.code}: {shown[-400:]!r}")
        if self.shows.encode() not in shown:
            wrong.append(f"does not show {self.shows!r}: {shown[-400:]!r}")
        return [f"{self}: {what}" for what in wrong]

    def __str__(self) -> str:
        given = [f"{name}={value[:60]!r}" for name, value in self.env.items() if name != "MQTT_BACKEND_PASSWORD"]
        return " ".join([*given, "plantops", *(repr(argument[:60]) for argument in self.arguments)])

    def _look(self) -> tuple[bytes, int]:
        with start_on_terminal(*self.arguments, env=self.env, is_stdout_piped=self.is_stdout_piped) as (
            running,
            keyboard,
        ):
            if self.keys:
                running.stderr.wait_for(re.escape(self.shows))
                keyboard.write(self.keys)
            read_to_the_end(running.stdout, running.stderr)
            return running.stderr.text, running.process.wait(PATIENCE_SECONDS)


def walk(walks: Sequence[Walk], *, env: Mapping[str, str]) -> None:
    """Run commands side by side; nothing may be wrong with any of them.

    Args:
        walks: the commands.
        env: variables for all of them; their own outrank these.
    """
    all_set = [replace(walk, env={**env, **walk.env}) for walk in walks]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = [what for found in pool.map(Walk.run, all_set) for what in found]
    assert not wrong, "\n".join(wrong)
