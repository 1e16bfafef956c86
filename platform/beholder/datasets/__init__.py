"""Rated sets: splits by source, mixing, and a demo set made at run time."""

from beholder.datasets.mixing import TrainingSet, concatenate
from beholder.datasets.splits import hold_out, split_sources

__all__ = ["TrainingSet", "concatenate", "hold_out", "split_sources"]
