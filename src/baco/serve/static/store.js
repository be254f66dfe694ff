// What stays in this browser: history, favourites, theme; and files to take away.

const KEEP = 40;

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(`baco.${name}`)) ?? [];
  } catch {
    return [];
  }
}

function write(name, value) {
  try {
    localStorage.setItem(`baco.${name}`, JSON.stringify(value));
  } catch {
    // Storage is full or switched off: the page works without.
  }
}

export const history = {
  all: () => read("history"),
  add: (entry) => write("history", [entry, ...read("history")].slice(0, KEEP)),
  clear: () => write("history", []),
};

export const favourites = {
  all: () => read("favourites"),
  has: (text) => read("favourites").some((f) => f.text === text),
  toggle(entry) {
    const kept = read("favourites").filter((f) => f.text !== entry.text);
    const added = kept.length === read("favourites").length;
    write("favourites", added ? [entry, ...kept] : kept);
    return added;
  },
};

export const theme = {
  get: () => read("theme")[0] ?? "",
  set: (name) => write("theme", [name]),
};

export function markdown(run) {
  const lines = [`# ${run.prompt.replace(/\n/g, " ")}`, ""];
  for (const lane of run.lanes) {
    lines.push(`## ${lane.title}`, "");
    lane.answers.forEach((a, i) => lines.push(`${i + 1}. ${a.text.trim().replace(/\n/g, "\n   ")}`));
    lines.push("");
  }
  return lines.join("\n");
}

export function jsonl(run) {
  const rows = run.lanes.flatMap((lane) =>
    lane.answers.map((a, index) => ({
      prompt: run.prompt,
      index,
      text: a.text,
      finish_reason: a.finish,
      method: lane.method,
      router: lane.about.router ?? null,
      gamma: lane.about.gamma ?? null,
      seed: lane.about.seed ?? null,
      diversity: lane.about.diversity?.asked ?? null,
      tokens: a.tokens,
      sources: a.sources,
      base_share: a.share,
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
