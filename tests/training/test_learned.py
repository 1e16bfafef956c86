"""What a short training on real photographs must have learned, and must not have."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy import stats

from beholder.config import load_config
from beholder.datasets.demo.distortions import BLUR, JPEG, NOISE, TECHNICAL, Distortion
from beholder.datasets.demo.render import pictures
from beholder.datasets.demo.sources import SOURCES, find_sources, load_photo
from beholder.evaluation import srcc
from beholder.scoring import Scorer, TaskSpec
from beholder.training.config import TrainConfig
from beholder.training.folds import train_rows, vision_states

pytestmark = pytest.mark.usefixtures("world")

HELD_OUT = ("coffee", "chelsea", "rocket", "china")
PHOTOS, EACH = 16, 20


@dataclass(frozen=True)
class Rated:
    """Distorted photographs, what the frozen vision part makes of them, and who is held out."""

    mix: pa.Table
    states: pa.Table
    config: TrainConfig
    held: np.ndarray

    def train(self, mos: np.ndarray) -> tuple[Scorer, np.ndarray]:
        """A scorer of these opinions, and its scores of the held-out rows."""
        mix = self.mix.set_column(self.mix.column_names.index("mos"), "mos", pa.array(mos))
        rest = np.flatnonzero(~self.held)
        trainer, _ = train_rows(mix, self.states, self.config, rest, rest[::8])
        tasks = {"quality": TaskSpec(kinds=("image",), scale=(1, 5))}
        scorer = Scorer(trainer.backbone, trainer.readout, tasks, self.config.prompt)
        return scorer, trainer.predict(np.flatnonzero(self.held))


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Rated:
    folder = tmp_path_factory.mktemp("rated")
    photos = [s for s in SOURCES if s.group == "photo" and not s.grey]
    photos.sort(key=lambda s: s.name not in HELD_OUT)
    rows = []
    for source in photos[:PHOTOS]:
        still = load_photo(find_sources()[source.name])
        for made in pictures("quality", TECHNICAL, source, [still], 0, EACH):
            file = folder / Path(made.path).name
            file.write_bytes(made.data)
            about = {"uri": str(file), "set": "quality", "task": "quality"}
            scale = {"scale_min": 1.0, "scale_max": 5.0}
            rows.append(made.rows["quality"] | about | scale)
    mix = pa.Table.from_pylist(rows)
    overrides = ["workers.count=1", "schedule.micro_batch=64", "schedule.checks=2"]
    config = load_config(TrainConfig, project / "configs/train/onealign_pocket.yaml", overrides)
    held = np.isin(np.array(mix["source"].to_pylist()), HELD_OUT)
    assert set(np.array(mix["source"].to_pylist())[held]) == set(HELD_OUT)
    return Rated(mix, vision_states(mix, config), config, held)


@pytest.fixture(scope="module")
def learned(rated: Rated) -> tuple[Scorer, np.ndarray]:
    return rated.train(rated.mix["mos"].to_numpy())


def test_held_out_photographs_are_rated_and_permuted_labels_teach_nothing(
    rated: Rated, learned: tuple[Scorer, np.ndarray]
) -> None:
    """Each permutation with its mirror image, so that chance has no side to take."""
    truth = rated.mix["latent"].to_numpy()[rated.held]
    assert srcc(learned[1], truth) > 0.6
    mos = rated.mix["mos"].to_numpy()
    wrong = [np.random.default_rng(seed).permutation(mos) for seed in range(2)]
    found = [srcc(rated.train(m)[1], truth) for w in wrong for m in (w, 6 - w)]
    interval = stats.t.interval(0.95, 3, np.mean(found), stats.sem(found))
    assert interval[0] < 0 < interval[1] < 0.6, found


@pytest.mark.parametrize("kind", [BLUR, NOISE, JPEG], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", HELD_OUT)
def test_the_stronger_the_damage_the_lower_the_score(
    name: str, kind: Distortion, learned: tuple[Scorer, np.ndarray]
) -> None:
    photo = Image.fromarray(load_photo(find_sources()[name]))
    photo.thumbnail((320, 320))
    rng = np.random.default_rng(0)
    strengths = np.linspace(0, 1, 6)
    damaged = [Image.fromarray(kind.apply(np.asarray(photo), float(s), rng)) for s in strengths]
    scores = [float(score.tasks["quality"].mean) for score in learned[0].score(damaged)]
    assert srcc(np.array(scores), -strengths) >= 0.8
