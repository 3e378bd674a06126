"""``listen --to``: from its flags to the file."""

from plantops_cli.cli.shared.flags.display import FileFlags
from plantops_cli.cli.shared.stderr import say
from plantops_cli.outputs.file import FileDestination, LineFile


def file_destination(flags: FileFlags) -> FileDestination | None:
    """Open the file of ``--to``, or return None without the flag.

    Args:
        flags: which file, and when to begin a new one.

    Raises:
        ConfigError: it cannot be opened.
        ForeignFileError: it is not ours.
    """
    if flags.to is None:
        return None
    file = LineFile(flags.to, rotate_bytes=flags.rotate_size, rotate_seconds=flags.rotate_every)
    return FileDestination(file, say)
