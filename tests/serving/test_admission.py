"""Who is let in, by a clock that the test turns."""

import random
from contextlib import ExitStack

import pytest

from beholder.serving.admission import Admission
from beholder.serving.requests import RequestError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(admission: Admission, size: int | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught, admission.enter(size):
        pass
    assert caught.value.status == 429
    return caught.value


def test_frames_and_bytes_bound_what_is_in_flight() -> None:
    admission = Admission(10, 100, Clock())
    with admission.enter(60) as place:
        assert admission.bytes == 0, "what is announced isn't there yet"
        place.hold(60)
        place.claim(9)
        assert str(refused(admission, 41)) == (
            "the endpoint has 60 bytes of bodies in memory, of at most 100, and no room for "
            "41 more: come again in 1 s"
        )
        with admission.enter(40) as other:
            other.hold(40)
            other.claim(30)  # one request may reach over the limit, or it would never come in
            assert (admission.frames, admission.bytes) == (39, 100)
        refused_by_frames = Admission(9, 100, Clock())
        with refused_by_frames.enter(1) as full:
            full.claim(9)
            assert str(refused(refused_by_frames)) == (
                "the endpoint has 9 frames in flight, of at most 9: come again in 1 s"
            )
    assert (admission.frames, admission.bytes) == (0, 0)


def test_a_body_of_unknown_length_needs_room_for_a_byte() -> None:
    admission = Admission(10, 100, Clock())
    with admission.enter(None) as place:
        place.hold(99)
        with admission.enter(None) as other:
            other.hold(1)
            refused(admission, None)
    assert admission.bytes == 0


def test_bytes_never_exceed_their_limit_however_bodies_interleave() -> None:
    chance, admission = random.Random(0), Admission(1000, 100, Clock())
    refusals = 0
    with ExitStack() as everybody:
        inside = []
        for _ in range(5000):
            if len(inside) < 12 and admission.bytes < 100:
                stack = everybody.enter_context(ExitStack())
                inside.append((stack, stack.enter_context(admission.enter(None))))
            stack, place = one = chance.choice(inside)
            try:
                place.hold(chance.randint(0, 30))
            except RequestError as error:
                assert error.status == 429 and int(error.headers["Retry-After"]) >= 1
                refusals += 1
                stack.close()
                inside.remove(one)
            assert admission.bytes == sum(place.bytes for _, place in inside) <= 100
    assert admission.bytes == 0 and refusals > 100


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
        place.hold(1)
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
