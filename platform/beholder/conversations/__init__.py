"""What is said around a picture: turns with media and slots, and the prompts as data."""

from beholder.conversations.prompts import (
    FURTHER,
    PROMPTS,
    Prompt,
    Told,
    questions,
    scoring,
    training,
)
from beholder.conversations.turns import Conversation, Media, Part, Slot, Text, Turn

__all__ = [
    "FURTHER",
    "PROMPTS",
    "Conversation",
    "Media",
    "Part",
    "Prompt",
    "Slot",
    "Text",
    "Told",
    "Turn",
    "questions",
    "scoring",
    "training",
]
