"""The comparison with other libraries: what is counted, and that programs report what they did."""

import asyncio
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.libraries import rivals, turns
from benchmarks.libraries.account import DEVICES, Account, Tally, pace, worst
from benchmarks.libraries.journal import Follower, Journal, Kind, Record
from benchmarks.libraries.programs.fan_out import fan_out
from benchmarks.libraries.programs.job import QUICK, WAITING, mixed_seconds, varied_seconds
from benchmarks.libraries.rivals import Program
from benchmarks.libraries.stage import FIRST, Stage, kill, number_at, source
from benchmarks.measure import MeasurementError, Sizes

PROGRAMS = [one for one in (rivals.by_hand(), rivals.typed()) if one]
SOCKETS = [rivals.raw(5, "each", receive_maximum=500), rivals.raw(5, "20"), rivals.raw(4, "batch")]
KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.libraries.journal import Journal, Kind
journal = Journal(Path(sys.argv[1]), 10)
journal.note(Kind.BEGUN, 7)
os.kill(os.getpid(), signal.SIGKILL)
"""


def tally(steps: Iterable[tuple[Kind, int]], count: int) -> Tally:
    account = Account()
    account.add(Record(kind, number, 0) for kind, number in steps)
    return account.tally(count)


def handled(*numbers: int) -> list[tuple[Kind, int]]:
    return [(kind, number) for number in numbers for kind in (Kind.BEGUN, Kind.ENDED)]


def test_what_never_ends_is_lost() -> None:
    assert tally([*handled(0, 1), (Kind.BEGUN, 2)], 4) == Tally(2, 0, 1, 0, 0)


def test_what_ends_again_is_repeated_each_time() -> None:
    assert tally(handled(0, 1, 0, 1, 0), 2) == Tally(0, 3, 0, 0, 0)


def test_what_is_begun_again_after_a_kill_is_cut_short_and_not_repeated() -> None:
    assert tally([(Kind.BEGUN, 0), *handled(0, 1)], 2) == Tally(0, 0, 1, 0, 0)


def test_order_is_that_of_a_device() -> None:
    assert tally(handled(1, 0, DEVICES + 1, DEVICES), 4) == Tally(0, 0, 0, 0, 0)
    assert tally(handled(DEVICES, 0), 2) == Tally(0, 0, 0, 1, 1)


def test_a_handling_may_begin_in_order_and_end_out_of_it() -> None:
    steps = [(Kind.BEGUN, 0), (Kind.BEGUN, DEVICES), (Kind.ENDED, DEVICES), (Kind.ENDED, 0)]
    assert tally(steps, 2) == Tally(0, 0, 0, 0, 1)


def test_a_repeat_is_not_out_of_order() -> None:
    assert tally(handled(0, DEVICES, 0, DEVICES), 2) == Tally(0, 2, 0, 0, 0)


def test_the_worst_of_rounds_is_taken_figure_by_figure() -> None:
    assert worst([Tally(0, 3, 0, 1, 0), Tally(2, 1, 0, 0, 5)]) == Tally(2, 3, 0, 1, 5)


def test_pace_is_between_the_first_note_and_the_last() -> None:
    notes = [
        (Kind.COUNT, 1, 10_000),
        (Kind.CPU, 1, 500_000),
        (Kind.COUNT, 1001, 1_010_000),
        (Kind.CPU, 1001, 5_500_000),
    ]
    found = pace(Record(*note) for note in notes)
    assert found is not None
    assert (found.microseconds, found.per_second) == (5.0, 1e6)


def test_one_note_shows_no_pace() -> None:
    assert pace([Record(Kind.COUNT, 1, 0), Record(Kind.CPU, 1, 0), Record(Kind.COUNT, 1000, 9)]) is None


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    follower = Follower(path)
    assert list(follower.records()) == []
    journal = Journal(path, 10_000)
    assert list(follower.records()) == []
    for number in range(9_000):
        journal.note(Kind.BEGUN, number)
    assert [record.number for record in follower.records()] == list(range(9_000))
    journal.note(Kind.ENDED, 5)
    assert [(record.kind, record.number) for record in follower.records()] == [(Kind.ENDED, 5)]


def test_a_journal_outlives_the_death_of_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    done = subprocess.run([sys.executable, "-c", KILLED, path], cwd=rivals.ROOT, check=False)
    assert done.returncode == -9
    assert [(record.kind, record.number) for record in Follower(path).records()] == [(Kind.BEGUN, 7)]


@pytest.mark.parametrize("in_a_row", [1, 5])
def test_numbers_of_a_device_count_up_and_none_is_missing(in_a_row: int) -> None:
    numbers = [number_at(place, in_a_row) for place in range(1_000)]
    assert sorted(numbers) == list(range(FIRST, FIRST + 1_000))
    by_device = defaultdict(list)
    for number in numbers:
        by_device[number % DEVICES].append(number)
    assert all(earlier < later for of_one in by_device.values() for earlier, later in pairwise(of_one))
    assert len({number % DEVICES for number in numbers[:in_a_row]}) == 1


def test_each_tenth_message_is_a_heartbeat_where_there_are_any() -> None:
    data = bytes(source(0, 10_000, in_a_row=1, has_heartbeats=True).data)
    assert (data.count(b"/telemetry"), data.count(b"/heartbeat")) == (9_000, 1_000)
    assert b"/heartbeat" not in bytes(source(0, 1_000, in_a_row=1, has_heartbeats=False).data)


def test_of_forty_thousand_handlings_a_few_are_slow_on_many_devices() -> None:
    seconds = {number: mixed_seconds(number) for number in range(FIRST, FIRST + 40_000)}
    slow = [number for number, lasts in seconds.items() if lasts]
    assert 35 <= sum(lasts == 0.05 for lasts in seconds.values()) <= 45
    assert 800 <= len(slow) <= 880
    assert len({number % DEVICES for number in slow}) == DEVICES


def test_handlings_of_one_device_vary() -> None:
    assert len({varied_seconds(FIRST + DEVICES * turn) for turn in range(11)}) == 11


def test_workers_finish_what_was_taken_when_they_are_cancelled() -> None:
    done = list[int]()

    async def endless() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await asyncio.Event().wait()

    async def handle(number: int) -> None:
        await asyncio.sleep(0.01)
        done.append(number)

    async def scene() -> None:
        task = asyncio.create_task(fan_out(endless(), handle, 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scene())
    assert sorted(done) == [0, 1, 2]


async def test_a_worker_goes_on_after_a_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    done = list[int]()

    async def some() -> AsyncIterator[int]:
        for number in range(4):
            yield number

    async def handle(number: int) -> None:
        if number < 2:
            raise ConnectionError("lost")
        done.append(number)

    await fan_out(some(), handle, 2)
    assert done == [2, 3]
    assert caplog.text.count("ConnectionError: lost") == 2


def test_only_the_libraries_that_were_asked_for_are_measured() -> None:
    programs = [Program("plantops", ()), None, Program("gmqtt 1", ()), Program("MQTTium", ())]
    names = [program.name for program in turns.chosen(programs, Sizes(libraries="GMQTT,mqttium"))]
    assert names == ["gmqtt 1", "MQTTium"]
    assert len(turns.chosen(programs, Sizes())) == 3


def test_a_program_that_fails_is_left_out_and_its_failure_told() -> None:
    def run(program: Program) -> str:
        if program.name == "bad":
            raise MeasurementError("it fell")
        return program.name

    results, failures = turns.take([Program("good", ()), Program("bad", ())], Sizes(rounds=2), run)
    assert (results, failures) == ({"good": ["good", "good"]}, ["it fell"])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_plantops_reports_what_quick_handlers_cost(program: Program) -> None:
    with Stage(program, QUICK, count=2_000) as stage:
        stage.start()
        stage.wait_until_subscribed()
        with stage.publishing(0, 2_000):
            assert stage.wait_until_counted(2_000, patience=60)
        found = pace(stage.records)
    assert found is not None
    assert found.microseconds > 0


@pytest.mark.parametrize("program", [*PROGRAMS, *SOCKETS], ids=lambda program: program.name)
def test_nothing_is_lost_when_a_program_is_killed_and_started_again(program: Program) -> None:
    with Stage(program, WAITING, count=100, is_durable=True) as stage:
        child = stage.start()
        stage.wait_until_subscribed()
        with stage.publishing(0, 100):
            assert stage.wait_until_handled(20, patience=60)
            kill(child)
            child = stage.start()
            assert stage.wait_until_handled(100, patience=60)
        child.end(is_asked=True)
        assert stage.account.tally(100).lost == 0
