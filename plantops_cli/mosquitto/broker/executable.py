"""Programs that we start: where Mosquitto is installed, and what of our environment any of them may know."""

import os
import shutil
from pathlib import Path

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where Debian, the BSDs and Homebrew install ``mosquitto``: outside of an ordinary user's PATH."""


def find_mosquitto() -> str | None:
    """Return the absolute path of the local ``mosquitto``, or None when there is none."""
    folders = [os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS]
    found = shutil.which("mosquitto", path=os.pathsep.join(folders))
    # absolute: it may be started in another folder than the one that PATH is relative to
    return None if found is None else str(Path(found).absolute())


def harmless_environment() -> dict[str, str]:
    """Return our environment without the settings of plantops, among which are passwords."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MQTT_")}
