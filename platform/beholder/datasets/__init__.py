"""Rated sets: splits by source, mixing, public and own labels, and a demo set made at run time."""

from beholder.datasets.mixing import TrainingSet, concatenate, few_rows, few_shot
from beholder.datasets.splits import hold_out, split_sources

__all__ = ["TrainingSet", "concatenate", "few_rows", "few_shot", "hold_out", "split_sources"]
