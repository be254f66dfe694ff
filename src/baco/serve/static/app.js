// The playground: reads the form, asks the server, shows what comes.

import * as api from "./api.js";
import { download, favourites, history, jsonl, markdown, theme } from "./store.js";
import {
  $, addTokens, copyText, countFavourites, drawLane, element, finishCard, markGroups, showFigures,
} from "./view.js";

const STEPS = [
  [0, "As careful as can be: the trained assistant alone"],
  [0.001, "Careful: a different word here and there"],
  [0.2, "Balanced: varied, and still sensible"],
  [0.45, "Adventurous: really different answers"],
  [0.7, "Wild: expect surprises, and some nonsense"],
  [0.99, "All the freedom there is"],
];

const LANES = {
  baco: ["Both models together", "The free model may speak where there is room for surprise."],
  aligned: ["The assistant alone", "The trained model: careful, and often much the same."],
  base: ["The free model alone", "The raw model: varied, and often off the point."],
};

let info;
let run = null;
let abort = null;
let asked = 0; // number of the newest question, so that late news of older ones are dropped

// --- the form -------------------------------------------------------------------------------

function describeDial() {
  const value = Number($("diversity").value);
  const words = STEPS.filter(([from]) => value >= from).at(-1)[1];
  $("dial-words").textContent = words;
  $("diversity").setAttribute("aria-valuetext", `${value}: ${words}`);
  $("diversity").style.setProperty("--at", value);
}

async function checkDial() {
  const pair = $("pair").value;
  const router = $("router").value;
  const note = $("dial-note");
  try {
    let state = await api.get(
      `/baco/calibration?${new URLSearchParams({ pair, router })}`,
    );
    if (!state.ready && !state.running) {
      state = await api.post("/baco/calibration", { pair, router });
    }
    if (pair !== $("pair").value || router !== $("router").value) return;
    if (!state.ready) {
      note.textContent =
        `The slider is being tuned for these models, ${Math.round((state.done ?? 0) * 100)} % done; ` +
        "its two ends work already.";
      setTimeout(checkDial, 1500);
      return;
    }
    $("diversity").style.setProperty("--reach", state.reach.high);
    note.textContent =
      state.reach.high < 0.95
        ? `Beyond ${state.reach.high.toFixed(2)} nothing changes any more: this is as free as it gets.`
        : "";
  } catch (error) {
    note.textContent = error.message;
  }
}

function describeRouter() {
  const router = info.routers.find((r) => r.name === $("router").value);
  $("router-formula").textContent =
    `Goes to the free model where: ${router.formula}. Threshold in ${router.span}.`;
}

function showExamples() {
  const pair = info.pairs.find((p) => p.name === $("pair").value);
  $("examples").replaceChildren(
    ...pair.examples.map((text) => {
      const button = element("button", { type: "button", className: "chip", textContent: text });
      button.addEventListener("click", () => {
        $("prompt").value = text;
        ask();
      });
      return button;
    }),
  );
}

function number(id) {
  const text = $(id).value.trim();
  return text === "" ? undefined : Number(text);
}

function body(method) {
  const out = {
    model: $("pair").value,
    messages: [{ role: "user", content: $("prompt").value.trim() }],
    n: Math.max(1, Math.min(number("n") ?? 6, info.max_n)),
    temperature: number("temperature"),
    top_p: number("top_p"),
    max_tokens: number("max_tokens"),
    seed: number("seed"),
  };
  if (method !== "baco") return { ...out, method };
  out.router = $("router").value;
  if (number("gamma") === undefined) out.diversity = Number($("diversity").value);
  else out.gamma = number("gamma");
  return out;
}

// --- asking ---------------------------------------------------------------------------------

function newLane(method, n) {
  const [title, words] = LANES[method];
  const answers = Array.from({ length: n }, (_, i) => ({
    number: i + 1, text: "", tokens: [], sources: [], share: 0, finish: null, card: null,
  }));
  return { method, title, words, answers, about: {} };
}

