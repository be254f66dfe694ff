// A comment box that saves itself while one types.

import { call } from "./api.js";
import { el } from "./dom.js";

const PAUSE = 700;
let flushNow = async () => {};

export const flushComment = () => flushNow();

export function commentBox(screen, text, label, saved) {
  let stored = text;
  let timer = 0;
  const area = el("textarea", { rows: 3, maxLength: 4000, value: text, id: "comment" });
  const status = el("span", { className: "soft", role: "status" });

  async function store() {
    clearTimeout(timer);
    const value = area.value;
    if (value === stored) return;
    try {
      await call("PUT", "comments", { screen, text: value });
      stored = value;
      status.textContent = "Comment saved";
      saved(value);
    } catch {
      status.textContent = "Not saved yet; trying again";
      timer = setTimeout(store, 3 * PAUSE);
    }
  }

  area.addEventListener("input", () => {
    clearTimeout(timer);
    status.textContent = "";
    timer = setTimeout(store, PAUSE);
  });
  area.addEventListener("blur", store);
  flushNow = store;
  return el("details", { className: "comment", open: Boolean(text) },
    el("summary", {}, label),
    el("label", { className: "hidden", htmlFor: "comment" }, label), area, status);
}
