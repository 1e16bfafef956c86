"""The table of public sets. To add one: a row in its group and a test with rows of its files.

No set's data is part of this package; each set's owners state the terms of its use.
"""

from collections.abc import Mapping

from beholder.datasets.public.described import PublicSet
from beholder.datasets.public.image_aesthetics import IMAGE_AESTHETICS
from beholder.datasets.public.image_quality import IMAGE_QUALITY
from beholder.datasets.public.video_quality import VIDEO_QUALITY

PUBLIC_SETS: Mapping[str, PublicSet] = {
    some.name: some for some in (*IMAGE_QUALITY, *IMAGE_AESTHETICS, *VIDEO_QUALITY)
}
"""All sets by name."""
