"""Make docs/listen.svg from a real run of the demo, and docs/fleet.svg from the same plants on a simulated clock.

Run it with: python -m docs.picture
"""

import fcntl
import io
import os
import pty
import random
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from plantops_cli.cli.fleet.board import View, draw
from plantops_cli.demo.plants import DEVICE_IDS, due, make_plants, next_due
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.snapshot import Snapshot

PICTURE = Path(__file__).parent / "listen.svg"
BOARD = Path(__file__).parent / "fleet.svg"
COLUMNS, LINES = 120, 40
BOARD_LINES = 18
_MINUTES = 3
_FAULTS = {"ficus-07": "telemetry", "mint-08": "heartbeat"}
_COMMAND = ["plantops", "demo", "-C", "26"]


def main() -> None:
    """Run the demo on a terminal of our own and draw what it shows."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), " ".join(_COMMAND)))
    console.print(Text.from_ansi(_run_on_terminal()))
    _save(console, PICTURE, title="plantops demo")
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(_board())
    _save(console, BOARD, title="plantops fleet --field soil_moisture")


def _save(console: Console, path: Path, *, title: str) -> None:
    picture = console.export_svg(title=title, theme=MONOKAI)
    # the fonts would be fetched from elsewhere; every system has a monospaced one
    path.write_text(re.sub(r"@font-face \{.*?\}\n?", "", picture, flags=re.DOTALL))


def _board() -> Text:
    """The board after some minutes with a dozen plants, two of which lose one of their topics half-way."""
    plants = make_plants(random.Random(5))
    presence = Presence(roster=[*DEVICE_IDS, "basil-13"], field="soil_moisture", is_payload_kept=True)
    end = _MINUTES * 60.0
    while (at := next_due(plants)) < end:
        for publication in due(plants, at):
            _, device_id, kind = publication.topic.split("/")
            if _FAULTS.get(device_id) != kind or at < end / 2:
                presence.heard(publication.topic.encode(), publication.payload, at)
    look = Snapshot(
        reports=tuple(presence.reports(end)),
        taken_at=end,
        listened_seconds=end,
        messages=presence.message_count,
        passed_over=0,
        outages=0,
        clock_offset_seconds=0.0,
    )
    broker = "broker.example.org:8883  connected for 3m"
    return draw(View(), look, broker=broker, note="", field="soil_moisture", size=(COLUMNS, BOARD_LINES))


def _run_on_terminal() -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    command = [sys.executable, "-m", "plantops_cli", *_COMMAND[1:]]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:
        pass  # Linux answers with EIO once the other side has closed the terminal
    finally:
        os.close(ours)
        process.wait()
    return shown.decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
