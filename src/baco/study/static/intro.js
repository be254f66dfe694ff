// Instructions and consent.

import { el } from "./dom.js";

export function sections(protocol) {
  return protocol.instructions.map((part) =>
    el("section", { className: "part" },
      el("h2", {}, part.title),
      ...part.blocks.map((block) => (Array.isArray(block)
        ? el("ul", {}, ...block.map((text) => el("li", {}, text)))
        : el("p", {}, block)))));
}

export function introduction(me, begin) {
  const read = el("input", { type: "checkbox", id: "read" });
  const agree = el("input", { type: "checkbox", id: "agree" });
  const button = el("button", { type: "submit", className: "main", disabled: true }, "Begin");
  const check = () => { button.disabled = !(read.checked && agree.checked); };
  read.addEventListener("change", check);
  agree.addEventListener("change", check);
  const { protocol } = me;
  return el("article", { className: "text" },
    el("h1", {}, me.title),
    el("p", { className: "soft" },
      `${me.screens.length} prompts, about `
      + `${hours(me)}. Please read this page first; it takes three minutes.`),
    ...sections(protocol),
    el("section", { className: "part" },
      el("h2", {}, "Your data and your consent"),
      ...protocol.consent.split(/\n\s*\n/).map((text) => el("p", {}, text)),
      protocol.contact && el("p", {}, `Questions: ${protocol.contact}`)),
    el("form", { className: "consent", onsubmit: (event) => { event.preventDefault(); begin(); } },
      el("label", { className: "check" }, read, el("span", {}, "I have read the instructions.")),
      el("label", { className: "check" }, agree,
        el("span", {}, "I agree to take part and to the use of my answers as described.")),
      button));
}

function hours(me) {
  // A guess for the first page only: 15 s a rating, 12 s a choice.
  const seconds = me.screens.reduce((sum, { needed }) =>
    sum + 15 * needed.quality + 12 * (needed.diversity + needed.creativity), 0);
  const minutes = Math.max(5, Math.round(seconds / 300) * 5);
  return minutes < 90 ? `${minutes} minutes` : `${Math.round(minutes / 30) / 2} hours`;
}
