// Small helpers to build elements. Texts are always set as text, never parsed as HTML.

export const $ = (id) => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.includes("-")) node[name] = value;
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

export function say(text) {
  $("live").textContent = text;
}

export function secret() {
  // getRandomValues, unlike randomUUID, also works over plain http on a local network.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let closing = null;

export function dialog(title, content, onclose = null) {
  const box = $("dialog");
  if (box.open) box.close();
  closing = onclose;
  box.replaceChildren(
    el("div", { className: "dialog-head" },
      el("h2", { id: "dialog-title" }, title),
      el("button", { type: "button", className: "quiet", onclick: () => box.close() }, "Close")),
    ...content,
  );
  box.onclose = () => closing?.();
  box.showModal();
}
