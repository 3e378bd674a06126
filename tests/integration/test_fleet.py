"""``plantops fleet`` and ``plantops check`` on a real Mosquitto and a fleet with every fault."""

import csv
import io
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto
from tests.support.plantops import Done, run, start, start_on_terminal
from tests.support.publishing import publish
from tests.support.simulated_fleet import publishing, wait_for_clients

GROUPS = {"healthy": 140, "stopped": 20, "mute": 20, "lonely": 10, "unknown": 5, "nonsense": 5}
DEVICES = {f"{group}-{n:03}": group for group, number in GROUPS.items() for n in range(number)}
ABSENT = [f"absent-{n}" for n in range(4)]
INTERVAL = 2.0
LAST_BEAT = 4  # of what stops: the fifth
WAIT = "24"
STATES = {
    "healthy": "online",
    "stopped": "offline",
    "mute": "mute",
    "lonely": "no_heartbeat",
    "unknown": "online",
    "nonsense": "online",
}
STORIES = {
    "healthy": ["online"],
    "stopped": ["online", "late", "offline"],
    "mute": ["online", "late", "mute"],
    "lonely": ["online", "late", "no_heartbeat"],
    "unknown": ["online"],
    "nonsense": ["online"],
}


def beat(number: int) -> list[tuple[str, bytes]]:
    is_over = number > LAST_BEAT
    silent = {
        "telemetry": {"stopped", "mute"} if is_over else set(),
        "heartbeat": {"stopped", "lonely"} if is_over else set(),
    }
    return [
        (f"devices/{device}/{kind}", b"nonsense" if group == "nonsense" else b'{"seq":%d}' % number)
        for device, group in DEVICES.items()
        for kind, quiet in silent.items()
        if group not in quiet
    ]


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Done]]:
    """Three commands that watch the same 200 devices at the same time."""
    folder = tmp_path_factory.mktemp("fleet")
    roster = folder / "roster.csv"
    expected = [device for device, group in DEVICES.items() if group != "unknown"]
    roster.write_text("name,device_id\n" + "".join(f"Plant,{device}\n" for device in [*expected, *ABSENT]))
    broker = Mosquitto(folder)
    broker.start()
    commands = {
        "once": ("fleet", "--once", "--within", WAIT, "--save-roster", str(folder / "seen"), "--seq", "seq"),
        "check": ("check", "--within", WAIT, "--warn-late", "31"),
        "events": ("fleet", "--events", "-W", WAIT),
    }
    try:
        with ExitStack() as stack:
            running = {
                name: stack.enter_context(start(*command, "--expect", str(roster), env=broker.environment))
                for name, command in commands.items()
            }
            wait_for_clients(broker, 3)
            with publishing(broker, beat, interval=INTERVAL):
                done = {name: one.finish() for name, one in running.items()}
        done["roster"] = Done(0, (folder / "seen").read_bytes(), "", 0)
        yield done
    finally:
        broker.stop()


def test_one_look_tells_the_state_of_each_of_two_hundred_devices(looked: dict[str, Done]) -> None:
    done = looked["once"]
    assert (done.code, done.errors) == (0, [])
    document = json.loads(done.stdout)
    states = {device["device_id"]: device["state"] for device in document["devices"]}
    expected = {device: STATES[group] for device, group in DEVICES.items()}
    assert states == expected | dict.fromkeys(ABSENT, "never_seen")
    summary = document["summary"]
    assert (summary["online"], summary["offline"], summary["mute"], summary["no_heartbeat"]) == (150, 20, 20, 10)
    assert (summary["missing"], summary["unknown"], summary["never_seen"]) == (4, 5, 4)
    assert summary["outages"] == 0
    assert summary["invalid"] == sum(device["invalid"] for device in document["devices"]) >= 5 * 8


