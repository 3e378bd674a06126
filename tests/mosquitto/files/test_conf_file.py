"""mosquitto.conf on disk, and the same files given to a real broker."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.conf_file import read_config

NAMES = [".x.conf", "1.conf", "A1.conf", "B.conf", "C.conf", "_.conf", "a.b.conf", "a.conf", "b.conf", "é.conf"]
IGNORED = [".conf", "1.CONF", "a.conf~", "a.conf.bak"]
START_SECONDS = 10.0


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def broker_log(folder: Path) -> str:
    """Start a broker with the folder's ``conf`` and return what it says until it runs or ends."""
    executable = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")
    assert executable, "mosquitto is not installed"
    with (folder / "log").open("wb") as log:
        broker = subprocess.Popen([executable, "-v", "-c", "conf"], cwd=folder, stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not re.search("version .* running", text := (folder / "log").read_text()):
            assert time.monotonic() < deadline
            if broker.poll() is not None:
                return (folder / "log").read_text()
            time.sleep(0.005)
        return text
    finally:
        broker.send_signal(signal.SIGKILL)
        broker.wait(timeout=10)


def test_included_files_are_read_in_the_order_of_the_broker(tmp_path: Path) -> None:
    conf = written(tmp_path / "conf", "user root\nlistener 0 socket\ninclude_dir conf.d\n")
    for name in [*NAMES, *IGNORED]:
        written(tmp_path / "conf.d" / name, "" if name in NAMES else "refused by the broker\n")
    loaded = re.findall(r"Loading config file '?(.+\.conf)'?$", broker_log(tmp_path), re.MULTILINE)
    config = read_config(conf, locate=lambda path: tmp_path / path)
    assert loaded != sorted(loaded)
    assert list(config.files) == [str(conf), *(str(tmp_path / path) for path in loaded)]
    assert len(loaded) == len(NAMES)


def test_an_included_file_begins_with_the_default_listener_and_leaves_that_of_its_includer(tmp_path: Path) -> None:
    conf = written(
        tmp_path / "conf",
        "user root\nper_listener_settings true\nlistener 0 socket\ninclude_dir conf.d\nacl_file counts\n",
    )
    # a second acl_file of one listener would be refused
    written(tmp_path / "conf.d" / "a.conf", "acl_file idle\n")
    log = broker_log(tmp_path)
    assert 'Unable to open acl_file "counts"' in log
    config = read_config(conf, locate=lambda path: tmp_path / path)
    assert [listener.acl_file for listener in config.listeners] == ["counts"]


def test_included_options_stand_where_they_are_included(tmp_path: Path) -> None:
    conf = written(tmp_path / "conf", f"user a\ninclude_dir {tmp_path}/conf.d\npid_file p\n")
    inner = written(tmp_path / "conf.d" / "a.conf", "\nallow_anonymous true\n")
    assert [(item.name, item.file, item.line) for item in read_config(conf).directives] == [
        ("user", str(conf), 1),
        ("include_dir", str(conf), 2),
        ("allow_anonymous", str(inner), 2),
        ("pid_file", str(conf), 3),
    ]


def test_the_files_of_a_configuration_are_those_that_a_reload_reads_apart_from_those_that_it_names(
    tmp_path: Path,
) -> None:
    conf = written(tmp_path / "conf", f"include_dir {tmp_path}/conf.d\npassword_file p\n")
    empty = written(tmp_path / "conf.d" / "empty.conf", "")
    config = read_config(conf)
    assert config.files == (str(conf), str(empty))
    assert [(file.path, file.kind) for file in config.reload_files] == [("p", "password")]


def test_a_folder_of_a_container_is_looked_for_where_it_lies_here(tmp_path: Path) -> None:
    conf = written(tmp_path / "conf", "include_dir /mosquitto/conf.d\n")
    written(tmp_path / "conf.d" / "a.conf", "password_file /mosquitto/passwords\n")
    config = read_config(conf, locate=lambda path: tmp_path / path.removeprefix("/mosquitto/"))
    assert config.password_files == ("/mosquitto/passwords",)


def test_an_include_dir_in_an_included_file_counts_for_nothing(tmp_path: Path) -> None:
    conf = written(tmp_path / "conf", f"include_dir {tmp_path}/conf.d\n")
    written(tmp_path / "conf.d" / "a.conf", f"include_dir {tmp_path}/conf.d\nuser nobody\n")
    assert read_config(conf).user == "nobody"


def unreadable() -> Iterator[tuple[str, str, str]]:
    """A name, the content of the configuration, and what the message must say."""
    yield "missing folder", "\ninclude_dir {folder}/none\n", r"none', which '.*conf', line 2, includes: No such"
    yield "no folder", "include_dir {folder}/conf\n", r"line 1, includes: Not a directory"
    yield "a folder as a file", "include_dir {folder}\n", r"x\.conf', which .*line 1, includes: Is a directory"
    yield "blank at the end", "include_dir {folder}/x.conf \n", r"x\.conf ', which"
    yield "bad port", "\nlistener abc\n", r"conf', line 2: listener has no port"
    yield "NUL", "\n\nuser a\0b\n", r"conf', line 3: contains NUL"


@pytest.mark.parametrize(
    ("name", "content", "message"), [pytest.param(*case, id=case[0]) for case in unreadable()]
)
def test_what_cannot_be_read_is_named_with_the_line_that_names_it(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / "x.conf").mkdir()
    conf = written(tmp_path / "conf", content.format(folder=tmp_path))
    with pytest.raises(BrokerFileError, match=message):
        read_config(conf)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerFileError, match=r"cannot read '.*none': No such file") as refused:
        read_config(tmp_path / "none")
    assert "mosquitto -c" in (refused.value.hint or "")


def test_bytes_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    conf = written(tmp_path / "conf", b"# \xff\npassword_file /etc/\xff\n")
    assert read_config(conf).password_files == ("/etc/\udcff",)