async function ask() {
  const prompt = $("prompt").value.trim();
  if (!prompt) {
    $("prompt").focus();
    return;
  }
  abort?.abort();
  abort = new AbortController();
  const mine = ++asked;
  const methods = $("compare").checked ? ["baco", "aligned", "base"] : ["baco"];
  const requests = methods.map(body);
  run = { prompt, lanes: methods.map((m, i) => newLane(m, requests[i].n)) };
  $("lanes").replaceChildren();
  showFigures([]);
  run.lanes.forEach((lane) => drawLane(lane, prompt));
  $("results").hidden = false;
  $("problem").hidden = true;
  $("stop").hidden = false;
  tell();
  try {
    await Promise.all(run.lanes.map((lane, i) => fill(lane, requests[i], mine)));
    if (mine !== asked) return;
    $("stop").hidden = true;
    remember(requests[0]);
    await compare(run.lanes[0], mine, true);
  } catch (error) {
    if (mine !== asked) return;
    if (error.name !== "AbortError") showProblem(error, mine);
    abort.abort();
    document.querySelectorAll("[aria-busy=true]").forEach((c) => c.setAttribute("aria-busy", "false"));
  } finally {
    if (mine === asked) {
      $("stop").hidden = true;
      tell();
    }
  }
}

async function fill(lane, request, mine) {
  await api.stream(request, abort.signal, (chunk) => {
    if (mine !== asked) return;
    if (chunk.baco) lane.about = chunk.baco;
    for (const choice of chunk.choices) {
      const answer = lane.answers[choice.index];
      if (choice.baco) addTokens(answer, choice.baco.tokens, choice.baco.sources);
      const said = choice.delta.content;
      if (said && !choice.baco?.tokens.length) addTokens(answer, [said], ["filter"]);
      if (choice.finish_reason) {
        answer.finish = choice.finish_reason;
        answer.share = choice.baco.base_share;
        finishCard(answer);
        tell();
        compare(lane, mine, false).catch(() => {});
      }
    }
  });
}

// Marks answers that are alike, and shows how different those of the first lane are.
async function compare(lane, mine, meaning) {
  const ready = () => lane.answers.filter((a) => a.finish && a.finish !== "content_filter");
  const done = ready();
  if (done.length < 2) return;
  const result = await api.post("/baco/diversity", {
    texts: done.map((a) => a.text),
    prompt: run.prompt,
    meaning,
  });
  if (mine !== asked) return;
  if (done.length < ready().length) return; // newer news is coming
  markGroups(done, result.groups);
  if (lane === run.lanes[0]) showFigures(result.figures);
}

function tell() {
  const answers = run.lanes.flatMap((lane) => lane.answers);
  const done = answers.filter((a) => a.finish).length;
  const about = run.lanes[0].about;
  let words = done < answers.length ? `Writing: ${done} of ${answers.length} answers are ready.` : "";
  if (done === answers.length) {
    words = `All ${done} answers are ready.`;
    if (about.base_share !== undefined) {
      const percent = Math.round(about.base_share * 100);
      words += ` The free model wrote ${percent} % of the words`;
      words += run.lanes.length > 1 ? " where both worked together." : ".";
    }
  }
  $("status").textContent = words;
}

function showProblem(error, mine) {
  const wait = error.after;
  $("problem").hidden = false;
  $("problem").textContent = error.message + (wait ? ` Trying again in ${wait} s.` : "");
  if (wait) {
    setTimeout(() => {
      if (mine === asked) ask();
    }, wait * 1000);
  }
}

function stop() {
  asked += 1;
  abort?.abort();
  $("stop").hidden = true;
  $("status").textContent = "Stopped.";
  document.querySelectorAll("[aria-busy=true]").forEach((c) => c.setAttribute("aria-busy", "false"));
}

// --- history and favourites -----------------------------------------------------------------

function remember(request) {
  history.add({
    when: new Date().toISOString(),
    prompt: run.prompt,
    diversity: request.diversity ?? null,
    n: request.n,
    seed: request.seed,
    texts: run.lanes[0].answers.map((a) => a.text),
  });
}

