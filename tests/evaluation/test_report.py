"""The page: complete, ordered, and loading nothing from elsewhere."""

import re

import numpy as np

from beholder.evaluation.report import Shown, report_page


def test_pictures_stand_from_worst_to_best_and_nothing_is_loaded(photos: dict[str, bytes]) -> None:
    means = {"coffee": 4.2, "chelsea": 1.5, "rocket": 3.0}
    shown = [Shown(photos[n], f"<{n}>", mean, 0.5, mean, [0.2] * 5) for n, mean in means.items()]
    curve = [{"step": i, "loss": 1 / (i + 1)} for i in range(30)]
    scatter = {"quality": (np.array([1.0, 2.0]), np.array([1.5, 2.5]))}
    page = report_page("Title & more", "a note", {"figure": "0.5"}, curve, scatter, shown)
    assert re.findall(r"&lt;(\w+)&gt;", page) == ["chelsea", "rocket", "coffee"]
    assert "Title &amp; more" in page
    assert page.count("<svg") == 2
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
