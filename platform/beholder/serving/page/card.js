// One picture or video on the page. What a file's name or an answer says becomes text, never markup.

const MOST_BARS = 50; // a readout of a thousand scores is shown in bins
const MOST_LABELS = 12;
const SVG = "http://www.w3.org/2000/svg";
const LEAST_FULL = 0.5; // the share that a full bar stands for, at least
const PLOT = { width: 150, height: 92, left: 13, right: 13, top: 14, bottom: 17 };

/** Makes the card's element. `onRemove` and `onAgain` are called by its buttons. */
export function makeCard(file, onRemove, onAgain) {
  const element = cloned("card");
  element.querySelector("h2").textContent = file.name;
  element.querySelector("h2").title = file.name;
  element.querySelector(".shot").prepend(preview(file));
  const remove = element.querySelector(".remove");
  remove.setAttribute("aria-label", `Remove ${file.name}`);
  remove.addEventListener("click", onRemove);
  element.querySelector(".again").addEventListener("click", onAgain);
  return element;
}

export function dropCard(element) {
  const shown = element.querySelector("img, video");
  if (shown) URL.revokeObjectURL(shown.src);
  element.remove();
}

/** Shows a state: `note` is a sentence, `again` whether a second try makes sense. */
export function showNote(element, state, note = "", again = false) {
  element.dataset.state = state;
  const place = element.querySelector(".note");
  place.textContent = note;
  place.hidden = !note;
  element.querySelector(".again").hidden = !again;
}

/** Draws an answer's ratings by task. */
export function showRatings(element, answer) {
  const ratings = Object.entries(answer.scores).map(([task, rating]) => {
    const section = cloned("rating");
    section.dataset.task = task;
    section.querySelector("h3").textContent = task;
    section.querySelector("b").textContent = rating.mean.toFixed(2);
    const spread = rating.std == null ? "no spread" : `± ${rating.std.toFixed(2)}`;
    section.querySelector(".mean span").textContent = spread;
    if (rating.probs) section.querySelector(".mean").after(plot(task, rating));
    const clips = section.querySelector(".clips");
    clips.hidden = rating.clips.length < 2;
    clips.textContent = `clips ${rating.clips.map((mean) => mean.toFixed(1)).join(" · ")}`;
    return section;
  });
  element.querySelector(".ratings").replaceChildren(...ratings);
}

/** Shows where the card stands: its place (0 for none) and what put it there. */
export function showPlace(element, task, place, value) {
  const badge = element.querySelector(".place");
  badge.textContent = place || "";
  badge.hidden = !place;
  element.querySelector(".value").textContent = value;
  for (const section of element.querySelectorAll("section")) {
    section.classList.toggle("chosen", section.dataset.task === task);
  }
}

function cloned(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

function preview(file) {
  const video = file.type.startsWith("video/");
  const shown = document.createElement(video ? "video" : "img");
  shown.addEventListener("error", () => {
    URL.revokeObjectURL(shown.src);
    shown.replaceWith(Object.assign(document.createElement("p"), { textContent: "no preview" }));
  });
  if (video) Object.assign(shown, { muted: true, controls: true, preload: "auto" });
  else Object.assign(shown, { alt: "", decoding: "async" });
  shown.src = URL.createObjectURL(file);
  if (video) shown.setAttribute("aria-label", file.name);
  return shown;
}

/** Bars over the scale; the mean is a line, one std to both sides a band. */
function plot(task, rating) {
  const [low, high] = rating.scale;
  const inner = PLOT.width - PLOT.left - PLOT.right;
  const floor = PLOT.height - PLOT.bottom;
  const x = (score) => PLOT.left + (inner * (score - low)) / (high - low);
  const bars = binned(rating, low, high);
  const labelled = bars.length <= MOST_LABELS;
  const most = Math.max(...bars.map((bar) => bar.share));
  const tallest = labelled ? Math.max(LEAST_FULL, most) : most;
  const width = Math.min(23, (0.78 * inner) / Math.max(1, bars.length - 1));
  const said = bars.map((bar) => `${trim(bar.score)}: ${percent(bar.share)}`).join(", ");
  const svg = drawn("svg", {
    viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
    role: "img",
    "aria-label": labelled ? `Shares of ${task}, ${said}` : `Distribution of ${task}`,
  });
  const from = Math.max(low, rating.mean - rating.std);
  const to = Math.min(high, rating.mean + rating.std);
  const band = { x: x(from), width: x(to) - x(from), y: PLOT.top - 2, height: floor - PLOT.top + 2 };
  svg.append(drawn("rect", { class: "band", rx: 2, ...band }));
  for (const { score, share } of bars) {
    const height = Math.max(1, (share / tallest) * (floor - PLOT.top));
    const place = { x: x(score) - width / 2, y: floor - height, width, height };
    const bar = drawn("rect", { class: "bar", rx: Math.min(2, width / 3), ...place });
    bar.style.setProperty("--at", `${(100 * (score - low)) / (high - low)}%`);
    svg.append(bar);
    if (labelled && share >= 0.005) {
      svg.append(drawn("text", { class: "share", x: x(score), y: floor - height - 3 }, percent(share)));
    }
  }
  svg.append(drawn("line", { class: "floor", x1: 2, x2: PLOT.width - 2, y1: floor, y2: floor }));
  const mean = x(rating.mean);
  const tip = `M${mean} ${floor + 0.5}l3.2 4.5h-6.4z`;
  svg.append(drawn("path", { class: "tip", d: tip }));
  const ends = labelled ? bars.map((bar) => bar.score) : [low, high];
  for (const score of ends) {
    svg.append(drawn("text", { class: "tick", x: x(score), y: PLOT.height - 2 }, trim(score)));
  }
  return svg;
}

/** Scores and their shares, in bins of the scale where there are too many to see. */
function binned(rating, low, high) {
  const all = rating.support.map((score, i) => ({ score, share: rating.probs[i] }));
  if (all.length <= MOST_BARS) return all;
  const step = (high - low) / MOST_BARS;
  const bins = Array.from({ length: MOST_BARS }, (_, i) => ({ score: low + (i + 0.5) * step, share: 0 }));
  for (const { score, share } of all) {
    const at = Math.floor((score - low) / step);
    bins[Math.max(0, Math.min(MOST_BARS - 1, at))].share += share;
  }
  return bins;
}

function drawn(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

const percent = (share) => `${(100 * share).toFixed(0)}%`;
const trim = (score) => String(Number(score.toFixed(2)));
