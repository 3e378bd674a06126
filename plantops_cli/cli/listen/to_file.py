"""``listen --to``: from its flags to the file."""

from pathlib import Path

from plantops_cli.cli.shared.stderr import say
from plantops_cli.errors import ConfigError
from plantops_cli.formats.registry import Format
from plantops_cli.outputs.file import FileDestination, LineFile, parse_period, parse_size


def file_destination(
    path: Path | None, choice: Format | None, *, rotate_size: str | None, rotate_every: str | None
) -> FileDestination | None:
    """Open the file of ``--to``, or return None without the flag.

    Args:
        path: the value of ``--to``.
        choice: the value of ``-o``.
        rotate_size: the value of ``--rotate-size``.
        rotate_every: the value of ``--rotate-every``.

    Raises:
        ConfigError: the flags contradict each other, or the file cannot be opened.
        ForeignFileError: the file is not ours.
    """
    if path is None:
        if rotate_size or rotate_every:
            raise ConfigError("--rotate-size and --rotate-every are for --to", hint="give --to FILE")
        return None
    if choice not in (None, Format.JSONL):  # by which a file is known for ours when it is continued
        raise ConfigError(f"--to writes JSON lines, not --output {choice}", hint="leave --output out")
    return FileDestination(
        LineFile(
            path,
            rotate_bytes=parse_size(rotate_size) if rotate_size else None,
            rotate_seconds=parse_period(rotate_every) if rotate_every else None,
        ),
        say,
    )
