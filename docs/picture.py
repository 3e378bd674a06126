"""Make docs/listen.svg from a real run of the demo. Run it with: python -m docs.picture"""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).parent / "listen.svg"
COLUMNS, LINES = 120, 40
_COMMAND = ["plantops", "demo", "-C", "26"]


def main() -> None:
    """Run the demo on a terminal of our own and draw what it shows."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), " ".join(_COMMAND)))
    console.print(Text.from_ansi(_run_on_terminal()))
    picture = console.export_svg(title="plantops demo", theme=MONOKAI)
    # the fonts would be fetched from elsewhere; every system has a monospaced one
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\n?", "", picture, flags=re.DOTALL))


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
