"""Multimodal models behind one contract; one folder each."""

from beholder.backbones.contract import (
    Backbone,
    BackboneSpec,
    Batch,
    Encoded,
    MediaFeatures,
    MediaShape,
    Read,
    Splice,
)

__all__ = [
    "Backbone",
    "BackboneSpec",
    "Batch",
    "Encoded",
    "MediaFeatures",
    "MediaShape",
    "Read",
    "Splice",
]
