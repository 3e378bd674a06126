"""What a run of provisioning makes of a user, or of a user's rights."""

from enum import StrEnum


class Action(StrEnum):
    """What became of a user, or of the right to read that a user has."""

    CREATED = "created"
    UPDATED = "updated"

    UPGRADED = "upgraded"
    """The password is the same, in a stronger entry or in fewer lines; only of a password file."""

    UNCHANGED = "unchanged"
    """Nothing was written, or sent."""

    REMOVED = "removed"
