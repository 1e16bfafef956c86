// Talks to the endpoint that served this page.

const PATIENCE_S = 1; // where a busy endpoint doesn't say how long
const LONGEST_S = 60;

/** A request that was refused as a whole, or (status 0) never arrived. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** What is served: `tasks` with their kinds, `fingerprint`, and the endpoint's `limits`. */
export async function askScorer(options) {
  const { scorers, limits = {} } = await send("v1/scorers", {}, options);
  return { ...scorers[0], limits };
}

/** One answer a file, in their order. */
export async function askScores(files, options) {
  const body = new FormData();
  for (const file of files) body.append("files", file, file.name);
  return (await send("v1/score", { method: "POST", body }, options)).items;
}

/** Sends until there is an answer: a busy endpoint is given the time that it asks for.
 * `options`: `key` or "", an abort `signal`, and `onBusy(seconds)`. */
async function send(path, request, { key, signal, onBusy }) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  for (;;) {
    const answer = await fetch(path, { ...request, headers, signal }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The endpoint can’t be reached: see whether it runs.");
    });
    if (answer.ok) return answer.json();
    if (answer.status !== 429 && answer.status !== 503) {
      throw new Refused(answer.status, await sentenceOf(answer));
    }
    await pause(retryAfter(answer), signal, onBusy);
  }
}

async function sentenceOf(answer) {
  const said = await answer.json().catch(() => ({}));
  return typeof said.error === "string" ? said.error : `The endpoint answered ${answer.status}.`;
}

function retryAfter(answer) {
  const asked = Number(answer.headers.get("Retry-After") || PATIENCE_S);
  return asked > 0 ? Math.min(asked, LONGEST_S) : PATIENCE_S;
}

async function pause(seconds, signal, onBusy) {
  for (let left = Math.ceil(seconds); left > 0; left--) {
    onBusy(left);
    await new Promise((done) => setTimeout(done, Math.min(1000, 1000 * seconds)));
    signal.throwIfAborted();
  }
  onBusy(0);
}
