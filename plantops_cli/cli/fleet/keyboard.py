"""Keys as they are pressed, from a terminal that is given back as it was."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}


class Keyboard:
    """Reads single keys while it is open; does nothing where standard input is no terminal.

    Args:
        react: told each key: a character, or a name such as ``up``, ``page down``, ``enter`` or ``escape``;
            ``hangup`` when the terminal has gone.
    """

    def __init__(self, react: Callable[[str], None]) -> None:
        self._react = react
        self._before: list[Any] | None = None

    def open(self) -> None:
        """Take lines and echo away from the terminal; Ctrl-C stays what it is."""
        if self._before is not None or sys.stdin is None or not sys.stdin.isatty():
            return
        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin, termios.TCSADRAIN)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._before is None:
            return
        before, self._before = self._before, None
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        with suppress(termios.error):  # one that has hung up takes nothing back
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    def _read(self) -> None:
        try:
            pressed = os.read(sys.stdin.fileno(), 1024).decode(errors="ignore")
        except OSError:
            pressed = ""  # as Linux says it; elsewhere it reads as the end of a file
        if not pressed:
            self.close()
            self._react("hangup")
        for key in split(pressed):
            self._react(key)


def split(pressed: str) -> list[str]:
    """Take what a terminal sent apart into keys; sequences that mean nothing here are left out.

    Args:
        pressed: what one read brought: a key, or more when they come fast.
    """
    keys = list[str]()
    while pressed:
        size = _length(pressed)
        key, pressed = pressed[:size], pressed[size:]
        if key in _SEQUENCES:
            keys.append(_SEQUENCES[key])
        elif key.isprintable():
            keys.append(key)
    return keys


def _length(pressed: str) -> int:
    """How many characters the first key takes: more than one for a control sequence (ECMA-48, 5.4)."""
    if pressed[:2] == "\x1bO":
        return 3
    if pressed[:2] != "\x1b[":
        return 1
    end = 2
    while end < len(pressed) and not "@" <= pressed[end] <= "~":
        end += 1
    return end + 1
