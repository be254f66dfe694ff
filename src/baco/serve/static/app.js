// The playground: reads the form, asks the server, shows what comes.

import * as api from "./api.js";
import { openFavourites, openHistory, showProjects, wireShelves } from "./shelves.js";
import { download, history, jsonl, markdown, theme } from "./store.js";
import {
  $, addTokens, chooseWord, copyText, countFavourites, drawCard, drawLane, editCard, element,
  finishCard, fold, showFigures, showText, showVerdict,
} from "./view.js";
import {
  MOST, addAnswers, fill, keepLike, newLane, newSeed, packed, sort, unpacked,
} from "./writing.js";

const STEPS = [
  [0, "As careful as can be: the trained assistant alone"],
  [0.001, "Careful: a different word here and there"],
  [0.2, "Balanced: varied, and still sensible"],
  [0.45, "Adventurous: really different answers"],
  [0.7, "Wild: expect surprises, and some nonsense"],
  [0.99, "All the freedom there is"],
];
const FAMILIES = { doubt: "Doubt", meaning: "Meaning", chance: "Chance" };

let info;
let run = null; // what is on the page
let turns = []; // the talk before the next question
let abort = null;
let asked = 0; // number of the newest work, so that late news of older work are dropped
let guess = null; // thresholds by place of the slider, where the pair is not calibrated yet

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
  const same = () => pair === $("pair").value && router === $("router").value;
  const note = $("dial-note");
  try {
    let state = await api.get(`/baco/calibration?${new URLSearchParams({ pair, router })}`);
    if (!same()) return;
    guess = state.ready ? null : (guess ?? info.routers.find((r) => r.name === router).prior);
    if (!state.ready && !state.running) state = await api.post("/baco/calibration", { pair, router });
    if (!same()) return;
    $("diversity").style.setProperty("--reach", state.ready ? state.reach.high : 1);
    if (!state.ready) {
      const done = Math.round((state.done ?? 0) * 100);
      note.textContent = `A first guess for these models; it is being measured meanwhile, ${done} % done.`;
      setTimeout(() => same() && checkDial(), 1500);
      return;
    }
    guess = null;
    note.textContent =
      state.reach.high < 0.95
        ? `Beyond ${state.reach.high.toFixed(2)} nothing changes any more: this is as free as it gets.`
        : "";
  } catch {
    if (same()) note.textContent = guess ? "A first guess for these models." : "";
  }
}

// Answers written on the guess tell what share it gave: the guess is bent to go through that.
function refine(at, share) {
  if (!guess || at <= 0 || at >= 1 || share < 0.02 || share > 0.98) return;
  const last = guess.length - 1;
  const before = (x) => (x <= share ? (x * at) / share : at + ((x - share) * (1 - at)) / (1 - share));
  guess = guess.map((_, i) => guess[Math.round(before(i / last) * last)]);
}

function changeDial() {
  guess = null;
  checkDial();
}

