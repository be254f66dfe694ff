// Talks to the server: JSON requests, and answers that stream.

let key = "";

export function useKey(value) {
  key = value;
}

function headers() {
  const out = { "Content-Type": "application/json" };
  if (key) out.Authorization = `Bearer ${key}`;
  return out;
}

async function refused(response) {
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not an answer of this server; the status has to do.
  }
  const error = new Error(message);
  error.status = response.status;
  error.after = Number(response.headers.get("Retry-After")) || 0;
  return error;
}

// Whether the server is there and takes requests.
export async function well() {
  try {
    return (await fetch("/health", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

export async function get(path) {
  const response = await reach(path, { headers: headers() });
  if (!response.ok) throw await refused(response);
  return response.json();
}

export async function post(path, body, signal) {
  const response = await reach(path, {
    method: "POST",
    headers: headers(),
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw await refused(response);
  return response.json();
}

// The server went away, or the line to it did.
export class Lost extends Error {}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Lost();
  }
}

// Calls `take` with every chunk of a streamed answer.
export async function stream(body, signal, take) {
  const response = await reach("/v1/chat/completions", {
    method: "POST",
    headers: headers(),
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!response.ok) throw await refused(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Lost();
    }
    const { done, value } = part;
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      take(chunk);
    }
  }
}
