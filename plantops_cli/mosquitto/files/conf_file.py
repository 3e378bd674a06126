"""mosquitto.conf on disk: the file itself and all that it includes, in the order of the broker. Reads only."""

import os
from collections.abc import Callable
from pathlib import Path

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.text.conf import BrokerConfig, Directive, included_names, interpret, parse_directives


def read_config(path: Path, *, locate: Callable[[str], Path] = Path) -> BrokerConfig:
    """Read a broker's configuration.

    Paths in the result stand as the broker sees them, but for the configuration's own files.

    Args:
        path: the configuration that the broker was started with.
        locate: finds here what the broker knows by a path, for a broker in a container or in another folder.

    Raises:
        BrokerFileError: a file or a folder cannot be read, or an option has a value that the broker does not
            take.
    """
    files = [path]
    directives: list[Directive] = []
    for directive in _read(path, named_by=None):
        directives.append(directive)
        if directive.name == "include_dir":
            # in an included file it counts for nothing: Mosquitto reads one folder deep
            included = _list_folder(directive, locate)
            files += included
            directives += [inner for file in included for inner in _read(file, named_by=directive)]
    return interpret(str(path), directives, files=[str(file) for file in files])


def _read(path: Path, *, named_by: Directive | None) -> list[Directive]:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise _translate(exc, path, named_by) from exc
    return parse_directives(content, str(path))


def _list_folder(directive: Directive, locate: Callable[[str], Path]) -> list[Path]:
    folder = locate(directive.value)
    try:
        names = [os.fsencode(item.name) for item in folder.iterdir()]
    except (OSError, ValueError) as exc:
        raise _translate(exc, folder, directive) from exc
    return [folder / os.fsdecode(name) for name in included_names(names)]


def _translate(exc: OSError | ValueError, path: Path, named_by: Directive | None) -> BrokerFileError:
    reason = (isinstance(exc, OSError) and exc.strerror) or type(exc).__name__
    where = f", which {named_by.file!r}, line {named_by.line}, includes" if named_by else ""
    hint = "give the file that the broker was started with (mosquitto -c)" if named_by is None else None
    return BrokerFileError(f"cannot read {str(path)!r}{where}: {reason}", hint=hint)
