// The page: files become cards, cards become requests, answers are put in order.

import { dropCard, makeCard, showNote, showPlace, showRatings } from "./card.js";
import { askScorer, askScores, Refused } from "./endpoint.js";
import { bestFirst, RULES, ruleValues } from "./rules.js";

const BATCH = 8; // files of a request: answers come in while the rest is on its way
const ENVELOPE = 1024; // bytes around a file in a request

const find = (id) => document.getElementById(id);
let cards = []; // {file, element, state: waiting | sending | scored | failed, answer}
let scorer = null; // what the endpoint says of it
let fingerprint = ""; // of the latest answer: only its scores are compared
let busy = 0; // seconds for which the endpoint asked
let trouble = ""; // why nothing is sent; empty while all is well
let working = false;
let stop = new AbortController();

// --- files come and go --------------------------------------------------------------------------

function add(files) {
  for (const file of files) {
    const card = { file, state: "waiting", answer: null };
    card.element = makeCard(file, () => remove(card), () => again(card));
    cards.push(card);
    find("cards").append(card.element);
    showNote(card.element, "waiting", "waiting");
  }
  arrange();
  work();
}

function remove(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  cards = cards.filter((one) => one !== card);
  dropCard(card.element);
  (next?.querySelector(".remove") ?? find("files")).focus();
  arrange();
}

function clear() {
  stop.abort();
  stop = new AbortController();
  cards.forEach((card) => dropCard(card.element));
  cards = [];
  arrange();
  find("files").focus();
}

function again(card) {
  become(card, "waiting", "waiting");
  arrange();
  work();
}

function become(card, state, note, retry = false) {
  card.state = state;
  showNote(card.element, state, note, retry);
}

// --- requests -----------------------------------------------------------------------------------

const options = () => ({ key: find("key").value.trim(), signal: stop.signal, onBusy: showBusy });

/** Sends what waits, a batch at a time, until nothing does or something is wrong. */
async function work() {
  if (working) return;
  working = true;
  try {
    trouble = "";
    scorer ??= await askScorer(options());
    showScorer();
    for (let batch = await nextBatch(); batch.length; batch = await nextBatch()) {
      await scoreBatch(batch);
    }
  } catch (error) {
    stumble(error);
  } finally {
    working = false;
    arrange();
  }
  if (!trouble && cards.some((card) => card.state === "waiting")) work(); // came in at the end
}

/** The next cards within the endpoint's limits; what can't be sent at all is said at once. */
async function nextBatch() {
  const most = scorer.limits.max_body_bytes ?? Infinity;
  const count = Math.min(BATCH, scorer.limits.max_items ?? BATCH);
  const batch = [];
  let bytes = ENVELOPE;
  for (const card of cards.filter((one) => one.state === "waiting")) {
    const size = card.file.size + ENVELOPE;
    if (size + ENVELOPE > most) {
      const limit = `${(most / 2 ** 20).toFixed(0)} MiB`;
      become(card, "failed", `larger than the ${limit} that a request may have: choose a smaller file`);
    } else if (!(await readable(card.file))) {
      become(card, "failed", "the browser can’t read it: choose files, not folders");
    } else {
      if (batch.length === count || bytes + size > most) break;
      batch.push(card);
      bytes += size;
    }
  }
  return batch;
}

const readable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

async function scoreBatch(batch) {
  batch.forEach((card) => become(card, "sending", "being rated"));
  arrange();
  try {
    const answers = await askScores(batch.map((card) => card.file), options());
    batch.forEach((card, i) => take(card, answers[i]));
  } catch (error) {
    const theirs = error instanceof Refused && error.status !== 0 && error.status !== 401;
    for (const card of batch) {
      if (theirs) become(card, "failed", error.message, true);
      else become(card, "waiting", "waiting");
    }
    if (!theirs) throw error;
  } finally {
    arrange();
  }
}

function take(card, answer) {
  card.answer = answer;
  fingerprint = answer.fingerprint;
  if (answer.failure) {
    become(card, "failed", answer.failure.message);
  } else {
    become(card, "scored", "");
    showRatings(card.element, answer);
  }
}

