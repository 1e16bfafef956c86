import pytest

from beholder.media import Limits


@pytest.mark.parametrize("name", list(vars(Limits())))
def test_a_limit_of_nothing_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        Limits(**{name: 0})


def test_pixels_that_pillow_would_refuse_are_not_promised() -> None:
    with pytest.raises(ValueError, match="max_pixels is 200000000"):
        Limits(max_pixels=200_000_000)
