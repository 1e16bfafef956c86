"""Which test holds which equation of the four papers, by number."""

import re
from pathlib import Path

import pytest

EQUATIONS = {
    # Q-Align
    "Q-Align 1": "opinions/test_levels.py::test_edges",
    "Q-Align 1, released ranges": (
        "opinions/test_levels.py::test_trimmed_range_drops_a_thousandth_at_each_end"
    ),
    "Q-Align 2": "opinions/test_levels.py::test_inverse_maps",
    "Q-Align 3": "readouts/test_levels.py::test_only_differences_between_levels_count",
    "Q-Align 4": "readouts/test_levels.py::test_printed_logits",
    "Q-Align 5 to 8 (mPLUG-Owl2)": (
        "backbones/test_mplug_owl2_parity.py::test_every_case_is_compared_or_named"
    ),
    # DeQA-Score
    "DeQA-Score 1": "opinions/test_soft_labels.py::test_cdf_is_the_mass_within_half_a_level",
    "DeQA-Score 2": (
        "opinions/test_soft_labels.py::test_exact_labels_sum_to_one_and_have_the_mos_as_mean"
    ),
    "DeQA-Score 2, released": "opinions/test_soft_labels.py::test_released_labels",
    "DeQA-Score 3": "opinions/test_soft_labels.py::test_recovered_is_mean_and_std",
    "DeQA-Score 4": "training/objectives/test_soft_label.py::test_direction",
    "DeQA-Score 5": "training/objectives/test_score_error.py::test_moments_of_printed_logits",
    "DeQA-Score 6": "opinions/test_thurstone.py::test_thurstone_by_hand",
    "DeQA-Score 7": "training/objectives/test_fidelity.py::test_thurstone_by_hand",
    "DeQA-Score 8": "training/objectives/test_fidelity.py::test_fidelity_by_hand",
    "DeQA-Score 9": "training/objectives/test_pair.py::test_each_weight_multiplies_its_part",
    # ROC4MLLM
    "ROC4MLLM 1, of digits": (
        "readouts/test_digits.py::test_only_the_tree_sees_that_399_and_400_are_neighbours"
    ),
    "ROC4MLLM 2": "training/test_objectives.py::test_it_is_the_weighted_mean",
    "ROC4MLLM 3": "training/test_objective.py::test_only_coupled_text_pulls_an_exact_score_away",
    "ROC4MLLM 4": "readouts/test_levels.py::test_printed_logits",
    "ROC4MLLM 5": "readouts/test_score_tokens.py::test_scores_by_hand",
    "ROC4MLLM 6": (
        "training/test_score_tokens.py::test_the_position_token_stays_a_target_of_the_text"
    ),
    # Next Token Is Enough (RealQA)
    "RealQA 1": "training/test_digits.py::test_every_token_of_a_number_is_a_target_of_the_text",
    "RealQA 2": "evaluation/test_digits.py::test_the_truth_counts_as_it_is_written",
    "RealQA 3": "evaluation/test_digits.py::test_uniform_digits",
    "RealQA 4": "readouts/test_digits.py::test_equation_4_goes_along_the_written_digits",
    "RealQA 5": "evaluation/test_digits.py::test_ncm_is_the_mean_over_rows_of_the_expectation",
    "RealQA 5, of finished scores": (
        "evaluation/test_scored_digits.py::"
        "test_a_whole_tree_gives_what_logits_behind_the_true_digits_give"
    ),
    "RealQA 6": "evaluation/test_digits.py::test_both_forms_of_ncm_star",
    "RealQA 7": "evaluation/test_digits.py::test_the_true_digit_of_every_place_is_left_out",
    "RealQA, section 4.6 (regression)": (
        "readouts/test_regression.py::test_a_score_is_the_sigmoid_of_a_linear_map"
    ),
}


NUMBERED = {"Q-Align": 8, "DeQA-Score": 9, "ROC4MLLM": 6, "RealQA": 7}
"""By paper, its last numbered equation. None is left out. Of ROC4MLLM's Eq. 1, the likeliest token
of the whole vocabulary, there is what scores need: written digits (``reading: greedy``); answers
here are not free text but one sentence with open slots."""


def test_every_numbered_equation_is_in_the_index() -> None:
    found: dict[str, set[int]] = {}
    for name in (n for n in EQUATIONS if "section" not in n):
        paper, first, last = re.match(r"(\S+) (\d)(?: to (\d))?", name).groups()
        found.setdefault(paper, set()).update(range(int(first), int(last or first) + 1))
    assert found == {paper: set(range(1, last + 1)) for paper, last in NUMBERED.items()}


@pytest.mark.parametrize("place", EQUATIONS.values(), ids=list(EQUATIONS))
def test_the_equation_has_its_test(place: str) -> None:
    path, name = place.split("::")
    text = (Path(__file__).parent / path).read_text("utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{path} has no {name}"
