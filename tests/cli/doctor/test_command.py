"""What doctor says of a command line that makes no sense, as a whole process."""

import json

from tests.support.plantops import run


def test_what_is_refused_is_a_step_of_the_document_and_the_exit_code() -> None:
    done = run("doctor", "a/#/b", "--anonymous", "-o", "json")
    document = json.loads(done.stdout)
    assert (done.code, document["exit_code"], done.stderr) == (2, 2, "")
    assert [(step["name"], step["status"]) for step in document["steps"]] == [("settings", "failed")]


def test_a_time_that_is_none_is_refused_by_the_name_of_its_flag() -> None:
    done = run("doctor", "--wait", "soon")
    assert (done.code, done.stdout) == (2, b"")
    assert "--wait 'soon'" in done.stderr