function stumble(error) {
  if (error.name === "AbortError") return; // cleared
  trouble = error.message;
  if (error.status === 401) {
    find("access").open = true;
    find("key").focus();
  }
}

// --- what is shown ------------------------------------------------------------------------------

const chosen = (name) => document.querySelector(`input[name=${name}]:checked`)?.value;

function arrange() {
  showTasks();
  const task = chosen("task");
  const rated = cards.filter((card) => card.state === "scored");
  const alike = rated.filter((card) => card.answer.fingerprint === fingerprint);
  const ordered = alike.filter((card) => card.answer.scores[task]);
  const rest = cards.filter((card) => !ordered.includes(card));
  const spread = ordered.every((card) => card.answer.scores[task].std != null);
  const rule = spread ? chosen("rule") : "mean";
  const values = ruleValues(ordered.map((card) => card.answer.scores[task]), rule);
  const inOrder = bestFirst(values, rule);
  inOrder.forEach((at, i) => {
    const of = rule === "expected_rank" ? ` of ${ordered.length}` : "";
    const told = `${RULES[rule].name} ${values[at].toFixed(2)}${of}`;
    showPlace(ordered[at].element, task, i + 1, told);
  });
  for (const card of rest) {
    const stale = card.state === "scored" && !alike.includes(card);
    const unfit = card.state === "scored" && !stale ? `has no ${task}` : "";
    showPlace(card.element, task, 0, stale ? "scored by another scorer: drop it again" : unfit);
  }
  place([...inOrder.map((at) => ordered[at]), ...rest]);
  showRules(rule, spread);
  showStatus(rated.length);
}

/** Moves cards only where the order changes, and keeps the focus where it was. */
function place(order) {
  const list = find("cards");
  const focused = document.activeElement;
  order.forEach((card, i) => {
    if (list.children[i] !== card.element) list.insertBefore(card.element, list.children[i] ?? null);
  });
  if (focused !== document.activeElement) focused.focus();
}

function showScorer() {
  find("scorer").textContent = `scorer ${scorer.fingerprint}`;
}

/** One choice a task, made when the tasks are known; the first is chosen. */
function showTasks() {
  const known = Object.keys(scorer?.tasks ?? {});
  const choices = find("tasks").querySelector(".choices");
  if (choices.childElementCount === known.length) return;
  const made = known.map((task, i) => {
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "task", value: task, checked: i === 0 });
    const text = Object.assign(document.createElement("span"), { textContent: task });
    const label = document.createElement("label");
    label.append(input, text);
    return label;
  });
  choices.replaceChildren(...made);
}

function showRules(rule, spread) {
  for (const input of document.querySelectorAll("input[name=rule]")) {
    input.disabled = RULES[input.value].spread && !spread;
  }
  find("rule-note").textContent = spread
    ? RULES[rule].note
    : "This scorer gives points without a spread: they are ordered by mean.";
}

function showBusy(seconds) {
  busy = seconds;
  showStatus(cards.filter((card) => card.state === "scored").length);
}

function showStatus(scored) {
  const failed = cards.filter((card) => card.state === "failed").length;
  const done = scored + failed;
  const parts = cards.length ? [`${scored} of ${cards.length} rated`] : [];
  if (failed) parts.push(`${failed} can’t be`);
  let text = parts.join(", ");
  if (busy) text += `; the endpoint is busy, going on in ${busy} s`;
  if (find("status").textContent !== text) find("status").textContent = text;
  Object.assign(find("progress"), { hidden: done === cards.length, max: cards.length || 1, value: done });
  find("bar").hidden = !cards.length;
  document.body.classList.toggle("filled", cards.length > 0);
  find("trouble").hidden = !trouble;
  find("trouble").firstElementChild.textContent = trouble;
}

// --- wiring -------------------------------------------------------------------------------------

find("files").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = ""; // so that the same file can be chosen again
});
find("clear").addEventListener("click", clear);
find("bar").addEventListener("change", arrange);
find("trouble").querySelector("button").addEventListener("click", work);
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  find("access").open = false;
  work();
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") add(event.dataTransfer.files);
  });
}
work();
