// Puts the pieces together: which view is shown, progress, saving, going back and forth.

import { Refused, call, enqueue, flush, onQueue, waiting } from "./api.js";
import * as clock from "./clock.js";
import { commentBox, flushComment } from "./comment.js";
import { showData, showHelp, showList } from "./data.js";
import { $, el, say } from "./dom.js";
import { introduction } from "./intro.js";
import { listen } from "./keys.js";
import { STEPS, Sheet } from "./sheet.js";

const ENOUGH_TO_GUESS = 3 * 60000; // active time before the rest is estimated

let me = null;
let sheet = null;

// -- frame --------------------------------------------------------------------------------------

function show(view, { frame = true } = {}) {
  $("top").hidden = !frame;
  $("foot").hidden = !sheet;
  $("main").replaceChildren(view);
  scrollTo(0, 0);
}

function message(title, text) {
  sheet = null;
  show(el("div", { className: "centre" }, el("h1", {}, title), el("p", { className: "soft" }, text)),
    { frame: false });
  document.title = title;
}

const total = (counts) => STEPS.reduce((sum, step) => sum + counts[step], 0);
const share = () => {
  const done = me.screens.reduce((sum, screen) => sum + total(screen.done), 0);
  return done / me.screens.reduce((sum, screen) => sum + total(screen.needed), 0);
};

function frame() {
  const done = share();
  const per = Math.floor(100 * done);
  const spent = me.active_ms + clock.current();
  $("title").textContent = me.title;
  const left = spent > ENOUGH_TO_GUESS && done > 0 && done < 1 ? `, about ${clock.minutes(spent / done - spent)} left` : "";
  $("where").textContent = (sheet ? `Prompt ${sheet.data.number} of ${me.screens.length} · ` : "")
    + `${per}% done · ${clock.minutes(spent)} spent${left}`;
  $("bar").setAttribute("aria-valuenow", per);
  $("bar-fill").style.width = `${100 * done}%`;
}

function saved(state, count = 0) {
  $("saved").dataset.state = state;
  $("saved-text").textContent = {
    saved: "Saved", waiting: "Saving …",
    offline: `No connection: ${count} ${count === 1 ? "click" : "clicks"} kept here, sent later`,
  }[state];
}

onQueue((what, detail, click) => {
  if (what === "sent") {
    const screen = me?.screens[click.screen - 1];
    if (screen) Object.assign(screen, detail);
    if (me) frame();
  } else if (what === "refused") {
    if (detail.status === 401) invalid();
    else openScreen(sheet?.data.number).then(() => say(detail.message));
  } else {
    saved(what, detail);
  }
});

addEventListener("beforeunload", (event) => {
  if (waiting()) event.preventDefault();
});

// -- views --------------------------------------------------------------------------------------

function invalid() {
  message("This link is not valid", "Please use the whole personal link that you were given.");
}

async function boot() {
  if (location.hash.length < 20) return invalid();
  try {
    me = await call("GET", "me");
    if (me.accepted && waiting()) {
      await flush();
      me = await call("GET", "me");
    }
  } catch (error) {
    if (error instanceof Refused) return invalid();
    message("No connection", "The study cannot be reached. This page tries again by itself.");
    setTimeout(boot, 3000);
    return undefined;
  }
  document.title = me.title;
  return me.accepted ? next() : intro();
}

function intro() {
  sheet = null;
  show(introduction(me, async () => {
    try {
      await call("POST", "consent", { read: true, consent: true });
      me.accepted = true;
      await next();
    } catch (error) {
      say(`Please try again: ${error.message}`);
    }
  }), { frame: false });
}

function next() {
  const open = me.screens.find((screen) => total(screen.done) < total(screen.needed));
  return open ? openScreen(open.number) : end();
}

async function openScreen(number) {
  await flushComment();
  if (!number) return next();
  await flush();
  const data = await call("GET", `screens/${number}`);
  if (sheet) me.active_ms += clock.current();
  sheet = new Sheet(data, me.protocol, (question, item, value) => {
    foot();
    enqueue({ screen: number, question, item, value }).then(clock.report);
  });
  clock.start(number);
  return draw();
}

