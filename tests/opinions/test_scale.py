import numpy as np
import pytest

from beholder.opinions import Scale


def test_unit_and_back() -> None:
    scale = Scale(-2, 8)
    np.testing.assert_allclose(scale.to_unit([-2, 3, 8, 18]), [0, 0.5, 1, 2])
    np.testing.assert_allclose(scale.from_unit(scale.to_unit([1.25, 7])), [1.25, 7])


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1)])
def test_an_empty_scale_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="empty: give the smaller bound first"):
        Scale(*bounds)


@pytest.mark.parametrize("bounds", [(float("nan"), 1), (0, float("inf"))])
def test_bounds_must_be_finite(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Scale(*bounds)
