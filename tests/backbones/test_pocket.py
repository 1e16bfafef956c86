"""The pocket backbone: the tower is the released one, rows don't see each other."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from beholder.backbones import Batch, MediaShape
from beholder.backbones.pocket import tower
from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.conversations import scoring

SHAPES = [MediaShape(1, 96, 96), MediaShape(3, 96, 96)]
QUESTIONS = [scoring("brief", "quality", "image", 0), scoring("brief", "quality", "video", 1)]


@pytest.fixture(scope="module")
def pocket() -> Pocket:
    torch.manual_seed(0)
    model = Pocket(PocketConfig(image_size=96, hidden_size=32, heads=2), default_tokenizer())
    model.initialise()
    for stage in model.abstractor.stages:  # fresh, they let nothing of a picture through
        torch.nn.init.normal_(stage.weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (4, 96, 96, 3), dtype=torch.uint8, generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _read(pocket: Pocket, rows: list, shapes: list, pixels: torch.Tensor) -> torch.Tensor:
    encoded = pocket.encode(rows, shapes)
    positions = torch.stack([torch.arange(len(rows)), encoded.slots[:, 0]], 1)
    with torch.inference_mode():
        return pocket(Batch(encoded, shapes, pixels=pixels), positions).logits


@pytest.mark.parametrize(("name", "label"), [("coffee", 967), ("chelsea", 285)])
def test_the_tower_with_its_released_head_knows_espresso_and_a_cat(
    photos: dict[str, bytes], name: str, label: int
) -> None:
    """The last block and head are not ours to keep, but they prove that the rest is right."""
    body = tower.Tower().eval()
    body.load_imagenet()
    weights = torch.load(tower._weights_file(), weights_only=True)
    block = tower._Block(192, 320, 3, 1, 6)
    block.fold(weights, "_blocks.15")
    head = tower._Conv(320, 1280, 1, 1, 1)
    head.fold(weights, "_conv_head", "_bn1")
    picture = Image.open(io.BytesIO(photos[name])).convert("RGB").resize((224, 224))
    x = (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        x = F.relu6(body.stem(x))
        for stage in body.blocks:
            x = stage(x)
        pooled = F.relu6(head(block(x))).mean((2, 3))
        logits = pooled @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert int(logits.argmax()) == label
    assert float(logits.softmax(1).max()) > 0.5


def test_statistics_are_the_stages_means_and_deviations(
    pocket: Pocket, pixels: torch.Tensor
) -> None:
    states = pocket.vision(pixels)
    assert states.shape == (4, tower.Tower.width)
    stages = tower.split(states)
    assert [s.shape[1] for s in stages] == [2 * c for c in tower.CHANNELS]
    mean = torch.tensor(pocket.spec.pixels.mean)
    x = (pixels / 255 - mean) / torch.tensor(pocket.spec.pixels.std)
    with torch.inference_mode():
        first = pocket.tower.blocks[0](F.relu6(pocket.tower.stem(x.permute(0, 3, 1, 2))))
    expected = torch.cat([first.mean((2, 3)), (first.std((2, 3), correction=0) + 1e-3).log()], 1)
    torch.testing.assert_close(stages[0], expected, atol=1e-4, rtol=1e-4)


def test_rows_do_not_see_their_neighbours_or_padding(pocket: Pocket, pixels: torch.Tensor) -> None:
    both = _read(pocket, QUESTIONS, SHAPES, pixels)
    alone = _read(pocket, [scoring("brief", "quality", "image", 0)], SHAPES[:1], pixels[:1])
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=0)
    turned = [scoring("brief", "quality", "video", 0), scoring("brief", "quality", "image", 1)]
    pixels_turned = torch.cat([pixels[1:], pixels[:1]])
    swapped = _read(pocket, turned, SHAPES[::-1], pixels_turned)
    torch.testing.assert_close(both, swapped.flip(0), atol=1e-5, rtol=0)


def test_the_picture_matters(pocket: Pocket, pixels: torch.Tensor) -> None:
    first = _read(pocket, QUESTIONS[:1], SHAPES[:1], pixels[:1])
    second = _read(pocket, QUESTIONS[:1], SHAPES[:1], pixels[1:2])
    assert (first - second).abs().max() > 1e-3


def test_cached_states_give_what_pixels_give(pocket: Pocket, pixels: torch.Tensor) -> None:
    encoded = pocket.encode(QUESTIONS, SHAPES)
    positions = torch.stack([torch.arange(2), encoded.slots[:, 0]], 1)
    with torch.inference_mode():
        states = pocket.vision(pixels)
        cached = pocket(Batch(encoded, SHAPES, states=states), positions).logits
    torch.testing.assert_close(cached, _read(pocket, QUESTIONS, SHAPES, pixels))


def test_calibration_standardises_what_the_abstractor_sees(pixels: torch.Tensor) -> None:
    model = Pocket(PocketConfig(image_size=96, hidden_size=32, heads=2), default_tokenizer())
    model.initialise()
    states = model.vision(pixels)
    model.calibrate(states)
    seen = (states - model.abstractor.centre) / model.abstractor.spread
    torch.testing.assert_close(seen.mean(0), torch.zeros(tower.Tower.width), atol=1e-3, rtol=0)


def test_a_config_with_an_unknown_field_is_refused(tmp_path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(default_tokenizer())
    with pytest.raises(ValueError, match="colour"):
        Pocket.from_config({"model_type": "pocket", "colour": 1}, path)


def test_bfloat16_reads_about_the_same(pocket: Pocket, pixels: torch.Tensor) -> None:
    short = Pocket(pocket.settings, default_tokenizer())
    short.load_state_dict(pocket.state_dict())
    short.bfloat16().eval()
    exact = _read(pocket, QUESTIONS, SHAPES, pixels)
    torch.testing.assert_close(_read(short, QUESTIONS, SHAPES, pixels), exact, atol=0.1, rtol=0.1)
