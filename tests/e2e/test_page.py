"""The page in a real browser, on an endpoint that ``beholder serve`` has started.

    python tests/e2e/test_page.py http://127.0.0.1:8000/ infra/page.png

makes the README's screenshot of an endpoint that runs (`make page`).
"""

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, Route, expect, sync_playwright
from scipy.special import ndtr

from beholder.datasets.demo import clips, find_sources
from beholder.datasets.demo.distortions import BLUR, JPEG, NOISE, Distortion
from beholder.datasets.demo.sources import load_photo
from beholder.items import Item, Score
from beholder.opinions import Scale, ScoreDistribution
from beholder.ranking import Candidates, Rule, exact_expected_rank, lower_bound, rank
from beholder.scoring import Scorer

pytestmark = pytest.mark.e2e

START_S = 120
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 700}
NO_PICTURE: FilePayload = {
    "name": "page.jpg",
    "mimeType": "image/jpeg",
    "buffer": b"<html>nothing to see</html>",
}


def chromium() -> str:
    """Debian's Chromium, or what BEHOLDER_CHROMIUM names."""
    path = os.environ.get("BEHOLDER_CHROMIUM", "/usr/bin/chromium")
    if not Path(path).is_file():
        pytest.fail(f"no Chromium at {path}: apt install chromium, or set BEHOLDER_CHROMIUM")
    return path


@contextmanager
def launched() -> Iterator[Browser]:
    arguments = ["--disable-gpu", "--disable-quic", "--disable-background-networking"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


def picture(source: str, damage: Distortion | None = None, strength: float = 0) -> FilePayload:
    pixels = load_photo(find_sources()[source])
    name = source
    if damage is not None:
        pixels = damage.apply(pixels, strength, np.random.default_rng(0))
        name = f"{source}, {damage.name}"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"name": f"{name}.png", "mimeType": "image/png", "buffer": file.getvalue()}


def video() -> FilePayload:
    frames = clips.pan(load_photo(find_sources()["china"]), np.random.default_rng(0))
    data = clips.encode(frames, clips.PAN_RATE, clips.STORE_CRF)
    return {"name": "china.mp4", "mimeType": "video/mp4", "buffer": data}


def demo_pictures() -> list[FilePayload]:
    """Five pictures of different quality."""
    damaged = [picture("coffee", BLUR, 0.7), picture("china", JPEG, 0.8)]
    return [*damaged, picture("coffee"), picture("rocket", NOISE, 0.6), picture("chelsea")]


def upload(page: Page, *files: FilePayload) -> None:
    """Chooses files and waits until each has its answer."""
    page.locator("#files").set_input_files(list(files))
    expect(page.locator("#progress")).to_be_hidden(timeout=60_000)


def choose(page: Page, name: str, value: str) -> None:
    # The input lies invisibly behind its text, as it does for a person.
    page.locator(f"label:has(input[name={name}][value={value}])").click()


def cards(page: Page, state: str = "scored") -> list[str]:
    """Names on the page, in order."""
    return page.locator(f".card[data-state={state}] h2").all_inner_texts()


# --- the endpoint and the browser ---------------------------------------------------------------


