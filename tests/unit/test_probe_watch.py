"""Whether somebody watches readiness, and how long that one needs to notice."""

import pytest

from jasaweb_rt.probe_watch import ProbeWatch


@pytest.mark.parametrize(
    ("asked", "now", "seconds"),
    [
        ([], 5.0, 0.0),
        ([0.0, 2.0], 3.0, 0.0),  # may as well be people
        ([0.0, 2.0, 4.0], 5.0, 6.0),
        ([0.0, 2.0, 4.0], 8.0, 6.0),  # one was missed
        ([0.0, 2.0, 4.0], 8.5, 0.0),  # it has gone
        ([0.0, 0.5, 2.0, 2.5, 4.0], 4.0, 4.5),  # two watch
        ([0.0, 60.0, *(61.0 + second for second in range(8))], 68.0, 3.0),  # what was before is forgotten
    ],
)
def test_the_notice_goes_by_the_pause_between_two_probes(asked: list[float], now: float, seconds: float) -> None:
    moments = iter([*asked, now])
    watch = ProbeWatch(lambda: next(moments))
    for _ in asked:
        watch.asked()
    assert watch.notice_seconds() == seconds
