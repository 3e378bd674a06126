"""Commands that carry a password, and a look at all that they let others see."""

import functools
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hostile.canary import CANARY, sightings
from tests.support.plantops import piped, typed
from tests.support.processes import plantops

AT_ONCE = 6
_LOOKS_APART_SECONDS = 0.03


@dataclass(frozen=True)
class Errand:
    """A command, and what proves that it came as far as it should.

    Args:
        arguments: the command line without the name of the program.
        says: what it says on stdout or stderr.
        env: variables to add to the environment, which holds the password already.
        stdin: what it can read.
        signal: sent as soon as it says that it connects.
        has_it_in_arguments: whether whoever started it wrote the password on the command line.
    """

    arguments: Sequence[str]
    says: str
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    signal: int | None = None
    has_it_in_arguments: bool = False

    def run(self, folder: Path, is_fresh: bool) -> list[str]:
        """Run the command in a folder, perhaps in an interpreter of its own, and return what is wrong."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MQTT_")}
        env = {**inherited, "MQTT_BACKEND_PASSWORD": CANARY, **self.env}
        launch = functools.partial(plantops, folder=folder, is_fresh=is_fresh)
        with (
            piped(self.arguments, typed(self.stdin), env, launch) as running,
            _watching(running.process.pid) as shown,
        ):
            if self.signal is not None:
                running.stderr.wait_for("connecting")
            running.finish(self.signal)
        said = running.stdout.text + running.stderr.text
        wrong = sightings(said)
        if not self.has_it_in_arguments:
            wrong += [f"the system shows {seen}" for text in shown for seen in sightings(text)]
        if self.says.encode() not in said:
            wrong.append(f"does not say {self.says!r}, but {said[-600:]!r}")
        return [f"plantops {' '.join(self.arguments)}: {what}" for what in wrong]


def run_all(errands: Sequence[Errand], *folders: Path) -> None:
    """Run commands side by side, the first in a fresh interpreter; none may let anybody see the password.

    Args:
        errands: the commands.
        folders: where they are run: one for all, or one for each.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        places = folders * len(errands) if len(folders) == 1 else folders
        is_fresh = [True, *[False] * (len(errands) - 1)]
        wrong = [what for found in pool.map(Errand.run, errands, places, is_fresh) for what in found]
    assert not wrong, "\n".join(wrong)


@contextmanager
def _watching(session: int) -> Iterator[set[bytes]]:
    """Collect what the system tells everybody of a session's processes while it lasts, where there is a /proc."""
    seen, ended = set[bytes](), threading.Event()

    def look() -> None:
        while not ended.wait(_LOOKS_APART_SECONDS):
            seen.update(_shown_by_the_system(session))

    thread = threading.Thread(target=look, name="watching")
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _shown_by_the_system(session: int) -> Iterator[bytes]:
    """The command lines of all its processes, and the environments of those that others are started with."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                command_line = (folder / "cmdline").read_bytes()
                yield command_line
                # a child that is still a copy of ours has our environment
                if not command_line.startswith(os.fsencode(sys.executable)):
                    yield (folder / "environ").read_bytes()
        except (OSError, ValueError, IndexError):
            pass  # it has ended
