// The server, and the queue through which every click goes: one at a time, in order, until it is
// acknowledged. The queue also lives in localStorage, so a reload or a dead battery loses nothing
// that was clicked. Every click has its own id, so one that is sent twice counts once.

import { secret } from "./dom.js";

const token = location.hash.slice(1);
const KEY = `study-clicks-${token.slice(0, 12)}`;
const LONGEST_WAIT = 15000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function call(method, path, body, options = {}) {
  const response = await fetch(`/api/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    ...options,
  });
  if (response.status >= 500 || response.status === 429) throw new Error(`server error ${response.status}`);
  const data = await response.json();
  if (!response.ok) throw new Refused(response.status, String(data.detail ?? response.status));
  return data;
}

let memory = [];
let stored = true;

function load() {
  if (!stored) return memory;
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return memory;
  }
}

function save(clicks) {
  memory = clicks;
  try {
    localStorage.setItem(KEY, JSON.stringify(clicks));
  } catch {
    stored = false; // private mode or a full store: the queue then lives in memory only
  }
}

export const waiting = () => load().length;

let listener = () => {};
let running = null;
let wake = () => {};
addEventListener("online", () => wake());

// The listener hears ("sent", counts, click), ("waiting", n), ("saved") and ("refused", error).
export function onQueue(callback) {
  listener = callback;
}

export function enqueue(vote) {
  save([...load(), { click: secret(), ...vote }]);
  return flush();
}

export function flush() {
  running ??= pump().finally(() => { running = null; });
  return running;
}

async function pump() {
  let pause = 500;
  for (let [click] = load(); click; [click] = load()) {
    listener("waiting", waiting());
    try {
      const counts = await call("PUT", "votes", click);
      listener("sent", counts, click);
    } catch (error) {
      if (!(error instanceof Refused)) {
        listener("offline", waiting());
        await new Promise((resolve) => {
          wake = resolve;
          setTimeout(resolve, pause);
        });
        pause = Math.min(2 * pause, LONGEST_WAIT);
        continue;
      }
      listener("refused", error);
    }
    pause = 500;
    save(load().filter((other) => other.click !== click.click));
  }
  listener("saved");
}

export function dropQueue() {
  save([]);
}