def test_a_look_measures_intervals_and_sequence_numbers(looked: dict[str, Done]) -> None:
    devices = {device["device_id"]: device for device in json.loads(looked["once"].stdout)["devices"]}
    healthy = devices["healthy-000"]
    assert healthy["interval_seconds"] == pytest.approx(INTERVAL, abs=0.5)
    assert healthy["rate"] == pytest.approx(2 / INTERVAL, rel=0.25)
    assert (healthy["missing"], healthy["duplicates"], healthy["expected"]) == (0, 0, True)
    assert devices["nonsense-000"]["error"].startswith("not JSON")
    assert devices["unknown-000"]["expected"] is False


def test_every_change_of_state_is_a_line_and_nobody_flaps(looked: dict[str, Done]) -> None:
    done = looked["events"]
    assert (done.code, done.errors) == (0, [])
    stories = defaultdict(list)
    before = {device: None if group == "unknown" else "never_seen" for device, group in DEVICES.items()}
    for line in map(json.loads, done.lines):
        assert line["before"] == before[line["device_id"]]
        before[line["device_id"]] = line["state"]
        stories[line["device_id"]].append(line["state"])
    assert stories == {device: STORIES[group] for device, group in DEVICES.items()}


def test_late_and_offline_come_at_two_and_four_intervals(looked: dict[str, Done]) -> None:
    lines = [json.loads(line) for line in looked["events"].lines if b"stopped-" in line]
    late = [line["silent_seconds"] for line in lines if line["state"] == "late"]
    offline = [line["silent_seconds"] for line in lines if line["state"] == "offline"]
    assert late == pytest.approx([2 * INTERVAL] * 20, abs=1.0)
    assert offline == pytest.approx([4 * INTERVAL] * 20, abs=2.0)


def test_the_check_agrees_in_one_line(looked: dict[str, Done]) -> None:
    done = looked["check"]
    assert done.code == 2
    [line] = done.stdout.decode().splitlines()
    said, _, data = line.partition(" | ")
    assert said.startswith("PLANTOPS CRITICAL - 24 offline or missing: stopped-000 (offline), ")
    assert "late, mute" not in said  # 30 are, and 31 are allowed for
    figures = dict(figure.split("=") for figure in data.split())
    assert figures["gone"] == "24;;0;0"
    assert figures["ailing"] == "30;30;;0"
    assert (figures["online"].split(";")[0], figures["unknown"].split(";")[0]) == ("150", "5")


def test_a_roster_of_what_was_seen_is_written(looked: dict[str, Done]) -> None:
    assert looked["roster"].stdout.decode().splitlines() == sorted(DEVICES)
    assert "roster of 200 devices" in looked["once"].stderr


def test_an_outage_of_ours_is_held_against_nobody(own_mosquitto: Mosquitto) -> None:
    def plan(number: int) -> list[tuple[str, bytes]]:
        return [(f"devices/plant-{n}/{kind}", b"{}") for n in range(5) for kind in ("telemetry", "heartbeat")]

    with start("fleet", "--events", env=own_mosquitto.environment) as watching:
        watching.stderr.wait_for("connected to")
        with publishing(own_mosquitto, plan, interval=1.0):
            time.sleep(5)
            own_mosquitto.stop()
            time.sleep(6)
        own_mosquitto.start()
        with publishing(own_mosquitto, plan, interval=1.0):
            watching.stderr.wait_for("resumed after")
            time.sleep(5)
            done = watching.finish(2)
    assert done.code == 0
    assert [json.loads(line)["state"] for line in done.lines] == ["online"] * 5


def test_slow_devices_beside_a_fast_one_are_well_as_long_as_they_are(own_mosquitto: Mosquitto) -> None:
    def plan(number: int) -> list[tuple[str, bytes]]:
        names = ["fast", *(f"slow-{n}" for n in range(5) if number % 25 == n)]
        kinds = ("telemetry",) if number < 20 else ("heartbeat", "telemetry")
        return [(f"devices/{name}/{kind}", b"{}") for name in names for kind in kinds]

    with start("fleet", "--events", env=own_mosquitto.environment) as watching:
        watching.stderr.wait_for("connected to")
        with publishing(own_mosquitto, plan, interval=0.3):
            time.sleep(10)
            done = watching.finish(2)
    slow = [line for line in map(json.loads, done.lines) if line["device_id"] != "fast"]
    assert sorted((line["device_id"], line["state"]) for line in slow) == [
        (f"slow-{n}", "online") for n in range(5)
    ]
    assert all("heartbeat not heard yet" in line["remarks"] for line in slow)


