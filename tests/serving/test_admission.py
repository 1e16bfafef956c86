"""Who is let in, by a clock that the test turns."""

import pytest

from beholder.serving.admission import Admission
from beholder.serving.requests import RequestError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(admission: Admission, size: int = 1) -> RequestError:
    with pytest.raises(RequestError) as caught, admission.enter(size):
        pass
    assert caught.value.status == 429
    return caught.value


def test_frames_and_bytes_bound_what_is_in_flight() -> None:
    admission = Admission(10, 100, Clock())
    with admission.enter(60) as place:
        place.claim(9)
        refused(admission, 41)
        with admission.enter(40) as other:
            other.claim(30)  # one request may reach over the limit, or it would never come in
            assert (admission.frames, admission.bytes) == (39, 100)
        refused_by_frames = Admission(9, 100, Clock())
        with refused_by_frames.enter(1) as full:
            full.claim(9)
            refused(refused_by_frames)
    assert (admission.frames, admission.bytes) == (0, 0)


def test_who_comes_second_is_refused_when_the_first_took_the_place() -> None:
    admission = Admission(4, 100, Clock())
    with admission.enter(1) as first, admission.enter(1) as second:
        first.claim(4)
        with pytest.raises(RequestError):
            second.claim(1)
    assert (admission.frames, admission.bytes) == (0, 0)


def test_an_error_leaves_nothing_behind() -> None:
    admission = Admission(4, 100, Clock())
    with pytest.raises(ZeroDivisionError), admission.enter(1) as place:
        place.claim(4)
        raise ZeroDivisionError
    assert (admission.frames, admission.bytes) == (0, 0)


def test_retry_after_is_what_is_in_flight_by_the_drain_rate() -> None:
    clock = Clock()
    admission = Admission(40, 1000, clock)
    with admission.enter(1) as whole:
        whole.claim(40)
        assert refused(admission).headers == {"Retry-After": "1"}, "nothing is known yet"
        whole.frames, admission.frames = 20, 20
        with admission.enter(1) as other:
            other.claim(20)
            clock.now = 5.0
            other.done(20)
        with admission.enter(1) as third:
            third.claim(20)
            # 20 frames in 5 s are 4 a second; 40 are in flight.
            assert refused(admission).headers == {"Retry-After": "10"}
    clock.now = 500.0
    with admission.enter(1) as late:
        late.claim(40)
        assert refused(admission).headers == {"Retry-After": "1"}, "an idle night is no rate"


def test_retry_after_is_bounded() -> None:
    clock = Clock()
    admission = Admission(1, 1000, clock)
    with admission.enter(1) as huge:
        huge.claim(10_000)
        huge.done(0)
        clock.now = 10.0
        admission._drained.append((clock.now, 1))
        assert refused(admission).headers == {"Retry-After": "60"}
