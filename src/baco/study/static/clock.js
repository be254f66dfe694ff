// Active time on a screen: the time between signs of life, each gap counted up to a minute.

import { call } from "./api.js";
import { secret } from "./dom.js";

const LONGEST_GAP = 60000;
let visit = null;

function tick() {
  if (!visit || document.visibilityState !== "visible") return;
  const now = Date.now();
  visit.active_ms += Math.min(Math.max(now - visit.last, 0), LONGEST_GAP);
  visit.last = now;
}

for (const sign of ["pointerdown", "pointermove", "keydown", "scroll", "touchstart"]) {
  addEventListener(sign, tick, { passive: true });
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") report();
  else if (visit) visit.last = Date.now();
});

export function start(screen) {
  report();
  visit = { visit: secret(), screen, active_ms: 0, last: Date.now(), sent: 0 };
}

export function report() {
  tick();
  if (!visit || visit.active_ms === visit.sent) return;
  visit.sent = visit.active_ms;
  const { last, sent, ...body } = visit;
  body.active_ms = Math.round(body.active_ms);
  call("PUT", "visits", body, { keepalive: true }).catch(() => {
    // The next report carries the whole time of the visit again.
  });
}

export function minutes(ms) {
  const whole = Math.round(ms / 60000);
  if (whole < 1) return "under 1 min";
  return whole < 60 ? `${whole} min` : `${Math.floor(whole / 60)} h ${whole % 60} min`;
}

export const current = () => visit?.active_ms ?? 0;
