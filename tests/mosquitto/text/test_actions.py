"""The words for what became of a user: scripts read them."""

from plantops_cli.mosquitto.text.actions import Action


def test_an_action_is_written_as_the_word_that_scripts_read() -> None:
    assert [str(action) for action in Action] == ["created", "updated", "upgraded", "unchanged", "removed"]
