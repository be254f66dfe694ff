// A run: what was asked, and the lanes of answers to it. Asks the server for them and keeps count.

import * as api from "./api.js";
import { overlap } from "./words.js";

export const MOST = 64; // answers of a lane: as many as one page compares

export const LANES = {
  baco: ["Both models together", "The free model may speak where there is room for surprise."],
  aligned: ["The assistant alone", "The trained model: careful, and often much the same."],
  base: ["The free model alone", "The raw model: varied, and often off the point."],
};

export const ALIKE = 0.5; // of the words shared: alike enough to be meant by "fewer like this"

export function newSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
}

export function newLane(method) {
  const [title, words] = LANES[method];
  return { method, title, words, answers: [], unlike: [] };
}

// Adds empty answers to a lane; `prefix` is the beginning that they share.
export function addAnswers(lane, n, prefix = "") {
  const first = lane.answers.length;
  const made = Array.from({ length: n }, (_, index) => ({
    number: first + index + 1, index, prefix, about: {},
    text: prefix, tokens: prefix ? [prefix] : [], sources: prefix ? ["yours"] : [],
    share: 0, finish: null, edited: false, why: null, verdict: null, hidden: false, card: null,
  }));
  lane.answers.push(...made);
  return made;
}

// Asks for one batch of answers. Those that are finished stay as they are, so that a request which
// was cut off can be sent again: the same seed gives the same answers.
export async function fill(batch, signal, hears) {
  const done = new Set(batch.answers.filter((a) => a.finish));
  for (const answer of batch.answers) if (!done.has(answer)) hears.reset(answer);
  await api.stream(batch.request, signal, (chunk) => {
    if (chunk.baco) {
      batch.answers.forEach((a) => (a.about = chunk.baco));
      hears.about(chunk.baco);
    }
    for (const choice of chunk.choices) {
      const answer = batch.answers[choice.index];
      if (done.has(answer)) continue;
      if (choice.baco) hears.tokens(answer, choice.baco.tokens, choice.baco.sources);
      const said = choice.delta.content;
      if (said && !choice.baco?.tokens.length) hears.tokens(answer, [said], ["filter"]);
      if (choice.finish_reason) {
        answer.finish = choice.finish_reason;
        answer.share = choice.baco.base_share;
        hears.finished(answer);
      }
    }
  });
  if (batch.answers.some((a) => !a.finish)) throw new api.Lost();
}

// Says of each answer why it is folded, if it is.
export function sort(lane, said, texts, prompt) {
  const first = new Map();
  texts.forEach((answer, i) => {
    const told = said.answers?.[i] ?? {};
    let why = null;
    const group = said.groups[i];
    if (told.fault) why = { kind: "broken", words: told.fault };
    else if (answer.finish === "length") why = { kind: "broken", words: "was cut off at the longest length" };
    else if (lane.unlike.some((text) => text === answer.text || overlap(text, answer.text, prompt) >= ALIKE))
      why = { kind: "fewer", words: "you wanted fewer like this" };
    else if (answer.aside) why = { kind: "aside", words: "less like the one you chose" };
    else if (first.has(group)) why = { kind: "repeat", words: `much like answer ${first.get(group).number}` };
    else first.set(group, answer);
    // What the writer wrote or edited is never folded.
    answer.why = answer.edited ? null : why;
    if (said.answers) answer.verdict = words(told);
  });
}

function words(told) {
  if (told.words) return told.words;
  const parts = [];
  if (typeof told.surprise === "number") parts.push(`surprise ${told.surprise.toFixed(1)}`);
  if (typeof told.relevance === "number") parts.push(`to the point ${Math.round(told.relevance * 100)} %`);
  return parts.join(" · ") || null;
}

// Of new answers, keeps those most like the chosen one; the others are set aside.
export function keepLike(chosen, made, keep, prompt) {
  const near = [...made].sort((a, b) => overlap(b.text, chosen, prompt) - overlap(a.text, chosen, prompt));
  near.forEach((answer, i) => (answer.aside = i >= keep));
}

// --- to and from history --------------------------------------------------------------------

export function packed(run) {
  return {
    ...run.form, when: run.when, prompt: run.prompt, turns: run.turns, system: run.system,
    lanes: run.lanes.map((lane) => ({
      method: lane.method,
      unlike: lane.unlike,
      answers: lane.answers.filter((a) => a.finish).map((a) => ({
        index: a.index, pieces: pieces(a), finish: a.finish, share: a.share, edited: a.edited,
        why: a.why, verdict: a.verdict, about: a.about, prefix: a.prefix,
      })),
    })),
  };
}

function pieces(answer) {
  const out = [];
  answer.tokens.forEach((token, i) => {
    if (out.length && out.at(-1)[1] === answer.sources[i]) out.at(-1)[0] += token;
    else out.push([token, answer.sources[i]]);
  });
  return out;
}

export function unpacked(entry) {
  const old = [{ method: "baco", unlike: [], answers: (entry.texts ?? []).map((text, index) => ({ index, pieces: [[text, "aligned"]] })) }];
  const lanes = (entry.lanes ?? old).filter((saved) => saved.method in LANES).map((saved) => {
    const lane = newLane(saved.method);
    lane.unlike = saved.unlike ?? [];
    for (const a of saved.answers) {
      const [answer] = addAnswers(lane, 1);
      const { pieces: kept, ...rest } = a;
      Object.assign(answer, { finish: "stop", ...rest });
      answer.about ??= {};
      answer.why = null; // told anew when it is compared
      answer.tokens = kept.map(([text]) => String(text));
      answer.sources = kept.map(([, source]) => (["base", "filter", "yours"].includes(source) ? source : "aligned"));
      answer.text = answer.tokens.join("");
    }
    return lane;
  });
  const { pair, router, diversity, gamma, n, seed } = entry;
  return {
    when: entry.when, prompt: entry.prompt, turns: entry.turns ?? [], system: entry.system ?? "",
    form: { pair, router, diversity, gamma, n, seed }, lanes, batches: [],
  };
}
