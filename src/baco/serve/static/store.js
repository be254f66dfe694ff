// What stays in this browser: history, shortlists by project, theme; and files to take away.

const KEEP = 40;
const MAIN = "My first project";

function read(name) {
  try {
    const value = JSON.parse(localStorage.getItem(`baco.${name}`));
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

function write(name, value) {
  try {
    localStorage.setItem(`baco.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false; // storage is full or switched off: the page works without
  }
}

export const history = {
  all: () => read("history"),
  // Keeps an entry, anew where it is there already; the oldest go where there is no room.
  put(entry) {
    let rows = [entry, ...read("history").filter((e) => e.when !== entry.when)].slice(0, KEEP);
    while (!write("history", rows) && rows.length > 1) rows = rows.slice(0, -1);
  },
  clear: () => write("history", []),
};

export const projects = {
  all: () => {
    const names = read("projects");
    return names.length ? names : [MAIN];
  },
  add(name) {
    if (!projects.all().includes(name)) write("projects", [...projects.all(), name]);
    projects.use(name);
  },
  now: () => read("project")[0] ?? projects.all()[0],
  use: (name) => write("project", [name]),
};

const mine = (f) => (f.project ?? MAIN) === projects.now();

export const favourites = {
  all: () => read("favourites").filter(mine),
  has: (text) => read("favourites").some((f) => mine(f) && f.text === text),
  toggle(entry) {
    const rows = read("favourites");
    const kept = rows.filter((f) => !(mine(f) && f.text === entry.text));
    const added = kept.length === rows.length;
    write("favourites", added ? [{ ...entry, project: projects.now() }, ...kept] : kept);
    return added;
  },
};

export const theme = {
  get: () => read("theme")[0] ?? "",
  set: (name) => write("theme", [name]),
};

// --- everything in one file -----------------------------------------------------------------

export function everything() {
  const kept = { history: history.all(), favourites: read("favourites"), projects: projects.all() };
  return JSON.stringify({ format: "baco-playground", version: 1, ...kept }, null, 1);
}

// Adds what a saved file holds to what is here; says how much it was.
export function takeIn(text) {
  let saved;
  try {
    saved = JSON.parse(text);
  } catch {
    throw new Error("This file is not one that the playground saved.");
  }
  const isText = (value) => typeof value === "string";
  const lists = ["history", "favourites", "projects"].map((name) => saved?.[name]);
  const isAnswer = (a) => Array.isArray(a?.pieces) && a.pieces.every(Array.isArray);
  const isLane = (lane) => Array.isArray(lane?.answers) && lane.answers.every(isAnswer);
  const isEntry = (e) =>
    isText(e?.when) && isText(e.prompt) &&
    (e.lanes ? Array.isArray(e.lanes) && e.lanes.every(isLane) : Array.isArray(e.texts));
  const right =
    saved?.format === "baco-playground" &&
    lists.every(Array.isArray) &&
    saved.history.every(isEntry) &&
    saved.favourites.every((f) => isText(f?.prompt) && isText(f.text)) &&
    saved.projects.every(isText);
  if (!right) throw new Error("This file is not one that the playground saved.");
  const known = new Set(history.all().map((e) => e.when));
  const fresh = saved.history.filter((e) => !known.has(e.when));
  const rows = [...history.all(), ...fresh].sort((a, b) => b.when.localeCompare(a.when));
  write("history", rows.slice(0, KEEP));
  const same = (a, b) => a.text === b.text && (a.project ?? MAIN) === (b.project ?? MAIN);
  const here = read("favourites");
  const added = saved.favourites.filter((f) => !here.some((h) => same(h, f)));
  write("favourites", [...here, ...added]);
  write("projects", [...new Set([...projects.all(), ...saved.projects])]);
  return { history: fresh.length, favourites: added.length };
}

export function markdown(run) {
  const lines = [`# ${run.prompt}`, ""];
  for (const lane of run.lanes) {
    lines.push(`## ${lane.title}`, "");
    const shown = lane.answers.filter((a) => !a.hidden);
    shown.forEach((a, i) => lines.push(`${i + 1}. ${a.text.trim().replace(/\n/g, "\n   ")}`));
    lines.push("");
  }
  return lines.join("\n");
}

export function jsonl(run) {
  const rows = run.lanes.flatMap((lane) =>
    lane.answers.map((a) => ({
      prompt: run.prompt,
      index: a.index,
      text: a.text,
      finish_reason: a.finish,
      method: lane.method,
      router: a.about.router ?? null,
      gamma: a.about.gamma ?? null,
      seed: a.about.seed ?? null,
      diversity: a.about.diversity?.asked ?? null,
      tokens: a.tokens,
      sources: a.sources,
      base_share: a.share,
      edited: a.edited,
      folded: a.why,
    })),
  );
  return rows.map((row) => JSON.stringify(row)).join("\n") + "\n";
}

export function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
