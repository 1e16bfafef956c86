import pytest

from beholder.media import Limits
from beholder.media.clips import plan_clips


@pytest.mark.parametrize(
    ("duration", "clips", "seconds"),
    [
        (0.3, [(0, 1)], [0.3]),
        (9.97, [(0, 9)], [9.97]),
        (30.0, [(0, 30)], [30.0]),
        (30.9, [(0, 30)], [30.9]),
        (31.5, [(0, 30), (30, 31)], [30.0, 1.5]),
        (120.0, [(0, 30), (30, 60), (60, 90), (90, 120)], [30.0] * 4),
    ],
)
def test_all_of_a_short_video_is_seen(
    duration: float, clips: list[tuple[int, int]], seconds: list[float]
) -> None:
    plan = plan_clips(duration, Limits())
    assert [(clip.start, clip.stop) for clip in plan.clips] == clips
    assert plan.seconds == pytest.approx(seconds)
    assert plan.coverage == 1.0


def test_clips_of_a_long_video_are_spread_evenly() -> None:
    plan = plan_clips(600.0, Limits(max_clips=4))
    assert [clip.start // 30 for clip in plan.clips] == [2, 7, 12, 17]
    assert plan.seconds == (30.0,) * 4
    assert plan.coverage == pytest.approx(0.2)


def test_no_clip_is_chosen_twice() -> None:
    for count in range(1, 40):
        plan = plan_clips(30.0 * count, Limits(max_clips=7))
        assert len({clip.start for clip in plan.clips}) == min(count, 7)
