// The two drawers: the shortlist of each project, and history; and all of it in a file.

import { download, everything, favourites, history, projects, takeIn } from "./store.js";
import { $, copyText, countFavourites, element } from "./view.js";

function nothing(list, words) {
  return list.length ? list : [element("p", { textContent: words })];
}

export function showProjects() {
  $("project").replaceChildren(...projects.all().map((name) => new Option(name)));
  $("project").value = projects.now();
}

export function openFavourites() {
  const entries = favourites.all().map((entry) => {
    const copy = element("button", { type: "button", textContent: "Copy" });
    copy.addEventListener("click", () => copyText(entry.text.trim(), copy));
    const drop = element("button", { type: "button", textContent: "Remove" });
    drop.addEventListener("click", () => {
      favourites.toggle(entry);
      countFavourites();
      openFavourites();
    });
    return element(
      "article",
      {},
      element("p", { className: "note", textContent: entry.prompt }),
      element("p", { className: "text", textContent: entry.text.trim() }),
      copy,
      " ",
      drop,
    );
  });
  $("favourites-title").textContent = `Shortlist of “${projects.now()}”`;
  $("favourite-list").replaceChildren(...nothing(entries, "Nothing yet: keep an answer with its ☆."));
  if (!$("favourites").open) $("favourites").showModal();
}

export function openHistory(reopen) {
  const entries = history.all().map((entry) => {
    const again = element("button", { type: "button", textContent: "Open again" });
    again.addEventListener("click", () => {
      $("history").close();
      reopen(entry);
    });
    const answers = entry.lanes?.[0]?.answers.map((a) => a.pieces.map(([text]) => text).join("")) ?? entry.texts ?? [];
    const dial = typeof entry.diversity === "number" ? `at ${entry.diversity}, ` : "";
    const when = new Date(entry.when).toLocaleString();
    return element(
      "article",
      {},
      element("h3", { textContent: entry.prompt }),
      element("p", { className: "note", textContent: `${when}, ${dial}${answers.length} answers` }),
      element("p", { textContent: (answers[0] ?? "").trim().slice(0, 140) }),
      again,
    );
  });
  $("history-list").replaceChildren(...nothing(entries, "Nothing yet."));
  $("import-said").textContent = "";
  $("history").showModal();
}

// `changed` hears that another shortlist is shown.
export function wireShelves(changed) {
  $("project").addEventListener("change", () => {
    projects.use($("project").value);
    changed();
  });
  $("project-add").addEventListener("click", () => {
    const name = $("project-name").value.trim();
    if (!name) return $("project-name").focus();
    projects.add(name);
    $("project-name").value = "";
    showProjects();
    changed();
    openFavourites();
  });
  $("clear-history").addEventListener("click", () => {
    history.clear();
    $("history").close();
  });
  $("export-all").addEventListener("click", () =>
    download("playground.json", everything(), "application/json"));
  $("import").addEventListener("change", async () => {
    const [file] = $("import").files;
    if (!file) return;
    try {
      const got = takeIn(await file.text());
      showProjects();
      changed();
      $("import-said").textContent = `Added ${got.history} questions and ${got.favourites} kept answers.`;
    } catch (error) {
      $("import-said").textContent = error.message;
    }
    $("import").value = "";
  });
}
