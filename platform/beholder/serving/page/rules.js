// The orders of beholder.ranking, for the few ratings that a page shows.

export const RULES = {
  mean: {
    name: "mean",
    note: "The expected score.",
    spread: false,
  },
  lower_bound: {
    name: "lower bound",
    note: "Mean less one std: of equal means the surer is first.",
    spread: true,
  },
  expected_rank: {
    name: "expected rank",
    note: "Its average place when opinions are drawn anew.",
    spread: true,
  },
};

/** What each rating, of one task and one scorer, is ordered by; an expected rank ascends. */
export function ruleValues(ratings, rule) {
  if (rule === "mean") return ratings.map((one) => one.mean);
  if (rule === "lower_bound") return ratings.map((one) => one.mean - one.std);
  return ratings.map((one) =>
    // Everyone meets himself at 1/2, which is taken off again.
    ratings.reduce((rank, other) => rank + probabilityAbove(other, one), 0.5),
  );
}

/** Positions of the values, the best first; ties as they came. */
export function bestFirst(values, rule) {
  const sign = rule === "expected_rank" ? 1 : -1;
  return values.map((_, i) => i).sort((i, j) => sign * (values[i] - values[j]) || i - j);
}

/** P(a > b) of two Gaussian opinions: Thurstone's model, DeQA-Score Eq. 6. */
function probabilityAbove(a, b) {
  const spread = Math.hypot(a.std, b.std);
  return spread > 0 ? normalCdf((a.mean - b.mean) / spread) : (Math.sign(a.mean - b.mean) + 1) / 2;
}

/** Φ by its Taylor series (Marsaglia 2004), within 1e-15. */
export function normalCdf(z) {
  if (Math.abs(z) > 8.3) return z > 0 ? 1 : 0;
  let [sum, term, before, power] = [z, z, 0, 1];
  while (sum !== before) {
    before = sum;
    power += 2;
    term *= (z * z) / power;
    sum += term;
  }
  return 0.5 + sum * Math.exp(-0.5 * z * z - 0.5 * Math.log(2 * Math.PI));
}
