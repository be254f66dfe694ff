// Shows Markdown without ever making markup of text: every node is built, every word is a text node.

const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\n]+\*)|(_[^_\n]+_)/;

function inline(text) {
  const out = [];
  for (let rest = text; rest; ) {
    const found = INLINE.exec(rest);
    if (!found) {
      out.push(rest);
      break;
    }
    out.push(rest.slice(0, found.index));
    const [whole, code, bold] = found;
    const node = document.createElement(code ? "code" : bold ? "strong" : "em");
    node.textContent = bold ? whole.slice(2, -2) : whole.slice(1, -1);
    out.push(node);
    rest = rest.slice(found.index + whole.length);
  }
  return out;
}

function block(tag, ...children) {
  const node = document.createElement(tag);
  node.append(...children);
  return node;
}

// Returns nodes: headings, lists, code blocks, paragraphs. Links and pictures stay text.
export function render(text) {
  const out = document.createDocumentFragment();
  let list = null;
  let code = null;
  let lines = [];
  const flush = () => {
    if (lines.length) out.append(block("p", ...inline(lines.join("\n"))));
    lines = [];
  };
  for (const line of text.trim().split("\n")) {
    if (code) {
      if (line.startsWith("```")) code = null;
      else code.append(`${line}\n`);
      continue;
    }
    const item = /^\s*(?:[-*+]|(\d+)[.)])\s+(.*)$/.exec(line);
    const heading = /^#{1,6}\s+(.*)$/.exec(line);
    if (!item) list = null;
    if (line.startsWith("```")) {
      flush();
      code = block("code");
      out.append(block("pre", code));
    } else if (item) {
      flush();
      const tag = item[1] ? "OL" : "UL";
      if (list?.tagName !== tag) out.append((list = block(tag)));
      list.append(block("li", ...inline(item[2])));
    } else if (heading) {
      flush();
      out.append(block("p", block("strong", ...inline(heading[1]))));
    } else if (line.trim()) {
      lines.push(line);
    } else {
      flush();
    }
  }
  flush();
  return out;
}