function describeRouter() {
  const router = info.routers.find((r) => r.name === $("router").value);
  $("family").value = router.family;
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

function showTurns() {
  $("talk").hidden = !turns.length;
  $("turns").replaceChildren(
    ...turns.map(({ role, content }) =>
      element("li", {}, element("b", { textContent: role === "user" ? "You: " : "Answer: " }), content.trim()),
    ),
  );
}

// What the form says, as history keeps it.
function form() {
  const diversity = Number($("diversity").value);
  const between = guess && diversity > 0 && diversity < 1;
  const gamma = number("gamma") ?? (between ? guess[Math.round(diversity * (guess.length - 1))] : undefined);
  return {
    pair: $("pair").value, router: $("router").value, n: wanted(), seed: number("seed"),
    diversity, gamma, exact: number("gamma") !== undefined,
  };
}

function wanted() {
  return Math.max(1, Math.min(number("n") || 6, MOST, info.max_n));
}

function body(method, n, seed, prefix = "") {
  const set = form();
  const messages = [...run.turns, { role: "user", content: run.prompt }];
  if (run.system) messages.unshift({ role: "system", content: run.system });
  if (prefix) messages.push({ role: "assistant", content: prefix });
  const out = {
    model: set.pair, messages, n, seed,
    temperature: number("temperature"), top_p: number("top_p"), max_tokens: number("max_tokens"),
  };
  if (method !== "baco") return { ...out, method };
  out.router = set.router;
  if (set.gamma === undefined) out.diversity = set.diversity;
  else out.gamma = set.gamma;
  return out;
}

// --- asking ---------------------------------------------------------------------------------

async function ask() {
  const prompt = $("prompt").value.trim();
  if (!prompt || !info) {
    $("prompt").focus();
    return;
  }
  if (!$("lock").checked) $("seed").value = newSeed();
  const methods = $("compare").checked ? ["baco", "aligned", "base"] : ["baco"];
  run = {
    prompt, turns: [...turns], system: $("system").value.trim(), form: form(),
    when: new Date().toISOString(), lanes: methods.map(newLane), batches: [],
  };
  show();
  $("note").hidden = true;
  await write(run.lanes.map((lane) => batch(lane, wanted(), number("seed"))));
  const [{ answers }] = run.lanes;
  if (!run.form.exact && run.form.gamma !== undefined && answers.length && answers.every((a) => a.finish))
    refine(run.form.diversity, answers.reduce((sum, a) => sum + a.share, 0) / answers.length);
}

// Draws the run as it is.
function show() {
  $("lanes").replaceChildren();
  showFigures([]);
  run.lanes.forEach((lane) => {
    drawLane(lane);
    lane.answers.forEach((a) => drawCard(a, run, does(lane)));
    fold(lane);
    lane.answers.forEach(showVerdict);
  });
  $("results").hidden = false;
}

function batch(lane, n, seed, prefix = "") {
  const answers = addAnswers(lane, n, prefix);
  answers.forEach((a) => drawCard(a, run, does(lane)));
  fold(lane);
  return { lane, answers, request: body(lane.method, n, seed, prefix) };
}

// Asks for batches of answers, and shows what comes.
async function write(batches, ready = () => {}) {
  abort?.abort();
  abort = new AbortController();
  const mine = ++asked;
  run.batches = batches;
  run.ready = ready;
  $("problem").hidden = true;
  $("stop").disabled = false;
  tell();
  const hears = {
    reset(answer) {
      Object.assign(answer, { text: "", tokens: [], sources: [] });
      answer.card.setAttribute("aria-busy", "true");
      showText(answer);
      if (answer.prefix) addTokens(answer, [answer.prefix], ["yours"]);
    },
    about(about) {
      if (mine !== asked || !about.note) return;
      $("note").hidden = false;
      $("note").textContent = `${about.note[0].toUpperCase()}${about.note.slice(1)}.`;
    },
    tokens: (answer, tokens, sources) => mine === asked && addTokens(answer, tokens, sources),
    finished(answer) {
      if (mine !== asked) return;
      finishCard(answer);
      tell();
    },
  };
  try {
    await Promise.all(batches.map((one) => fill(one, abort.signal, hears)));
    if (mine !== asked) return;
    ready();
    remember();
    await Promise.all(run.lanes.map((lane) => compare(lane, mine)));
    remember();
  } catch (error) {
    if (mine !== asked) return;
    abort.abort();
    if (error.name !== "AbortError") showProblem(error, mine);
  } finally {
    if (mine === asked) {
      $("stop").disabled = true;
      if ($("problem").hidden) tell();
      else $("status").textContent = "";
      document.querySelectorAll("[aria-busy=true]").forEach((c) => c.setAttribute("aria-busy", "false"));
    }
  }
}

// Folds what is alike or broken, and shows how different and how good the first lane's answers are.
async function compare(lane, mine) {
  const ready = lane.answers.filter((a) => a.finish && a.finish !== "content_filter");
  if (!ready.length) return;
  let said;
  try {
    said = await api.post("/baco/diversity", {
      texts: ready.map((a) => a.text), prompt: run.prompt, meaning: true, pair: run.form.pair,
      ...(run.turns.length ? { messages: [...run.turns, { role: "user", content: run.prompt }] } : {}),
    });
  } catch {
    return; // the answers are there; how different they are is told another time
  }
  if (mine !== asked) return;
  sort(lane, said, ready, run.prompt);
  fold(lane);
  lane.answers.forEach(showVerdict);
  if (lane === run.lanes[0]) showFigures(figures(said, lane));
}

// Diversity counts only what is not broken, so that nonsense does not win; quality stands beside it.
function figures(said, lane) {
  const [count, ...others] = said.figures;
  if (!count) return said.quality ? [said.quality] : [];
  const sound = lane.answers.filter((a) => a.finish && a.why?.kind !== "broken");
  const good = said.quality?.of ? sound.filter((a) => a.verdict === "right") : sound;
  const groups = new Set(good.map((a) => said.groups[lane.answers.filter((x) => x.finish && x.finish !== "content_filter").indexOf(a)]));
  const name = said.quality?.of ? "Different and right" : "Different answers";
  const about = "Answers that share most of their words count as one; broken ones do not count.";
  return [{ ...count, name, about, value: groups.size }, ...(said.quality ? [said.quality] : []), ...others];
}

function tell() {
  const answers = run.lanes.flatMap((lane) => lane.answers);
  const done = answers.filter((a) => a.finish).length;
  const about = run.lanes[0].answers.find((a) => a.about.base_share !== undefined)?.about;
  let words = done < answers.length ? `Writing: ${done} of ${answers.length} answers are ready.` : "";
  if (done === answers.length) {
    words = `All ${done} answers are ready.`;
    if (about) {
      const first = run.lanes[0].answers;
      const share = first.reduce((sum, a) => sum + a.share, 0) / first.length;
      words += ` The free model wrote ${Math.round(share * 100)} % of the words`;
      words += run.lanes.length > 1 ? " where both worked together." : ".";
    }
  }
  $("status").textContent = words;
  $("more").disabled = run.lanes[0].answers.length >= MOST;
}

// --- when something goes wrong --------------------------------------------------------------

function showProblem(error, mine) {
  $("problem").hidden = false;
  const lost = error instanceof api.Lost;
  const wait = lost ? 0 : error.after;
  $("resume").hidden = !lost;
  $("problem-words").textContent = lost
    ? "The server does not answer any more. What was written is still here; the rest is written when it is back."
    : error.message + (wait ? ` Trying again in ${wait} s.` : "");
  if (wait) setTimeout(() => mine === asked && resume(), wait * 1000);
  if (lost) watch(mine);
}

// Waits for the server to come back, and goes on.
async function watch(mine) {
  while (mine === asked) {
    await new Promise((done) => setTimeout(done, 1500));
    if (mine === asked && (await api.well())) return resume();
  }
}

function resume() {
  if (run) write(run.batches, run.ready);
}

function stop() {
  asked += 1;
  abort?.abort();
  $("stop").disabled = true;
  $("problem").hidden = true;
  for (const lane of run?.lanes ?? []) {
    lane.answers.filter((a) => !a.finish && a.text === a.prefix).forEach((a) => a.card.remove());
    lane.answers = lane.answers.filter((a) => a.finish || a.text !== a.prefix);
    lane.answers.filter((a) => !a.finish).forEach((a) => {
      a.finish = "stopped";
      finishCard(a);
    });
    fold(lane);
  }
  if (run) remember();
  $("status").textContent = "Stopped.";
}

// --- what a card can do ---------------------------------------------------------------------

function room(lane) {
  return Math.max(0, MOST - lane.answers.length);
}

function more(n = wanted()) {
  if (!run) return;
  const lane = run.lanes[0];
  if (room(lane)) write([batch(lane, Math.min(n, room(lane)), newSeed())]);
}

function does(lane) {
  return {
    edit: (answer) =>
      editCard(answer, (text) => {
        Object.assign(answer, { text, tokens: [text], sources: ["yours"], edited: true, why: null, verdict: null });
        finishCard(answer);
        fold(lane);
        showVerdict(answer);
        remember();
      }),
    continue: (answer) =>
      chooseWord(answer, (prefix) => {
        const n = Math.min(wanted(), room(lane));
        if (n) write([batch(lane, n, newSeed(), prefix)]).then(() => lane.answers.at(-n)?.card.focus());
      }),
    like: (answer) => {
      const keep = Math.min(wanted(), room(lane));
      const drawn = Math.min(2 * keep, room(lane));
      if (!drawn) return;
      const made = batch(lane, drawn, newSeed());
      write([made], () => keepLike(answer.text, made.answers, keep, run.prompt));
    },
    unlike: async (answer) => {
      lane.unlike.push(answer.text);
      answer.card.querySelector(".unlike").blur();
      $("status").textContent = "Folded, and so is what is drawn next and shares most words with it.";
      await compare(lane, asked);
      remember();
    },
    reply: (answer) => {
      turns = [...run.turns, { role: "user", content: run.prompt }, { role: "assistant", content: answer.text }];
      showTurns();
      $("prompt").value = "";
      $("prompt").focus();
    },
  };
}

// --- history --------------------------------------------------------------------------------

function remember() {
  history.put(packed(run));
}

// Shows again what was written then; nothing is asked.
function reopen(entry) {
  asked += 1;
  abort?.abort();
  $("stop").disabled = true;
  $("problem").hidden = true;
  run = unpacked(entry);
  turns = run.turns;
  showTurns();
  $("prompt").value = run.prompt;
  $("system").value = run.system;
  const set = run.form;
  const has = (id, value) => [...$(id).options].some((o) => o.value === value);
  if (has("pair", set.pair)) $("pair").value = set.pair;
  if (has("router", set.router)) $("router").value = set.router;
  if (typeof set.diversity === "number") $("diversity").value = set.diversity;
  if (set.n) $("n").value = set.n;
  $("seed").value = set.seed ?? "";
  run.form.pair ??= $("pair").value;
  describeDial();
  describeRouter();
  checkDial();
  show();
  tell();
  run.lanes.forEach((lane) => compare(lane, asked));
}

// --- light and dark -------------------------------------------------------------------------

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
  $("resume").addEventListener("click", resume);
  $("more").addEventListener("click", () => more());
  $("new-talk").addEventListener("click", () => {
    turns = [];
    showTurns();
    $("prompt").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
    if (event.key === "Escape" && !$("stop").disabled) stop();
  });
  $("diversity").addEventListener("input", describeDial);
  $("diversity").addEventListener("change", () => {
    $("gamma").value = "";
    if (run && $("follow").checked) ask();
  });
  $("pair").addEventListener("change", () => {
    showExamples();
    changeDial();
  });
  $("router").addEventListener("change", () => {
    describeRouter();
    changeDial();
  });
  $("family").addEventListener("change", () => {
    const names = info.routers.filter((r) => r.family === $("family").value).map((r) => r.name);
    $("router").value = names.includes(info.default_router) ? info.default_router : names[0];
    describeRouter();
    changeDial();
  });
  $("key").addEventListener("change", () => {
    api.useKey($("key").value);
    start();
  });
  $("colours").addEventListener("change", () => {
    document.body.classList.toggle("plain", !$("colours").checked);
    $("legend").hidden = !$("colours").checked;
  });
  $("formatted").addEventListener("change", () =>
    run?.lanes.forEach((lane) => lane.answers.forEach(showText)));
  $("copy-all").addEventListener("click", () => run && copyText(markdown(run), $("copy-all")));
  $("export-md").addEventListener("click", () =>
    download("answers.md", markdown(run), "text/markdown"));
  $("export-jsonl").addEventListener("click", () =>
    download("answers.jsonl", jsonl(run), "application/jsonl"));
  $("open-history").addEventListener("click", () => openHistory(reopen));
  $("open-favourites").addEventListener("click", openFavourites);
  wireShelves(() => {
    countFavourites();
    run?.lanes.forEach((lane) => lane.answers.forEach((a) => a.finish && finishCard(a)));
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
    $("problem-words").textContent =
      error.status ? error.message : "The server does not answer. Is it running? This page tries again.";
    if (!error.status) setTimeout(start, 2000);
    return;
  }
  $("problem").hidden = true;
  $("pair").replaceChildren(...info.pairs.map((p) => new Option(p.name)));
  $("router").replaceChildren(
    ...Object.entries(FAMILIES).map(([family, label]) =>
      element("optgroup", { label }, ...info.routers.filter((r) => r.family === family).map((r) => new Option(r.name)))),
  );
  $("router").value = info.default_router;
  $("n").max = Math.min(MOST, info.max_n);
  showExamples();
  describeRouter();
  checkDial();
}

applyTheme(theme.get());
showProjects();
countFavourites();
describeDial();
wire();
start();
