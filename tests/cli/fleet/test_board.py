"""The board of a fleet, drawn and moved by keys."""

from dataclasses import replace
from functools import reduce

import pytest

from plantops_cli.cli.fleet.board import View, draw, fit, page_size, press, spark
from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.snapshot import Snapshot

START = 1_000.0
NOW = START + 200


def fleet(count: int = 30) -> Snapshot:
    """Devices that beat every ten seconds; the first one stopped, the second is mute, the third talks nonsense."""
    presence = Presence(
        field="soil", is_payload_kept=True, roster=[*(f"plant-{n:02}" for n in range(count)), "absent"]
    )
    for turn in range(21):
        for n in range(count):
            if n == 0 and turn > 5:
                continue
            at = START + 10 * turn + n / 100
            presence.heard(f"devices/plant-{n:02}/heartbeat".encode(), b"1", at)
            if n != 1 or turn <= 5:
                payload = b"nonsense" if n == 2 else b'{"soil":%d,"note":"\\u001b[31m%d"}' % (turn % 8, n)
                presence.heard(f"devices/plant-{n:02}/telemetry".encode(), payload, at)
    return Snapshot(
        reports=tuple(presence.reports(NOW + 1)),
        taken_at=NOW + 1,
        listened_seconds=200.0,
        messages=presence.message_count,
        passed_over=0,
        outages=0,
        clock_offset_seconds=0.0,
    )


LOOK = fleet()


def drawn(
    view: View | None = None, *, size: tuple[int, int] = (80, 24), look: Snapshot = LOOK, note: str = "note"
) -> list[str]:
    text = draw(view or View(), look, broker="broker:1883", note=note, field="soil", size=size)
    return text.plain.split("\n")


def after(*keys: str, view: View | None = None) -> View:
    def step(before: View, key: str) -> View:
        found = press(before, key, page=10)
        assert found is not None
        return found

    return reduce(step, keys, view or View())


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (60, 12), (40, 8), (20, 5), (300, 100)])
def test_it_fills_the_screen_and_no_more(size: tuple[int, int]) -> None:
    lines = drawn(size=size, note="x" * 500)
    assert len(lines) == size[1]
    assert all(len(line) <= size[0] for line in lines)


def test_the_worst_come_first_with_a_word_for_their_state() -> None:
    lines = drawn()
    assert lines[0].startswith("plantops fleet  broker:1883")
    assert lines[1].startswith("31 devices: 28 online, 1 mute, 1 never seen, 1 offline")
    assert [line.split("  ")[0] for line in lines[4:8]] == ["offline", "never seen", "mute", "online"]
    assert lines[4].split()[1:5] == ["plant-00", "3m", "3m", "10s"]


def test_what_is_not_known_of_a_device_stands_behind_its_rates() -> None:
    presence = Presence()
    for n in range(6):
        presence.heard(b"devices/burst/telemetry", b"{}", NOW + n / 200)
    presence.heard(b"devices/kept/telemetry", b"{}", NOW, is_live=False)
    look = replace(LOOK, reports=tuple(presence.reports(NOW + 1)))
    rows = drawn(size=(160, 24), look=look)[4:6]
    assert rows[0].split()[:3] == ["never", "seen", "kept"]
    assert rows[0].endswith("retained only")
    assert rows[1].split()[:6] == ["online", "burst", "1.0s", "never", "-", "telemetry"]
    assert "heartbeat not heard yet" in rows[1]


def test_bars_show_the_field_and_the_rest_of_the_line_the_latest_values() -> None:
    lines = drawn(size=(120, 24))
    assert "▁" in lines[8]
    assert "█" in lines[8]
    assert "soil=4 note=" in lines[8]
    assert lines[3].rstrip().endswith("latest")


def test_at_eighty_columns_bars_go_before_values() -> None:
    lines = drawn()
    assert "soil" in lines[3]
    assert "latest" not in lines[3]
    assert "█" in lines[8]


def test_nothing_a_device_said_commands_the_terminal() -> None:
    assert "\x1b" not in "\n".join(drawn(size=(200, 40)))
    assert "\\x1b[31m" in "\n".join(drawn(size=(200, 40)))


def test_nonsense_is_said() -> None:
    [line] = [line for line in drawn(size=(160, 40)) if "plant-02" in line]
    assert "not JSON" in line


def test_keys_sort() -> None:
    orders = [after(*"s" * n).order for n in range(6)]
    assert orders == ["state", "id", "silence", "rate", "invalid", "state"]
    assert "absent" in drawn(after("s"))[4]
    assert "plant-00" in drawn(after(*"ss"))[5]  # after the one that was never heard
    assert "plant-02" in drawn(after(*"ssss"))[4]


def test_keys_scroll_and_stop_at_both_ends() -> None:
    height = 24
    last = fit(after("end"), LOOK, height)
    assert last.offset == 31 - page_size(height)
    assert fit(after("up"), LOOK, height).offset == 0
    assert fit(after("down", "j", "page down", "up", "k"), LOOK, height).offset == 10
    assert "12 to 30 of 31" in drawn(fit(after(*["down"] * 11), LOOK, height))[-1]
    assert fit(after("end", "home"), LOOK, height).offset == 0


def test_a_filter_is_typed_kept_and_dropped() -> None:
    typing = after("/", *"plant-01q", "backspace")
    assert (typing.needle, typing.is_typing) == ("plant-01", True)
    assert drawn(typing)[-1].startswith("filter: plant-01")
    kept = after("enter", view=typing)
    assert [line.split("  ")[0] for line in drawn(kept)[4:6]] == ["mute", ""]
    assert "1 of 31" in drawn(kept, size=(120, 24))[-1]
    assert after("escape", view=kept).needle == ""
    assert after("escape", view=typing).needle == ""


def test_a_filter_finds_states_too() -> None:
    lines = drawn(after("/", *"NEVER", "enter"))
    assert "absent" in lines[4]
    assert lines[5] == ""


def test_a_key_pauses_and_another_quits() -> None:
    assert drawn(after("p"))[-1].endswith("paused")
    assert not after("p", " ").is_paused
    assert press(View(), "q", page=10) is None
    assert after("x", "left") == View()


def test_bars_span_lowest_to_highest() -> None:
    assert spark((0.0, 7.0), 8) == "▁█"
    assert spark((3.0, 3.0), 8) == "▁▁"
    assert spark((-1.7e308, 1.7e308, 0), 8) == "▁▁▁"
    assert spark(tuple(map(float, range(100))), 8) == "▁▂▃▄▅▆▇█"
    assert spark((), 8) == ""


def test_an_empty_fleet_is_a_board_too() -> None:
    lines = drawn(look=replace(LOOK, reports=()))
    assert lines[1].startswith("0 devices;")


def test_a_device_with_a_long_name_leaves_room_for_the_rest() -> None:
    report: DeviceReport = replace(LOOK.reports[5], device_id="x" * 300)
    [line] = [line for line in drawn(look=replace(LOOK, reports=(report,))) if "xxx" in line]
    assert line.count("x") == 28
    assert "10s" in line


def test_every_state_has_a_place_in_the_order() -> None:
    reports = tuple(
        replace(LOOK.reports[5], state=state, device_id=state.value) for state in reversed(DeviceState)
    )
    lines = drawn(look=replace(LOOK, reports=reports))
    assert [line.split("  ")[0] for line in lines[4:10]] == [state.words for state in DeviceState]