function openHistory() {
  const entries = history.all().map((entry) => {
    const again = element("button", { type: "button", textContent: "Open again" });
    again.addEventListener("click", () => {
      $("prompt").value = entry.prompt;
      if (entry.diversity !== null) $("diversity").value = entry.diversity;
      $("n").value = entry.n;
      $("seed").value = entry.seed ?? "";
      describeDial();
      $("history").close();
      ask();
    });
    const dial = entry.diversity === null ? "threshold" : `at ${entry.diversity}`;
    return element(
      "article",
      {},
      element("h3", { textContent: entry.prompt }),
      element("p", {
        className: "note",
        textContent: `${new Date(entry.when).toLocaleString()}, ${dial}, ${entry.texts.length} answers`,
      }),
      element("p", { textContent: entry.texts[0].trim().slice(0, 140) }),
      again,
    );
  });
  $("history-list").replaceChildren(
    ...(entries.length ? entries : [element("p", { textContent: "Nothing yet." })]),
  );
  $("history").showModal();
}

function openFavourites() {
  const entries = favourites.all().map((entry) => {
    const copy = element("button", { type: "button", textContent: "Copy" });
    copy.addEventListener("click", () => copyText(entry.text, copy));
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
  const none = element("p", { textContent: "Press ☆ on an answer to keep it here." });
  $("favourite-list").replaceChildren(...(entries.length ? entries : [none]));
  if (!$("favourites").open) $("favourites").showModal();
}

function applyTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  const dark = name ? name === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  $("theme").textContent = dark ? "Light" : "Dark";
  $("theme").setAttribute("aria-pressed", String(dark));
}

// --- wiring ---------------------------------------------------------------------------------

function wire() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  $("stop").addEventListener("click", stop);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
    if (event.key === "Escape" && !$("stop").hidden) stop();
  });
  $("diversity").addEventListener("input", describeDial);
  $("diversity").addEventListener("change", () => {
    $("gamma").value = "";
    if (run && $("follow").checked) ask();
  });
  $("pair").addEventListener("change", () => {
    showExamples();
    checkDial();
  });
  $("router").addEventListener("change", () => {
    describeRouter();
    checkDial();
  });
  $("key").addEventListener("change", () => {
    api.useKey($("key").value);
    start();
  });
  $("colours").addEventListener("change", () => {
    document.body.classList.toggle("plain", !$("colours").checked);
    $("legend").hidden = !$("colours").checked;
  });
  $("copy-all").addEventListener("click", () => run && copyText(markdown(run), $("copy-all")));
  $("export-md").addEventListener("click", () =>
    download("answers.md", markdown(run), "text/markdown"));
  $("export-jsonl").addEventListener("click", () =>
    download("answers.jsonl", jsonl(run), "application/jsonl"));
  $("open-history").addEventListener("click", openHistory);
  $("open-favourites").addEventListener("click", openFavourites);
  $("clear-history").addEventListener("click", () => {
    history.clear();
    $("history").close();
  });
  document.querySelectorAll("[data-close]").forEach((button) =>
    button.addEventListener("click", () => button.closest("dialog").close()));
  $("theme").addEventListener("click", () => {
    const name = $("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
    theme.set(name);
    applyTheme(name);
  });
}

async function start() {
  try {
    info = await api.get("/baco/info");
  } catch (error) {
    if (error.status === 401) $("advanced").open = true;
    $("problem").hidden = false;
    $("problem").textContent = error.message;
    return;
  }
  $("problem").hidden = true;
  $("pair").replaceChildren(...info.pairs.map((p) => new Option(p.name)));
  $("router").replaceChildren(...info.routers.map((r) => new Option(r.name)));
  $("router").value = info.default_router;
  $("n").max = Math.min(12, info.max_n);
  showExamples();
  describeRouter();
  checkDial();
}

applyTheme(theme.get());
countFavourites();
describeDial();
wire();
start();
