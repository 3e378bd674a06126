from plantops_cli.stream.backoff import BASE_SECONDS, CAP_SECONDS, STABLE_SECONDS, Backoff


def upper_bounds() -> Backoff:
    return Backoff(uniform=lambda _, high: high)


def test_the_bound_doubles_from_the_base_up_to_the_cap() -> None:
    backoff = upper_bounds()
    assert [backoff.next_delay() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_delay_is_drawn_between_zero_and_the_bound() -> None:
    backoff = Backoff(base_seconds=1, uniform=lambda low, high: low + 0.25 * high)
    assert [backoff.next_delay() for _ in range(2)] == [0.25, 0.5]


def test_delays_differ_from_client_to_client() -> None:
    assert len({Backoff().next_delay() for _ in range(20)}) > 1


def test_a_stable_connection_begins_again_with_short_delays() -> None:
    backoff = upper_bounds()
    for _ in range(8):
        backoff.next_delay()
    backoff.connection_ended(STABLE_SECONDS)
    assert backoff.next_delay() == BASE_SECONDS


def test_a_connection_that_was_kicked_soon_does_not_shorten_the_delays() -> None:
    backoff = upper_bounds()
    backoff.next_delay()
    backoff.connection_ended(STABLE_SECONDS - 0.1)
    assert backoff.next_delay() == 2 * BASE_SECONDS


def test_no_number_of_failures_exceeds_the_cap() -> None:
    backoff = Backoff()
    assert all(0 <= backoff.next_delay() <= CAP_SECONDS for _ in range(5_000))
