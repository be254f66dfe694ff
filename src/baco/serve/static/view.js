// Draws answers: cards in lanes, words by source, groups of equal answers, figures.

import { favourites } from "./store.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// A lane is one way of answering: the pair together, or one model alone.
export function drawLane(lane, prompt) {
  const section = element("section", { className: "lane" });
  section.append(element("h2", { textContent: lane.title }));
  section.append(element("p", { className: "note", textContent: lane.words }));
  const grid = element("div", { className: "grid" });
  lane.answers.forEach((answer, i) => grid.append(drawCard(answer, i, prompt)));
  section.append(grid);
  $("lanes").append(section);
}

function drawCard(answer, i, prompt) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const name = `Answer ${i + 1}`;
  card.querySelector("h3").textContent = name;
  card.setAttribute("aria-label", name);
  card.setAttribute("aria-busy", "true");
  const pin = card.querySelector(".pin");
  const copy = card.querySelector(".copy");
  pin.setAttribute("aria-label", `Keep ${name} as a favourite`);
  copy.setAttribute("aria-label", `Copy ${name}`);
  pin.addEventListener("click", () => {
    const kept = favourites.toggle({ prompt, text: answer.text });
    showPinned(pin, kept);
    countFavourites();
  });
  copy.addEventListener("click", () => copyText(answer.text, copy));
  answer.card = card;
  return card;
}

function showPinned(pin, kept) {
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

// Adds tokens to a card; neighbours of one source share a span.
export function addTokens(answer, tokens, sources) {
  const text = answer.card.querySelector(".text");
  tokens.forEach((token, i) => {
    const source = sources[i];
    answer.text += token;
    answer.tokens.push(token);
    answer.sources.push(source);
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
  });
}

export function finishCard(answer) {
  answer.card.setAttribute("aria-busy", "false");
  const percent = Math.round(answer.share * 100);
  const cut = answer.finish === "length" ? " · cut off at the longest length" : "";
  let words = `${percent} % of words by the free model${cut}`;
  if (answer.sources.includes("filter")) words = "put in its place by the server's filter";
  if (answer.finish === "content_filter") words = "withheld by the server's filter";
  answer.card.querySelector("footer").textContent = words;
  showPinned(answer.card.querySelector(".pin"), favourites.has(answer.text));
}

// Says which answers are like an earlier one.
export function markGroups(answers, groups) {
  const first = new Map();
  groups.forEach((group, i) => {
    const label = answers[i].card.querySelector(".group");
    const earlier = first.get(group);
    answers[i].card.classList.toggle("repeat", earlier !== undefined);
    if (earlier === undefined) {
      first.set(group, i);
      label.textContent = "";
    } else {
      label.textContent = `much like answer ${answers[earlier].number}`;
    }
  });
}

export function showFigures(figures) {
  $("figures").replaceChildren(
    ...figures.map((figure) =>
      element(
        "div",
        { title: figure.about },
        element("dt", { textContent: figure.name }),
        element("dd", {
          textContent: figure.of ? `${figure.value} of ${figure.of}` : `${Math.round(figure.value * 100)} %`,
        }),
      ),
    ),
  );
}
