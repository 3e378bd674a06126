"""What the running broker itself shows of a file that our own rules would refuse.

Our rules are those of the Mosquittos that were looked at; a broker of another build or of a later version may read
what they do not know. Two things count for more than they: that it has loaded the file as it is, and that its own
program starts with it.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from plantops_cli.mosquitto.broker.process import BrokerProcess
from plantops_cli.mosquitto.broker.trial import is_taken
from plantops_cli.mosquitto.files.lock import read_at_seconds
from plantops_cli.mosquitto.text.conf import FileKind


@dataclass(frozen=True, slots=True)
class Witness:
    """A running broker that is asked about its files.

    Attributes:
        process: the broker.
        sources: the files and folders that say which files it reads.
    """

    process: BrokerProcess
    sources: tuple[Path, ...] = ()

    def has_loaded(self, path: Path) -> bool:
        """Tell whether the broker has read a file as it is: since then it, and what leads to it, is untouched.

        It read it when it was started, and when one of our runs told it to; of other reloads nothing is known.
        ``st_ctime`` changes with content, owner, mode and name, and cannot be set.

        Args:
            path: the file, as it is found here.
        """
        if self.process.started_seconds is None:
            return False
        read_seconds = max(self.process.started_seconds, read_at_seconds(path))
        try:
            return all(_changed_seconds(place) < read_seconds for place in (path, *self.sources))
        except OSError:
            return False

    def takes(self, kind: FileKind, content: bytes) -> bool:
        """Tell whether the broker's own program starts with a file; False when it cannot be run safely.

        Args:
            kind: what the file is to it.
            content: the whole file.
        """
        with self.process.program() as program, ThreadPoolExecutor(1) as thread:
            if program is None:
                return False
            # in a thread, for the caller may be in an event loop
            return thread.submit(lambda: asyncio.run(is_taken(program, kind, content))).result()


def _changed_seconds(path: Path) -> float:
    """When a file, or one of the symbolic links on the way to it, was changed last."""
    return max(path.stat().st_ctime, *(link.lstat().st_ctime for link in _links_to(path.absolute())), 0.0)


def _links_to(path: Path) -> Iterator[Path]:
    for place in (path, *path.parents):
        if place.parts[1:2] == ("proc",):
            return  # below the root folder of another process, of which locate() has followed all links
        if place.is_symlink():
            yield place
            yield from _links_to(place.parent / place.readlink())
            return
