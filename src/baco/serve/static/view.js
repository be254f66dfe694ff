// Draws answers: cards in lanes, words by source, what is folded and why, figures.

import { favourites } from "./store.js";
import { render } from "./markdown.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Why answers are folded, in the order in which they are shown.
const FOLDS = [
  ["repeat", "much like another answer"],
  ["broken", "broken"],
  ["fewer", "like what you wanted fewer of"],
  ["aside", "set aside: less like the one you chose"],
];

// A lane is one way of answering: the pair together, or one model alone.
export function drawLane(lane) {
  const folds = FOLDS.map(([name, words]) => {
    const grid = element("div", { className: "grid" });
    const fold = element("details", { className: `fold ${name}`, hidden: true });
    fold.append(element("summary"), grid);
    return { name, words, fold, grid };
  });
  lane.grid = element("div", { className: "grid" });
  lane.folds = folds;
  lane.section = element(
    "section",
    { className: "lane" },
    element("h2", { textContent: lane.title }),
    element("p", { className: "note", textContent: lane.words }),
    lane.grid,
    ...folds.map((f) => f.fold),
  );
  $("lanes").append(lane.section);
  $("lanes").classList.toggle("compare", $("lanes").childElementCount > 1);
}

// Puts each card where it belongs: among the answers, or folded with the reason.
export function fold(lane) {
  const place = (grid, answers) => {
    const cards = answers.map((a) => a.card);
    cards.forEach((card, i) => {
      if (grid.children[i] !== card) grid.insertBefore(card, grid.children[i] ?? null);
    });
  };
  const good = lane.answers.some((a) => !a.why && a.finish !== "content_filter"); // where all are broken they are shown, with the reason
  lane.answers.forEach((a) => {
    a.hidden = Boolean(a.why) && (good || a.why.kind !== "broken") && !a.card.contains(document.activeElement);
  });
  place(lane.grid, lane.answers.filter((a) => !a.hidden));
  for (const { name, words, fold: details, grid } of lane.folds) {
    const folded = lane.answers.filter((a) => a.hidden && a.why.kind === name);
    place(grid, folded);
    details.hidden = !folded.length;
    details.firstChild.textContent = `${folded.length} ${words}`;
  }
}

export function drawCard(answer, run, does) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const name = `Answer ${answer.number}`;
  const button = (kind) => card.querySelector(`.${kind}`);
  card.querySelector("h3").textContent = name;
  card.setAttribute("aria-label", name);
  card.setAttribute("aria-busy", String(!answer.finish));
  const labels = {
    pin: `Keep ${name} in the shortlist`, copy: `Copy ${name}`, edit: `Edit ${name}`,
    continue: `Continue ${name} from a word`, like: `More like ${name}`,
    unlike: `Fewer like ${name}`, reply: `Reply to ${name}`,
  };
  for (const [kind, label] of Object.entries(labels)) button(kind).setAttribute("aria-label", label);
  button("like").title = "Draws twice as many as you asked for and shows those that share most words with this one";
  button("unlike").title = "Folds what shares most words with this one, now and in what is drawn next";
  button("pin").addEventListener("click", () => {
    showPinned(answer, favourites.toggle({ prompt: run.prompt, text: answer.text }));
    countFavourites();
  });
  button("copy").addEventListener("click", () => copyText(answer.text.trim(), button("copy")));
  for (const kind of ["edit", "continue", "like", "unlike", "reply"])
    button(kind).addEventListener("click", () => answer.finish && does[kind](answer));
  answer.card = card;
  showText(answer);
  if (answer.finish) finishCard(answer);
  return card;
}

function showPinned(answer, kept) {
  const pin = answer.card.querySelector(".pin");
  pin.textContent = kept ? "★" : "☆";
  pin.setAttribute("aria-pressed", String(kept));
}

export function countFavourites() {
  $("favourite-count").textContent = favourites.all().length;
}

export async function copyText(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = before), 1200);
}

// --- text -----------------------------------------------------------------------------------

// Adds tokens to an answer; neighbours of one source share a span.
export function addTokens(answer, tokens, sources) {
  tokens.forEach((token, i) => {
    answer.text += token;
    answer.tokens.push(token);
    answer.sources.push(sources[i]);
    append(answer.card.querySelector(".text"), token, sources[i]);
  });
}