@pytest.fixture(scope="module")
def url(small_scorer: Scorer, project: Path, tmp_path_factory) -> Iterator[str]:
    """``beholder serve`` as one types it; Ctrl-C must end it and all that it started."""
    folder = tmp_path_factory.mktemp("served")
    small_scorer.save(folder / "scorer")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    beholder = str(Path(sys.executable).with_name("beholder"))
    command = [beholder, "serve", "--scorer", str(folder / "scorer"), "--port", str(port)]
    environment = os.environ | {"XDG_STATE_HOME": str(folder)}  # its logs are kept there
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=project, env=environment
        )
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told == f"open http://127.0.0.1:{port}/ (Ctrl-C here ends it)\n", (
                folder / "log"
            ).read_text()
            started = psutil.Process(process.pid).children(recursive=True)
            assert started
            yield told.split()[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert not [one for one in started if one.is_running()]
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as one:
        yield one


class Watch:
    """What a page does behind its user's back.

    Attributes:
        errors: on its console, and exceptions.
        urls: of its requests, blobs aside.
    """

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        self.urls: list[str] = []
        page.on("console", lambda said: self.errors.append(said.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        page.on("request", lambda request: self._note(request.url))

    def _note(self, asked: str) -> None:
        if not asked.startswith("blob:"):
            self.urls.append(asked)

    def posts(self) -> int:
        return sum(urlsplit(asked).path == "/v1/score" for asked in self.urls)


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; what it asks for stays with the endpoint."""
    context = browser.new_context(viewport=WIDE)
    one = context.new_page()
    watch = one.watch = Watch(one)
    one.goto(url)
    expect(one.locator("#scorer")).to_contain_text("scorer ")
    yield one
    assert {asked for asked in watch.urls if not asked.startswith(url)} == set()
    context.close()


@pytest.fixture
def quiet(page: Page) -> Iterator[Page]:
    """A page on whose console nothing may appear."""
    yield page
    assert page.watch.errors == []


def test_a_missing_browser_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHOLDER_CHROMIUM", "/none/chromium")
    with pytest.raises(pytest.fail.Exception, match="apt install chromium"):
        chromium()


# --- pictures and their order -------------------------------------------------------------------


def expected(scorer: Scorer, files: list[FilePayload]) -> list[Score]:
    return scorer.score([Item(file["name"], file["buffer"]) for file in files])


def test_each_picture_shows_its_distributions(quiet: Page, small_scorer: Scorer) -> None:
    files = demo_pictures()
    upload(quiet, *files)
    assert quiet.locator("#status").inner_text() == "5 of 5 rated"
    for score in expected(small_scorer, files):
        card = quiet.locator(".card").filter(has=quiet.get_by_text(score.item_id, exact=True))
        assert card.locator("img").evaluate("image => image.naturalWidth") > 0
        for task, rating in score.tasks.items():
            shown = card.locator(f"section[data-task={task}]")
            assert shown.locator(".mean b").inner_text() == f"{float(rating.mean):.2f}"
            assert shown.locator(".mean span").inner_text() == f"± {float(rating.std):.2f}"
            assert shown.locator(".bar").count() == len(rating.probs)
            pairs = zip(rating.support, rating.probs, strict=True)
            shares = [f"{score:g}: {100 * share:.0f}%" for score, share in pairs]
            label = shown.locator("svg").get_attribute("aria-label")
            assert label == f"Shares of {task}, {', '.join(shares)}"


@pytest.mark.parametrize("task", ["quality", "aesthetics"])
def test_the_order_is_that_of_the_rules(quiet: Page, small_scorer: Scorer, task: str) -> None:
    files = demo_pictures()
    upload(quiet, *files)
    choose(quiet, "task", task)
    for rule in Rule:
        choose(quiet, "rule", str(rule))
        ranking = rank(expected(small_scorer, files), task, rule)
        assert cards(quiet) == list(ranking.item_ids)
        of = " of 5" if rule is Rule.EXPECTED_RANK else ""
        name = str(rule).replace("_", " ")
        told = quiet.locator(".card .value").all_inner_texts()
        assert told == [f"{name} {value:.2f}{of}" for value in ranking.values]
        assert quiet.locator(".place").all_inner_texts() == list("12345")


def test_the_rules_are_exact(quiet: Page) -> None:
    chance = np.random.default_rng(0)
    mean, std = chance.uniform(1, 5, 300), chance.uniform(0, 1, 300)
    mean[:20], std[:40] = mean[20], 0
    ratings = [{"mean": m, "std": s} for m, s in zip(mean.tolist(), std.tolist(), strict=True)]
    call = "async ([name, ...rest]) => (await import('/page/rules.js'))[name](...rest)"
    candidates = Candidates(mean, std)
    found = {rule: quiet.evaluate(call, ["ruleValues", ratings, str(rule)]) for rule in Rule}
    assert found[Rule.MEAN] == mean.tolist()
    assert found[Rule.LOWER_BOUND] == pytest.approx(lower_bound(candidates), abs=1e-12)
    assert found[Rule.EXPECTED_RANK] == pytest.approx(exact_expected_rank(mean, std), abs=1e-9)
    ties = quiet.evaluate(call, ["bestFirst", [1, 2, 1, 2, 3], "mean"])
    assert ties == [4, 1, 3, 0, 2], "ties stay as they came"
    for z in np.linspace(-10, 10, 41).tolist():
        assert quiet.evaluate(call, ["normalCdf", z]) == pytest.approx(ndtr(z), abs=1e-14)


def test_many_scores_are_drawn_in_bins(quiet: Page) -> None:
    """A readout of digits has hundreds of scores: the shares still sum to one."""
    support = np.linspace(1, 5, 401)
    weights = np.exp(-(((support - 3.2) / 0.4) ** 2))
    rating = ScoreDistribution(support, weights / weights.sum(), Scale(1, 5)).as_dict()
    told = {"scores": {"quality": {**rating, "clips": [3.2]}}}
    draw = """async (answer) => {
        const {makeCard, showRatings} = await import('/page/card.js');
        const card = makeCard(new File([], 'x.png', {type: 'image/png'}), () => 0, () => 0);
        showRatings(card, answer);
        return Array.from(card.querySelectorAll('.bar'), bar => +bar.getAttribute('height'));
    }"""
    heights = quiet.evaluate(draw, told)
    assert len(heights) == 50
    assert heights.index(max(heights)) in (27, 28)


def test_a_video_is_rated_for_what_fits_it(quiet: Page) -> None:
    upload(quiet, picture("chelsea"), video())
    assert quiet.locator("video").evaluate("video => video.duration") > 2
    assert len(cards(quiet)) == 2 and quiet.locator(".place:visible").count() == 2
    choose(quiet, "task", "aesthetics")
    assert cards(quiet) == ["chelsea.png", "china.mp4"]
    assert quiet.locator(".card .value").last.inner_text() == "has no aesthetics"


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_bad_file_shows_its_sentence_and_harms_no_other(quiet: Page) -> None:
    upload(quiet, picture("chelsea"), NO_PICTURE, picture("coffee"))
    assert len(cards(quiet)) == 2
    assert cards(quiet, "failed") == ["page.jpg"]
    note = quiet.locator(".card[data-state=failed] .note").inner_text()
    assert note.startswith("the content is an HTML page: give JPEG")
    assert quiet.locator("#status").inner_text() == "2 of 3 rated, 1 can’t be"


def test_a_name_never_becomes_markup(quiet: Page) -> None:
    name = "<img src=x onerror=alert(1)>"
    upload(quiet, {**picture("chelsea"), "name": name}, {**NO_PICTURE, "name": f"{name}2"})
    assert cards(quiet) == [name] and cards(quiet, "failed") == [f"{name}2"]
    assert quiet.locator("img[src=x]").count() == 0
    remove = quiet.get_by_role("button", name=f"Remove {name}", exact=True)
    expect(remove).to_be_visible()


def test_a_busy_endpoint_is_waited_for(page: Page) -> None:
    answers = iter([{"status": 429, "headers": {"Retry-After": "2"}, "json": {"error": "later"}}])

    def refuse_once(route: Route) -> None:
        refusal: dict[str, Any] | None = next(answers, None)
        route.fulfill(**refusal) if refusal else route.continue_()

    page.route("**/v1/score", refuse_once)
    page.locator("#files").set_input_files([picture("chelsea")])
    expect(page.locator("#status")).to_contain_text("busy, going on in 2 s")
    expect(page.locator("#status")).to_have_text("1 of 1 rated", timeout=10_000)
    assert page.watch.posts() == 2


def test_an_endpoint_that_is_away_is_tried_again(page: Page) -> None:
    page.route("**/v1/score", lambda route: route.abort())
    page.locator("#files").set_input_files([picture("chelsea")])
    trouble = page.get_by_role("alert")
    expect(trouble).to_contain_text("The endpoint can’t be reached: see whether it runs.")
    page.unroute("**/v1/score")
    trouble.get_by_role("button", name="Try again").click()
    expect(page.locator("#status")).to_have_text("1 of 1 rated")
    expect(trouble).to_be_hidden()


def test_a_refused_request_is_the_cards_matter(page: Page) -> None:
    said = {"error": "no: <b>change</b> it"}
    page.route("**/v1/score", lambda route: route.fulfill(status=500, json=said))
    upload(page, picture("chelsea"))
    card = page.locator(".card[data-state=failed]")
    assert card.locator(".note").inner_text() == "no: <b>change</b> it"
    page.unroute("**/v1/score")
    card.get_by_role("button", name="Try again").click()
    expect(page.locator("#status")).to_have_text("1 of 1 rated")


def test_a_key_is_asked_for_and_kept_in_memory(browser: Browser, url: str) -> None:
    def gate(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer sesame":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "the request has no valid API key"})

    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.route("**/v1/*", gate)
    page.goto(url)
    expect(page.get_by_role("alert")).to_contain_text("no valid API key")
    expect(page.get_by_label("API key of this endpoint")).to_be_focused()
    page.keyboard.type("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#scorer")).to_contain_text("scorer ")
    upload(page, picture("chelsea"))
    assert cards(page) == ["chelsea.png"]
    kept = "() => [localStorage.length, sessionStorage.length, document.cookie]"
    assert page.evaluate(kept) == [0, 0, ""]
    context.close()


# --- many files, few hands, small screens -------------------------------------------------------


def test_uploads_accumulate_and_are_sent_in_batches(quiet: Page) -> None:
    upload(quiet, picture("chelsea"))
    one = picture("coffee")
    upload(quiet, *({**one, "name": f"{i}.png"} for i in range(17)))
    assert len(cards(quiet)) == 18
    assert quiet.watch.posts() == 1 + 3
    quiet.get_by_role("button", name="Remove 3.png").click()
    assert len(cards(quiet)) == 17
    quiet.get_by_role("button", name="Clear all").click()
    assert cards(quiet) == [] and quiet.locator("#bar").is_hidden()


def test_all_can_be_done_by_keyboard(quiet: Page) -> None:
    quiet.keyboard.press("Tab")
    quiet.keyboard.press("Tab")
    assert quiet.evaluate("document.activeElement.id") == "files"
    upload(quiet, *demo_pictures()[:3])
    before = cards(quiet)
    for _ in range(2):
        quiet.keyboard.press("Tab")
    assert quiet.evaluate("document.activeElement.value") == "mean"
    quiet.keyboard.press("ArrowRight")
    expect(quiet.locator("input[value=lower_bound]")).to_be_checked()
    assert sorted(cards(quiet)) == sorted(before)
    quiet.get_by_role("button", name=f"Remove {before[0]}").focus()
    quiet.keyboard.press("Enter")
    assert sorted(cards(quiet)) == sorted(before[1:])
    assert quiet.evaluate("document.activeElement.className") == "remove"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(
    browser: Browser, url: str, scheme: str
) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    upload(page, {**picture("chelsea"), "name": "x" * 200 + ".png"}, NO_PICTURE)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == PHONE["width"]
    buttons = [button.bounding_box() for button in page.locator("button:visible").all()]
    assert len(buttons) == 3  # clear all, and one a card to remove it
    assert all(box and box["height"] >= 32 for box in buttons), "a finger finds every button"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    context.close()


def test_the_docs_try_the_api_out(quiet: Page, url: str) -> None:
    quiet.goto(f"{url}docs")
    quiet.locator("#operations-default-ready_v1_ready_get").click()
    quiet.get_by_role("button", name="Try it out").click()
    quiet.get_by_role("button", name="Execute").click()
    expect(quiet.locator(".live-responses-table")).to_contain_text('"ready": true')


def screenshot(url: str, file: Path) -> None:
    """The README's picture: in 256 colours, which for a page with photographs is small."""
    with launched() as browser:
        page = browser.new_page(viewport=WIDE)
        page.goto(url)
        upload(page, *demo_pictures(), video())
        choose(page, "rule", "expected_rank")
        page.mouse.move(0, 0)
        page.wait_for_function("document.querySelector('video').readyState >= 3")
        shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {shot.width} x {shot.height}, {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    screenshot(sys.argv[1], Path(sys.argv[2]))
