// The annotator's own data: download, delete. Also the help and the list of prompts.

import { call, dropQueue } from "./api.js";
import { dialog, el } from "./dom.js";
import { sections } from "./intro.js";
import { KEYS, enable, enabled } from "./keys.js";
import { STEPS } from "./sheet.js";

export function showHelp(protocol) {
  const toggle = el("input", {
    type: "checkbox", checked: enabled(), onchange: () => enable(toggle.checked),
  });
  dialog("Help", [
    el("h3", {}, "Keys"),
    el("dl", { className: "keys" }, ...KEYS.flatMap(([key, what]) => [
      el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)])),
    el("label", { className: "check" }, toggle, el("span", {}, "Use single-letter and number keys")),
    ...sections(protocol),
    protocol.contact && el("p", {}, `Questions: ${protocol.contact}`),
  ].filter(Boolean));
}

export function showList(me, go) {
  dialog("All prompts", [
    el("p", { className: "soft" }, "Filled: finished. Half: begun. You can return to any prompt."),
    el("div", { className: "list" }, ...me.screens.map((screen) => {
      const done = STEPS.reduce((sum, step) => sum + screen.done[step], 0);
      const needed = STEPS.reduce((sum, step) => sum + screen.needed[step], 0);
      const state = done >= needed ? "finished" : done ? "begun" : "open";
      return el("button", {
        type: "button", className: `tile ${state}`, "aria-label": `Prompt ${screen.number}, ${state}`,
        onclick: () => { document.getElementById("dialog").close(); go(screen.number); },
      }, String(screen.number));
    })),
  ]);
}

export function showData(gone) {
  const sure = el("input", { type: "checkbox" });
  const button = el("button", { type: "button", className: "danger", disabled: true },
    "Delete my data and leave the study");
  const trouble = el("p", { role: "alert", className: "trouble" });
  sure.addEventListener("change", () => { button.disabled = !sure.checked; });
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await call("DELETE", "data");
      dropQueue();
      document.getElementById("dialog").close();
      gone();
    } catch (error) {
      trouble.textContent = `Nothing was deleted: ${error.message}`;
      button.disabled = false;
    }
  });
  dialog("My data", [
    el("h3", {}, "Download"),
    el("p", {}, "Everything stored about you: your answers, every click, comments and time."),
    el("button", { type: "button", className: "plain", onclick: () => download(trouble) }, "Download my data"),
    el("h3", {}, "Delete"),
    el("p", {}, "Deletes all of it at once. This cannot be undone, and your link stops working."),
    el("label", { className: "check" }, sure, el("span", {}, "I want everything to be deleted.")),
    button,
    trouble,
  ]);
}

async function download(trouble) {
  try {
    const data = await call("GET", "data");
    const blob = new Blob([JSON.stringify(data, null, 1)], { type: "application/json" });
    const link = el("a", { href: URL.createObjectURL(blob), download: "my-study-data.json" });
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    trouble.textContent = `The download failed: ${error.message}`;
  }
}