function append(text, token, source) {
  const shown = text.childNodes.length ? token : token.trimStart();
  let last = text.lastElementChild;
  if (!last || !last.classList.contains(source)) {
    // The space before a word is nobody's: it is not coloured.
    const word = shown.trimStart();
    text.append(shown.slice(0, shown.length - word.length));
    last = element("span", { className: `w ${source}`, textContent: word });
    text.append(last);
  } else {
    last.append(shown);
  }
}

// Draws an answer's text anew: by source, or formatted where the reader asked for that.
export function showText(answer) {
  const text = answer.card.querySelector(".text");
  text.replaceChildren();
  text.classList.toggle("formatted", $("formatted").checked && Boolean(answer.finish));
  if (text.classList.contains("formatted")) text.append(render(answer.text));
  else answer.tokens.forEach((token, i) => append(text, token, answer.sources[i]));
}

export function finishCard(answer) {
  answer.card.setAttribute("aria-busy", "false");
  const parts = [];
  if (answer.edited) parts.push("edited by you");
  else if (answer.prefix) parts.push("begun by you");
  if (answer.edited) parts.length = 1;
  else if (answer.sources.includes("filter")) parts.push("put in its place by the server's filter");
  else if (answer.finish === "content_filter") parts.push("withheld by the server's filter");
  else if (answer.finish === "stopped") parts.push("stopped by you");
  else parts.push(`${Math.round(answer.share * 100)} % of words by the free model`);
  if (answer.finish === "length") parts.push("cut off at the longest length");
  answer.card.querySelector(".about").textContent = parts.join(" · ");
  showPinned(answer, favourites.has(answer.text));
  if ($("formatted").checked) showText(answer);
}

// What is known of how good an answer is, and why it is folded.
export function showVerdict(answer) {
  const verdict = answer.card.querySelector(".verdict");
  verdict.textContent = answer.verdict ?? "";
  verdict.classList.toggle("good", answer.verdict === "right");
  answer.card.querySelector(".group").textContent = answer.why?.words ?? "";
  answer.card.classList.toggle("repeat", answer.why?.kind === "repeat");
}

// Lets the writer change an answer; `done` hears the new text.
export function editCard(answer, done) {
  const text = answer.card.querySelector(".text");
  const box = element("textarea", { value: answer.text.trim(), rows: 5 });
  box.setAttribute("aria-label", `Text of answer ${answer.number}`);
  const save = element("button", { type: "button", textContent: "Save", className: "save" });
  const cancel = element("button", { type: "button", textContent: "Cancel" });
  const close = () => {
    showText(answer);
    answer.card.querySelector(".edit").focus();
  };
  save.addEventListener("click", () => {
    if (box.value.trim()) done(box.value.trim());
    close();
  });
  cancel.addEventListener("click", close);
  text.replaceChildren(box, element("div", { className: "row" }, save, cancel));
  box.focus();
}

// Makes every word a button; `done` hears the text up to the chosen one.
export function chooseWord(answer, done) {
  const text = answer.card.querySelector(".text");
  const cancel = element("button", { type: "button", textContent: "Never mind" });
  cancel.addEventListener("click", () => {
    showText(answer);
    answer.card.querySelector(".continue").focus();
  });
  const nodes = [];
  for (const found of answer.text.matchAll(/\S+/g)) {
    const word = element("button", { type: "button", className: "word", textContent: found[0] });
    const upTo = answer.text.slice(0, found.index + found[0].length);
    word.setAttribute("aria-label", `Go on after ${found[0]}`);
    word.addEventListener("click", () => {
      showText(answer);
      done(upTo);
    });
    nodes.push(word, " ");
  }
  const hint = element("p", { className: "note", textContent: "Choose the last word to keep; the rest is written anew." });
  text.replaceChildren(hint, ...nodes, cancel);
  text.querySelector(".word")?.focus();
}

export function showFigures(figures) {
  $("figures").replaceChildren(
    ...figures.map((figure) => {
      let value = `${Math.round(figure.value * 100)} %`;
      if (figure.of) value = `${figure.value} of ${figure.of}`;
      if (figure.kind === "number") value = figure.value.toFixed(1);
      return element(
        "div",
        { title: figure.about },
        element("dt", { textContent: figure.name }),
        element("dd", { textContent: value }),
      );
    }),
  );
}