def test_who_is_mute_is_silent_for_as_long_as_its_telemetry(own_mosquitto: Mosquitto) -> None:
    def plan(number: int) -> list[tuple[str, bytes]]:
        kinds = ("heartbeat", "telemetry") if number < 10 else ("heartbeat",)
        return [(f"devices/a/{kind}", b"{}") for kind in kinds]

    with start("fleet", "--events", env=own_mosquitto.environment) as watching:
        watching.stderr.wait_for("connected to")
        with publishing(own_mosquitto, plan, interval=0.6):
            watching.stdout.wait_for('"mute"')
            done = watching.finish(2)
    late, mute = map(json.loads, done.lines[-2:])
    assert (late["state"], late["topic"], mute["state"], mute["topic"]) == (
        "late",
        "telemetry",
        "mute",
        "telemetry",
    )
    assert 1.5 < late["silent_seconds"] < mute["silent_seconds"]
    assert mute["silent_seconds"] > 3.5


@pytest.mark.parametrize("arguments", [("fleet", "--once"), ("fleet", "--events"), ("check",)], ids=" ".join)
def test_who_is_quiet_before_its_rhythm_is_known_is_named(
    own_mosquitto: Mosquitto, arguments: tuple[str, ...]
) -> None:
    publish(own_mosquitto, "devices/kept/heartbeat", b"1", retain=True)
    limit = "-W" if "--events" in arguments else "--within"
    # silence is certain as far as the broker has answered
    with start(*arguments, limit, "12", "-k", "1", env=own_mosquitto.environment) as watching:
        wait_for_clients(own_mosquitto, 2)
        time.sleep(1)
        publish(own_mosquitto, "devices/a/telemetry", b"{}")
        time.sleep(0.7)
        publish(own_mosquitto, "devices/a/telemetry", b"{}", b"{}", b"{}", b"{}", b"{}", b"{}")
        done = watching.finish()
    said = done.stdout.decode() + done.stderr
    assert "quiet before" in done.stdout.decode()
    assert "retained only" in done.stdout.decode()
    assert '"rate":null' in said.replace(" ", "") or "--once" not in arguments
    assert '"state":"late"' not in said


# Forms


@pytest.fixture
def retained(own_mosquitto: Mosquitto) -> Mosquitto:
    """A broker that keeps the heartbeat of a device with a nasty name."""
    publish(own_mosquitto, "devices/a|b\u202e/heartbeat", b"1", retain=True)
    return own_mosquitto


def test_off_a_terminal_a_look_is_json_and_a_retained_message_proves_nothing(retained: Mosquitto) -> None:
    done = run("fleet", "--once", "--within", "1", env=retained.environment)
    [device] = json.loads(done.stdout)["devices"]
    assert (device["state"], device["retained_only"], device["last_heartbeat"]) == ("never_seen", True, None)
    assert done.code == 0


def test_a_look_may_be_csv(retained: Mosquitto) -> None:
    done = run("fleet", "--once", "--within", "1", "-o", "csv", "--expect-ids", "x", env=retained.environment)
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [row["device_id"] for row in rows] == ["a|b\u202e", "x"]
    assert {row["state"] for row in rows} == {"never_seen"}


@pytest.mark.parametrize("form", ["table", "md"])
def test_what_people_read_holds_no_character_that_reorders_it(retained: Mosquitto, form: str) -> None:
    done = run("fleet", "--once", "--within", "1", "-o", form, env=retained.environment)
    text = done.stdout.decode()
    assert "\u202e" not in text
    assert "\\u202e" in text
    assert "never seen" in text
    assert "1 device: 1 never seen" in text
    assert form == "table" or "a\\|b" in text


def test_on_a_terminal_a_look_is_a_table_in_colour(retained: Mosquitto) -> None:
    with start_on_terminal("fleet", "--once", "--within", "1", env=retained.environment) as (running, _):
        done = running.finish()
    assert b"never seen" in done.stdout
    assert b"telemetry" in done.stdout
    assert "\u202e".encode() not in done.stdout


