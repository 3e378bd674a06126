"""The run of ``doctor``: settings first, then one step after the other."""

import sys
import textwrap
import time
from collections.abc import AsyncIterator, Mapping

import orjson
from rich.console import Console
from rich.style import Style
from rich.text import Text

from plantops_cli.cli.doctor.doctor_flags import DoctorFlags
from plantops_cli.cli.shared.connection import given_by, options, resolve, without_url
from plantops_cli.cli.shared.exits import Exit, exit_code
from plantops_cli.cli.shared.flags.connect import ConnectionFlags
from plantops_cli.cli.shared.flags.display import DocumentChoice
from plantops_cli.cli.shared.hints import in_flags
from plantops_cli.cli.shared.results import show_document, show_text
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stopping import unwinding
from plantops_cli.config import Settings, origins
from plantops_cli.doctor.diagnosis import Diagnosis
from plantops_cli.doctor.step import Step, StepResult
from plantops_cli.errors import ConfigError, TopicError, shown_username
from plantops_cli.formats.terminal import encodable, escape, json_escape
from plantops_cli.messages import check_qos
from plantops_cli.stream.options import ConnectOptions

_MARKS = {
    StepResult.OK: ("✓", "ok", Style(color="color(28)", bold=True)),
    StepResult.WARNING: ("!", "warn", Style(color="color(136)", bold=True)),
    StepResult.FAILED: ("✗", "FAIL", Style(color="color(160)", bold=True)),
    StepResult.SKIPPED: ("-", "skip", Style(dim=True)),
}
_NAME_CELLS = 9
_LEAST_CELLS = 20
_PASSWORDS = ("mqtt_backend_password", "mqtt_backend_password_file")
_SHOWN = (
    "mqtt_host",
    "mqtt_port",
    "mqtt_backend_username",
    "mqtt_tls",
    "mqtt_cafile",
    "mqtt_certfile",
    "mqtt_client_id",
)


async def examine(flags: DoctorFlags) -> Exit:
    """Examine the way to the broker, say what is found, and return the exit code of what is broken.

    Args:
        flags: where the broker is, what to ask of it, and how to say what is found.
    """
    is_json = flags.output is DocumentChoice.JSON
    found = list[Step]()
    with unwinding():
        async for step in _steps(flags):
            found.append(step)
            if not is_json:
                show_text(_lines(step))
    code = _code(found)
    if is_json:
        document = {"ok": code is Exit.OK, "exit_code": int(code), "steps": [_row(step) for step in found]}
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        show_document(json_escape(text) if sys.stdout.isatty() else text)
    return code


async def _steps(flags: DoctorFlags) -> AsyncIterator[Step]:
    began = time.monotonic()
    try:
        filters, connection = without_url(flags.filters, flags.connection)
        given = given_by(connection)
        settings = resolve(connection, given)
        made = options(connection, settings)
        wanted = Selection(filters=filters).topic_filters
        qos = check_qos(flags.qos)
    except (ConfigError, TopicError) as exc:
        yield Step("settings", StepResult.FAILED, time.monotonic() - began, (str(exc),), exc.hint, exc)
        return
    said = tuple(_settings(connection, given, settings, made))
    yield Step("settings", StepResult.OK, time.monotonic() - began, said)
    diagnosis = Diagnosis(made, wanted, qos=qos, wait_seconds=flags.wait_seconds, is_canary=flags.is_canary)
    async for step in diagnosis.steps():
        yield step


def _settings(
    flags: ConnectionFlags, given: Mapping[str, object], settings: Settings, made: ConnectOptions
) -> list[str]:
    """What was decided, and who decided it; of a password only that there is one."""
    sources = origins(settings, **given)
    where = "--host" if flags.url is None else "--url"
    for name in sources.keys() & given.keys():
        is_implied = flags.insecure and name == "mqtt_tls"
        if given[name] is not None and flags.settings[name] is None and not is_implied:
            sources[name] = where
    seconds = f"{made.timeout_seconds:g} s for an attempt to connect"
    said = [f"{made.endpoint}{' with TLS' if made.tls else ''}, {seconds}"]
    for name in _SHOWN:
        value = made.port if name == "mqtt_port" else getattr(settings, name)
        if name == "mqtt_backend_username":
            value = shown_username(str(value), is_alone=made.is_token)
        if value is not None:
            said.append(f"{name.upper()}={value} ({in_flags(sources[name])})")
    if settings.mqtt_client_id not in (None, made.client_id):
        said.append("client id: a random one, for MQTT_CLIENT_ID is the listener's")
    if made.password is not None:
        kept = [f"{name.upper()}, {sources[name]}" for name in _PASSWORDS if sources[name] != "default"]
        typed = "--secret-file" if flags.secret_file else "asked for" if flags.ask_password else ""
        said.append(f"password: given ({typed or ', '.join(kept)})")
    else:
        said.append("no password: --no-password" if made.is_token else "no login: --anonymous")
    return said


def _code(found: list[Step]) -> Exit:
    """The exit code of the first thing that is broken; 27 when all is well but for the silence."""
    for step in found:
        if step.error is not None:
            return exit_code(step.error)
    last = found[-1]
    return Exit.TIMEOUT if last.name == "message" and last.result is StepResult.WARNING else Exit.OK


def _lines(step: Step) -> str:
    console = Console(soft_wrap=True)
    is_drawn = _can_say("✓✗", console.encoding)
    mark, word, style = _MARKS[step.result]
    head = Text.assemble(
        (mark if is_drawn else word.ljust(4), style),
        " ",
        (escape(step.name).ljust(_NAME_CELLS), "bold"),
        "  ",
        (f"{step.seconds * 1000:7.1f} ms" if step.result is not StepResult.SKIPPED else "   skipped", "dim"),
        "  ",
    )
    margin = " " * head.cell_len
    room = max(_LEAST_CELLS, console.width - len(margin)) if console.is_terminal else None
    said = [line for detail in step.details for line in _wrapped(escape(in_flags(detail)), room)] or [""]
    text = head.append(f"\n{margin}".join(said))
    if step.cure:
        arrow = "→ " if is_drawn else "-> "
        indent = f"\n{margin}{' ' * len(arrow)}"
        cure = _wrapped(escape(in_flags(step.cure)), room and room - len(arrow))
        text.append(f"\n{margin}").append(arrow + indent.join(cure), style)
    with console.capture() as capture:
        console.print(text)
    return capture.get()


def _wrapped(text: str, room: int | None) -> list[str]:
    """Break a text into lines that fit, at spaces; without a limit it is one line."""
    if room is None:
        return [text]
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _can_say(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _row(step: Step) -> dict[str, object]:
    return {
        "name": step.name,
        "status": step.result.value,
        "milliseconds": round(step.seconds * 1000, 1),
        "details": [encodable(in_flags(detail)) for detail in step.details],
        "cure": step.cure and encodable(in_flags(step.cure)),
        "error": type(step.error).__name__ if step.error else None,
    }