function draw({ focus = true } = {}) {
  const { number, comment } = sheet.data;
  const view = sheet.render();
  view.append(commentBox(number, comment, "Comment on this prompt (optional)",
    (text) => { sheet.data.comment = text; }));
  show(view);
  foot();
  frame();
  document.title = `Prompt ${number}, step ${STEPS.indexOf(sheet.step) + 1}: ${me.title}`;
  if (focus) $("ask").focus({ preventScroll: true });
}

function foot() {
  const at = STEPS.indexOf(sheet.step);
  const { needed } = sheet.data;
  const ready = sheet.complete(sheet.step);
  const first = at === 0 && sheet.data.number === 1;
  const label = at < 2 ? "Continue" : sheet.data.number < me.screens.length ? "Next prompt" : "Finish";
  const back = el("button", { type: "button", className: "plain", id: "back", disabled: first, onclick: goBack }, "Back");
  const go = el("button", { type: "button", className: "main", id: "continue", disabled: !ready, onclick: goOn }, label);
  const steps = el("ol", { className: "steps", "aria-label": "Steps" }, ...STEPS.map((step, index) => {
    const done = Math.min(sheet.answered(step), needed[step]);
    const state = sheet.complete(step) ? "finished" : index === at ? "open" : "later";
    return el("li", { className: state, "aria-current": index === at ? "step" : null },
      el("span", { className: "step-name" }, step[0].toUpperCase() + step.slice(1)),
      el("span", { className: "step-count" }, `${done}/${needed[step]}`));
  }));
  const active = document.activeElement?.id;
  $("foot").replaceChildren(back, steps, go);
  if (active === "continue" || active === "back") $(active).focus();
}

let moving = false;

// One move at a time: an impatient second press must not skip a step.
async function moveTo(change) {
  if (!sheet || moving) return;
  moving = true;
  try {
    await change();
  } catch (error) {
    say(`Please try again: ${error.message}`);
    saved("offline", waiting());
  } finally {
    moving = false;
  }
}

function goOn() {
  return moveTo(async () => {
    if (!sheet.complete(sheet.step)) {
      say("This step is not finished yet.");
      return;
    }
    const at = STEPS.indexOf(sheet.step);
    if (at < 2) {
      await flushComment();
      await flush();
      sheet.data.groups = (await call("GET", `screens/${sheet.data.number}`)).groups;
      sheet.step = STEPS[at + 1];
      draw();
    } else {
      await flush();
      clock.report();
      const after = me.screens[sheet.data.number];
      const open = after && total(after.done) < total(after.needed);
      await (open ? openScreen(after.number) : next());
    }
  });
}

function goBack() {
  return moveTo(async () => {
    const at = STEPS.indexOf(sheet.step);
    if (at > 0) {
      await flushComment();
      sheet.step = STEPS[at - 1];
      draw();
    } else if (sheet.data.number > 1) {
      await openScreen(sheet.data.number - 1);
      sheet.step = STEPS.findLast((step) => sheet.complete(step)) ?? STEPS[0];
      draw();
    }
  });
}

async function end() {
  await flushComment();
  clock.report();
  if (sheet) me.active_ms += clock.current();
  sheet = null;
  clock.start(0);
  show(el("article", { className: "text" },
    el("h1", { id: "ask", tabindex: "-1" }, "Thank you. You have finished."),
    el("p", {}, "All your answers are saved. You can close this page, or go back to any prompt "
      + "with “All prompts” and change an answer."),
    commentBox(0, me.comment, "Comment on the study as a whole (optional)",
      (text) => { me.comment = text; })));
  frame();
  $("ask").focus({ preventScroll: true });
}

$("open-help").addEventListener("click", () => showHelp(me.protocol));
$("open-list").addEventListener("click", () => showList(me, (number) => moveAnywhere(number)));
$("open-data").addEventListener("click", () => showData(() => message(
  "Your data has been deleted", "Nothing about you is stored any more. Thank you for your time.")));

function moveAnywhere(number) {
  openScreen(number).catch((error) => say(`Please try again: ${error.message}`));
}

listen({ continue: goOn, back: goBack, help: () => showHelp(me.protocol) });
addEventListener("hashchange", () => location.reload());
boot();
