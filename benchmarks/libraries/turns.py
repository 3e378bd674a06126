"""Programs by turns, A B A B, so that what drifts on a noisy machine hits all of them."""

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.libraries import rivals
from benchmarks.libraries.rivals import Program
from benchmarks.measure import Comparison, MeasurementError, Sizes

_T = TypeVar("_T")
_ROUNDS = 3

_MACHINE = (
    "Mosquitto has its defaults, but for max_queued_messages 0; 108 bytes of JSON from 100 devices at QoS 1, "
    "as fast as the broker takes them unless it says otherwise, validated by one pydantic model (pydantic "
    "{pydantic}); each library speaks the MQTT version that is its default. Programs take turns, {times} "
    "each; publisher, broker and program share the cores."
)


def machine(sizes: Sizes) -> str:
    """What is alike in all comparisons of libraries."""
    return _MACHINE.format(times=_times(rounds(sizes)), pydantic=importlib.metadata.version("pydantic"))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def rounds(sizes: Sizes) -> int:
    """How often each program has its turn."""
    return min(_ROUNDS, sizes.rounds)


def chosen(programs: Sequence[Program | None], sizes: Sizes) -> list[Program]:
    """Those of the programs that are to be measured.

    Args:
        programs: None for one that there is not.
        sizes: its ``libraries`` are words of which a name must have one.
    """
    words = [word.casefold() for word in sizes.libraries.split(",") if word]
    there = [program for program in programs if program]
    return [one for one in there if not words or any(word in one.name.casefold() for word in words)]


def everybody(sizes: Sizes, *more: Program | None) -> tuple[list[Program], list[str]]:
    """plantops and the other libraries, and what is missing."""
    others, missing = rivals.others()
    return chosen([rivals.ours(), *more, *others], sizes), missing


def take(
    programs: Sequence[Program], sizes: Sizes, run: Callable[[Program], _T]
) -> tuple[dict[str, list[_T]], list[str]]:
    """Run each program once a round; one that fails is left out from there on, and its failure returned.

    Args:
        programs: whose turns.
        sizes: for the rounds.
        run: runs one.
    """
    results: dict[str, list[_T]] = {program.name: [] for program in programs}
    failed: dict[str, str] = {}
    for _ in range(rounds(sizes)):
        for program in programs:
            if program.name not in failed:
                try:
                    results[program.name].append(run(program))
                except MeasurementError as error:
                    failed[program.name] = str(error)
    return {name: of_one for name, of_one in results.items() if name not in failed}, list(failed.values())


def compare(
    measure: str, figures: dict[str, list[float]], *, unit: str, ours: str, targets: dict[str, float] | None = None
) -> list[Comparison]:
    """One of the programs against each of the others.

    Args:
        measure: what was measured.
        figures: by name of the program, round by round.
        unit: of the figures.
        ours: the name of the one.
        targets: the ratio aimed at, by a word of the peer's name.
    """
    if ours not in figures:
        return []
    return [
        Comparison(
            measure,
            name,
            tuple(zip(figures[ours], theirs, strict=True)),
            unit,
            next((target for word, target in (targets or {}).items() if word in name), None),
        )
        for name, theirs in figures.items()
        if name != ours
    ]


def judged(value: float, target: float, unit: str) -> str:
    """A target that is no ratio, and whether it is met."""
    return f"at most {target:g} {unit}, {verdict(is_met=value <= target)}"


def verdict(*, is_met: bool) -> str:
    """What stands behind a target."""
    return "met" if is_met else "missed"
