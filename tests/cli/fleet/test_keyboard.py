"""Keys from a real terminal, which is given back as it was."""

import asyncio
import os
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.cli.fleet.keyboard import Keyboard, split
from tests.support.subscribing import eventually
from tests.support.terminal import own_terminal

LOCAL_FLAGS = 3
NAMES = {"up", "down", "page up", "page down", "home", "end", "escape", "enter", "backspace"}


def faults_of_the_loop() -> list[dict[str, object]]:
    """What goes wrong in callbacks of the running loop from now on."""
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    return faults


async def test_keys_are_told_as_they_are_pressed_without_a_line_to_end() -> None:
    with own_terminal() as terminal:
        keys: list[str] = []
        keyboard = Keyboard(keys.append)
        keyboard.open()
        for number, pressed in enumerate((b"q", b"\x1b[A", b"\xc3\xbc"), 1):
            terminal.press(pressed)
            await eventually(lambda number=number: len(keys) == number)  # type: ignore[misc]  # a default binds it
        keyboard.close()
        assert keys == ["q", "up", "ü"]


async def test_what_is_no_utf8_is_no_key() -> None:
    with own_terminal() as terminal:
        keys: list[str] = []
        keyboard = Keyboard(keys.append)
        keyboard.open()
        terminal.press(b"\xff\xc3q")
        await eventually(lambda: keys)
        keyboard.close()
        assert keys == ["q"]


async def test_while_it_is_open_keys_are_not_echoed_and_ctrl_c_still_interrupts() -> None:
    with own_terminal() as terminal:
        before = terminal.settings
        keyboard = Keyboard(lambda _: None)
        keyboard.open()
        flags = terminal.settings[LOCAL_FLAGS]
        keyboard.close()
        assert isinstance(flags, int)
        assert not flags & (termios.ECHO | termios.ICANON)
        assert flags & termios.ISIG
        assert terminal.settings == before


async def test_opened_twice_it_gives_back_what_was_before_the_first_time() -> None:
    with own_terminal() as terminal:
        before = terminal.settings
        keyboard = Keyboard(lambda _: None)
        keyboard.open()
        keyboard.open()
        keyboard.close()
        assert terminal.settings == before


async def test_closed_it_can_be_opened_again() -> None:
    with own_terminal() as terminal:
        keys: list[str] = []
        keyboard = Keyboard(keys.append)
        for _ in range(2):
            keyboard.open()
            terminal.press(b"p")
            await eventually(lambda: keys)
            keyboard.close()
            assert keys.pop() == "p"


async def test_what_was_not_opened_may_be_closed() -> None:
    with own_terminal() as terminal:
        before = terminal.settings
        Keyboard(lambda _: None).close()
        assert terminal.settings == before


async def test_what_is_typed_after_it_is_closed_is_left_to_the_shell() -> None:
    with own_terminal() as terminal:
        keys: list[str] = []
        keyboard = Keyboard(keys.append)
        keyboard.open()
        keyboard.close()
        terminal.press(b"ls\n")
        assert await asyncio.to_thread(os.read, terminal.descriptor, 100) == b"ls\n"
        assert keys == []


async def test_a_terminal_that_goes_is_told_and_breaks_nothing() -> None:
    with own_terminal() as terminal:
        faults = faults_of_the_loop()
        keys: list[str] = []
        keyboard = Keyboard(keys.append)
        keyboard.open()
        terminal.hang_up()
        await eventually(lambda: keys or faults)
        keyboard.close()
        assert (keys, faults) == (["hangup"], [])


async def test_standard_input_that_is_no_terminal_is_left_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"q")
    os.close(writer)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keyboard = Keyboard(lambda _: None)
        keyboard.open()
        await asyncio.sleep(0)
        keyboard.close()
        assert stdin.read() == "q"


async def test_without_standard_input_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    keyboard = Keyboard(lambda _: None)
    keyboard.open()
    keyboard.close()


@pytest.mark.parametrize(
    ("pressed", "keys"),
    [
        ("q", ["q"]),
        ("ab", ["a", "b"]),
        ("\x1b[A", ["up"]),
        ("\x1b[5~\x1b[6~", ["page up", "page down"]),
        ("\x1bOB", ["down"]),
        ("\x1b", ["escape"]),
        ("\x1bq", ["escape", "q"]),
        ("\x1b[1;5Ax", ["x"]),
        ("\x1b[", []),
        ("\r\x7f", ["enter", "backspace"]),
        ("ü", ["ü"]),
        ("\x01\x00", []),
    ],
)
def test_what_a_terminal_sends_becomes_keys(pressed: str, keys: list[str]) -> None:
    assert split(pressed) == keys


@given(st.text(st.sampled_from("\x1b[O;~ABq5\r\0ü") | st.characters()))
def test_whatever_a_terminal_sends_each_key_is_a_name_or_a_character_that_shows(pressed: str) -> None:
    assert all(key in NAMES or (len(key) == 1 and key.isprintable()) for key in split(pressed))
