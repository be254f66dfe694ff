// One prompt: rate each response, compare the groups, pick the most creative response.

import { el, say } from "./dom.js";

export const STEPS = ["quality", "diversity", "creativity"];
const ASPECTS = ["overall", "format", "content"];

export class Sheet {
  // data: the server's answer for this screen; vote(question, item, value): sends a click.
  constructor(data, protocol, vote) {
    this.data = data;
    this.protocol = protocol;
    this.send = vote;
    this.answers = new Map(data.votes.map((v) => [`${v.question}/${v.item}`, v.value]));
    this.step = STEPS.find((step) => !this.complete(step)) ?? STEPS[0];
  }

  answered(step) {
    const names = step === "diversity" ? ASPECTS : [step];
    return [...this.answers.keys()].filter((key) => names.includes(key.split("/")[0])).length;
  }

  complete(step) {
    return this.answered(step) >= this.data.needed[step];
  }

  get done() {
    return STEPS.every((step) => this.complete(step));
  }

  vote(question, item, value, spoken) {
    this.answers.set(`${question}/${item}`, value);
    say(spoken);
    this.send(question, item, value);
  }

  render() {
    const wording = this.protocol.wording;
    const step = STEPS.indexOf(this.step);
    const name = this.step === "diversity" ? "Diversity" : wording[this.step].title;
    const ask = this.step === "diversity" ? "Which group has more variety?" : wording[this.step].ask;
    const help = this.step === "diversity"
      ? "Compare what is inside group A with what is inside group B. Variety only, not quality."
      : wording[this.step].help;
    return el("div", { className: `sheet ${this.step}` },
      el("section", { className: "prompt", "aria-label": "Prompt" },
        el("p", { className: "eyebrow" }, "Prompt"),
        el("p", { className: "prompt-text", id: "prompt" }, this.data.prompt)),
      el("div", { className: "ask" },
        el("p", { className: "eyebrow" }, `Step ${step + 1} of 3: ${name}`),
        el("h1", { id: "ask", tabindex: "-1" }, ask),
        el("p", { className: "soft" }, help)),
      this[this.step]());
  }

  // -- the three steps ------------------------------------------------------------------------

  quality() {
    return el("div", { className: "cards" }, ...this.data.responses.map((text, at) =>
      this.card(at, text, this.choices("quality", at + 1, `Rating of response ${at + 1}`,
        Object.entries(this.protocol.scale).map(([value, label]) => ({
          value: Number(value), short: value, long: label, name: `${value}, ${label}`,
        }))))));
  }

  diversity() {
    return el("div", {}, ...this.data.groups.map((groups, at) => this.pair(groups, at + 1)));
  }

  pair(groups, item) {
    const several = this.data.groups.length > 1;
    const options = [
      { value: "A", short: "A", long: "Group A", name: "Group A", tone: "a" },
      ...(this.protocol.ties
        ? [{ value: "tie", short: "=", long: "About the same", name: "About the same" }] : []),
      { value: "B", short: "B", long: "Group B", name: "Group B", tone: "b" },
    ];
    return el("section", { className: "pair" },
      several && el("h2", {}, `Comparison ${item} of ${this.data.groups.length}`),
      el("div", { className: "sides" }, ...["A", "B"].map((side) =>
        el("section", { className: `side side-${side.toLowerCase()}`, "aria-label": `Group ${side}` },
          el("h2", {}, el("span", { className: "badge" }, side), `Group ${side}`),
          ...groups[side].map((position) => el("div", { className: "reply" },
            el("h3", {}, `Response ${position}`),
            reading(this.data.responses[position - 1])))))),
      el("div", { className: "questions" }, ...ASPECTS.map((aspect) => {
        const { title, ask, help } = this.protocol.wording[aspect];
        return el("div", { className: "question unit", "data-key": `${aspect}/${item}` },
          el("div", { className: "question-text" },
            el("p", { className: "eyebrow" }, title),
            el("p", { className: "strong" }, ask),
            el("p", { className: "soft" }, help)),
          this.choices(aspect, item, several ? `${title}, comparison ${item}: ${ask}` : `${title}: ${ask}`,
            options));
      })));
  }

  creativity() {
    return el("div", {
      className: "cards", role: "radiogroup", "aria-label": this.protocol.wording.creativity.ask,
    }, ...this.data.responses.map((text, at) => {
      const picked = this.answers.get("creativity/1") === at + 1;
      return this.card(at, text, el("label", { className: "pick" },
        el("input", {
          type: "radio", name: "creativity/1", value: at + 1, checked: picked,
          "aria-label": `Response ${at + 1} is the most creative`,
          onchange: () => this.vote("creativity", 1, at + 1, `Response ${at + 1} is the most creative.`),
        }),
        el("span", {}, "Most creative")));
    }));
  }

  // -- parts ----------------------------------------------------------------------------------

  card(at, text, answer) {
    const id = `response-${at + 1}`;
    return el("article", {
      className: "card unit", tabindex: "-1", "aria-labelledby": id, "data-key": `${this.step}/${at + 1}`,
    },
    el("h2", { id }, `Response ${at + 1}`), reading(text), answer);
  }

  choices(question, item, legend, options) {
    const key = `${question}/${item}`;
    return el("fieldset", { className: `choices ${question === "quality" ? "scale" : "versus"}` },
      el("legend", { className: "hidden" }, legend),
      ...options.map(({ value, short, long, name, tone }) =>
        el("label", { className: `choice ${tone ?? ""}` },
          el("input", {
            type: "radio", name: key, value, checked: this.answers.get(key) === value, "aria-label": name,
            onchange: () => this.vote(question, item, value, `${legend}: ${name}.`),
          }),
          el("span", { className: "short", "aria-hidden": "true" }, short),
          el("span", { className: "long", "aria-hidden": "true" }, long))));
  }
}

function reading(text) {
  return text.trim()
    ? el("div", { className: "reading" }, text)
    : el("div", { className: "reading soft" }, "(This response is empty.)");
}
