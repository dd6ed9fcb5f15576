"""What the benches of durable notifications read, reckon and write."""

import pytest
from benches.results import between_marks
from benches.writers import Written, read_answer

ANSWER = """\
pgbench (18.1)
transaction type: /tmp/bench-a.sql
scaling factor: 1
query mode: prepared
number of clients: 16
number of threads: 1
maximum number of tries: 1
duration: 8 s
number of transactions actually processed: 16738
number of failed transactions: 0 (0.000%)
latency average = 7.640 ms
initial connection time = 21.466 ms
tps = 2092.137310 (without initial connection time)
"""
LAG = "rate limit schedule lag: avg 2.640 (max 31.222) ms\n"


def test_what_pgbench_says_is_read() -> None:
    assert read_answer(ANSWER) == (16_738, 2_092.13731, 0.00764)


def test_what_a_transaction_waited_for_its_turn_is_not_its_own() -> None:
    count, rate, latency = read_answer(ANSWER + LAG)
    assert (count, rate) == (16_738, 2_092.13731)
    assert latency == pytest.approx(0.005)


@pytest.mark.parametrize("answer", ["", ANSWER.replace("failed transactions: 0", "failed transactions: 3")])
def test_a_run_that_failed_is_no_figure(answer: str) -> None:
    with pytest.raises(RuntimeError, match="pgbench says"):
        read_answer(answer)


def test_a_rate_counts_until_the_last_receipt() -> None:
    written = Written(count=8_000, rate=1_000.0, latency=0.001, ended=5_000_000_000)
    assert written.delivered_rate(13_000_000_000) == 500.0
    # pgbench itself takes a moment to end.
    assert written.delivered_rate(4_999_000_000) == 1_000.0


def test_a_load_that_was_not_what_it_should_have_been_is_doubted() -> None:
    good = Written(count=8_000, rate=990.0, latency=0.001, offered=1_000.0, busy=0.3)
    assert list(good.doubts()) == []
    bad = Written(count=4_000, rate=500.0, latency=0.001, offered=1_000.0, busy=0.95, clock_moved=True)
    assert list(bad.doubts()) == [
        "the writers were busy for 95% of the time",
        "500 of 1,000 a second were written",
        "the clock was set meanwhile",
    ]


def test_a_section_of_the_results_is_replaced_and_no_other() -> None:
    text = "# Results\n<!-- figures -->\nold\n<!-- end of figures -->\n<!-- b -->\nkept\n<!-- end of b -->\nend\n"
    assert between_marks(text, "figures", ["new", "lines"]) == text.replace("old", "new\nlines")
    assert between_marks(text, "b", ["new"]) == text.replace("kept", "new")


@pytest.mark.parametrize("text", ["", "<!-- figures -->", "<!-- end of figures --> <!-- figures -->"])
def test_results_without_their_marks_are_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match="figures"):
        between_marks(text, "figures", [])
