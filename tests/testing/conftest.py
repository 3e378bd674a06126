"""What the tests of the test kit share."""

from tests.stream.conftest import nothing_left_behind, steps_logged

__all__ = ["nothing_left_behind", "steps_logged"]
