// Keys. Everything also works with Tab, arrows and space alone; these only make it faster, and
// can be turned off for screen readers that use single letters themselves.

const OFF = "study-keys-off";

export const KEYS = [
  ["1 to 5", "Step 1: rate the response in focus, or the first one without a rating"],
  ["A, B, T", "Step 2: group A, group B, or about the same, for the question in focus"],
  ["1 to 9", "Step 3: pick that response"],
  ["N, P", "Go to the next or the previous response or question"],
  ["Enter", "Continue, when the step is finished"],
  ["Shift + Enter", "Back"],
  ["Tab, arrows, space", "Work as everywhere"],
  ["?", "Show these keys"],
];

export function enabled() {
  try {
    return localStorage.getItem(OFF) !== "1";
  } catch {
    return true;
  }
}

export function enable(on) {
  try {
    localStorage.setItem(OFF, on ? "0" : "1");
  } catch {
    // Without storage the choice lasts as long as the page does not reload.
  }
}

// acts: continue(), back(), help()
export function listen(acts) {
  addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (document.getElementById("dialog").open || target.matches("textarea, input:not([type=radio])")) return;
    if (key === "Enter" && !target.matches("button, a, summary")) {
      event.preventDefault();
      if (event.shiftKey) acts.back();
      else acts.continue();
      return;
    }
    if (!enabled()) return;
    if (key === "?") acts.help();
    else if (/^[nN]$/.test(key)) move(1);
    else if (/^[pP]$/.test(key)) move(-1);
    else if (!choose(key)) return;
    event.preventDefault();
  });
}

const units = () => [...document.querySelectorAll(".unit")];

function move(by) {
  const all = units();
  const at = all.indexOf(document.activeElement?.closest(".unit"));
  focus(all[Math.min(Math.max(at + by, 0), all.length - 1)]);
}

function focus(unit) {
  if (!unit) return;
  unit.tabIndex = -1;
  unit.focus({ preventScroll: true });
  unit.scrollIntoView({ block: "nearest", behavior: "instant" });
}

function choose(key) {
  const all = units();
  if (!all.length) return false;
  const open = (unit) => !unit.querySelector("input:checked");
  if (document.querySelector(".sheet.creativity")) {
    const input = all[Number(key) - 1]?.querySelector("input");
    input?.click();
    return Boolean(input);
  }
  const value = { a: "A", b: "B", t: "tie" }[key.toLowerCase()] ?? key;
  const unit = document.activeElement?.closest(".unit") ?? all.find(open) ?? all[0];
  const input = unit.querySelector(`input[value="${CSS.escape(value)}"]`);
  if (!input) return false;
  if (!input.checked) input.click();
  const next = all.slice(all.indexOf(unit) + 1).find(open) ?? all.find(open);
  if (next) focus(next);
  else unit.focus();
  return true;
}
