"""A demo set made at run time: real photographs and clips, simulated distortions and raters."""

from beholder.datasets.demo.build import DemoSet, build_demo
from beholder.datasets.demo.render import Recipe
from beholder.datasets.demo.sources import (
    GROUPS,
    SOURCES,
    DemoError,
    Source,
    find_sources,
)

__all__ = [
    "GROUPS",
    "SOURCES",
    "DemoError",
    "DemoSet",
    "Recipe",
    "Source",
    "build_demo",
    "find_sources",
]
