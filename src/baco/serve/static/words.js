// How alike answers are, by the words that carry them.

const FRAME = new Set(
  "a an and are as at be by for from go i in is it its let me my name of on one or pick so suggest that the this to try was will with would you your".split(" "),
);

export function content(text) {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*/gu) ?? [];
  return new Set(words.filter((word) => !FRAME.has(word)));
}

// Shared words / all words of two texts, from 0 to 1; words of the question do not count.
export function overlap(one, other, asked = "") {
  const skip = content(asked);
  const [a, b] = [one, other].map((t) => new Set([...content(t)].filter((w) => !skip.has(w))));
  const shared = [...a].filter((word) => b.has(word)).length;
  const all = a.size + b.size - shared;
  return all ? shared / all : 0;
}