def test_on_a_terminal_changes_are_lines_for_people(own_mosquitto: Mosquitto) -> None:
    arguments = ("fleet", "--events", "--expect-ids", "a")
    with start_on_terminal(*arguments, env=own_mosquitto.environment) as (running, _):
        running.stdout.wait_for("connected to")
        publish(own_mosquitto, "devices/a/telemetry", b"{}")
        running.stdout.wait_for("online .*a .*was never seen")
        assert running.finish(2).code == 0


# What can go wrong


def test_silence_is_said_with_its_code(own_mosquitto: Mosquitto) -> None:
    done = run("fleet", "--once", "--within", "0.5", env=own_mosquitto.environment)
    assert done.code == 27
    assert json.loads(done.stdout)["devices"] == []
    assert "no message at all" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--once", "--events"), "together"),
        (("--within", "3"), "--once"),
        (("--events", "--save-roster", "x"), "--once"),
        (("--once", "-W", "3"), "--within"),
        (("--once", "-o", "jsonl"), "does not fit"),
        (("--events", "-o", "csv"), "does not fit"),
        (("--once", "--within", "soon"), "--within 'soon'"),
        (("--once", "--offline-after", "0"), "--offline-after"),
        (("--once", "--expect", "absent"), "--expect 'absent': No such file"),
        (("--once", "--expect-ids", "a/b"), "no device id"),
        (("--once", "--device", "a/b"), "--device"),
    ],
)
def test_flags_that_make_no_sense_are_refused(mosquitto: Mosquitto, arguments: tuple[str, ...], said: str) -> None:
    done = run("fleet", *arguments, env=mosquitto.environment)
    assert done.code == 2
    assert done.stdout == b""
    [error] = done.errors
    assert said in error


def test_a_roster_never_replaces_a_file(own_mosquitto: Mosquitto, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine\n")
    done = run("fleet", "--once", "--within", "0.5", "--save-roster", str(kept), env=own_mosquitto.environment)
    assert done.code == 2
    assert "there is such a file" in done.errors[0]
    assert kept.read_text() == "mine\n"
    publish(own_mosquitto, "devices/a/telemetry", b"{}", retain=True)
    absent = tmp_path / "absent" / "roster"
    done = run("fleet", "--once", "--within", "0.5", "--save-roster", str(absent), env=own_mosquitto.environment)
    assert done.code == 2
    assert "No such file" in done.errors[0]


def test_a_roster_is_not_written_through_a_link_that_was_planted(own_mosquitto: Mosquitto, tmp_path: Path) -> None:
    roster, victim = tmp_path / "roster", tmp_path / "victim"
    victim.write_text("mine\n")
    publish(own_mosquitto, "devices/a/telemetry", b"{}", retain=True)
    arguments = ("fleet", "--once", "--within", "0.5", "--save-roster", str(roster))
    with start(*arguments, env=own_mosquitto.environment) as running:
        tmp_path.joinpath(f".roster.{running.process.pid}").symlink_to(victim)
        running.finish()
    assert victim.read_text() == "mine\n"
    assert roster.is_file()
    assert not roster.is_symlink()


def test_ctrl_c_before_the_look_is_over_is_no_look(own_mosquitto: Mosquitto) -> None:
    with start("fleet", "--once", env=own_mosquitto.environment) as running:
        running.stderr.wait_for("connected to")
        done = running.finish(2)
    assert (done.code, done.stdout) == (130, b"")
    assert done.seconds < 5


def test_a_reader_that_goes_ends_it_quietly(own_mosquitto: Mosquitto) -> None:
    with start("fleet", "--events", env=own_mosquitto.environment, pipe_to="head -n 1") as running:
        running.stderr.wait_for("connected to")
        publish(own_mosquitto, "devices/a/telemetry", b"{}")
        publish(own_mosquitto, "devices/b/telemetry", b"{}")
        done = running.finish()
    assert len(done.lines) == 1
    assert done.stderr.splitlines()[-1] == "exit 0"
