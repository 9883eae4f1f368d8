/** The conversation: turns on the page, the answer as it comes, and what can be done with them. */
import type { FiresideError } from "fireside-llm";

import { announce, byId, copy, h, icon, toast } from "./dom.js";
import { count, rate, seconds } from "./format.js";
import { MarkdownView } from "./markdown.js";
import { asError, type Session } from "./session.js";
import { loadTurns, saveTurns, type AnswerTurn, type Settings, type Stats, type Turn } from "./store.js";

/** Pixels from the end of the page within which it follows an answer. */
const NEAR = 120;

const FINISH: Record<string, string> = {
  abort: "stopped by you",
  length: "cut off at the limit of tokens",
};

function statsLine(stats: Stats): string {
  const { tokens, promptTokens, cachedTokens, firstToken, decodeRate, prefillRate, finish } = stats;
  return [
    count(tokens, "token"),
    decodeRate !== undefined && decodeRate > 0 && rate(decodeRate),
    firstToken !== undefined && `first token ${seconds(firstToken)}`,
    promptTokens !== undefined && count(promptTokens, "prompt token") + (cachedTokens ? `, ${cachedTokens.toLocaleString("en")} from cache` : ""),
    prefillRate !== undefined && prefillRate > 0 && `prefill ${rate(prefillRate)}`,
    finish !== undefined && finish !== "stop" && (FINISH[finish] ?? `ended: ${finish}`),
  ]
    .filter(Boolean)
    .join(" · ");
}

interface Hooks {
  settings: () => Settings;
  onToken: () => void;
  onError: (error: FiresideError, retry: () => void) => void;
  /** The turns have changed. */
  onChange: () => void;
  /** A message is to be written again. */
  onEdit: (text: string) => void;
}

export class Chat {
  readonly #thread = byId("thread");
  readonly #session: Session;
  readonly #hooks: Hooks;
  #turns: Turn[];

  constructor(session: Session, hooks: Hooks) {
    this.#session = session;
    this.#hooks = hooks;
    this.#turns = loadTurns();
    this.#render();
  }

  get length(): number {
    return this.#turns.length;
  }

  /** Begins anew, and gives a way back. */
  clear(): () => void {
    const before = this.#turns;
    this.#session.stop();
    this.#turns = [];
    this.#changed();
    return () => {
      this.#turns = before;
      this.#changed();
    };
  }

  /** Asks the model. */
  async send(text: string): Promise<void> {
    this.#turns.push({ role: "user", content: text });
    this.#changed();
    await this.#answer();
  }

  async #regenerate(): Promise<void> {
    if (this.#turns.at(-1)?.role === "assistant") this.#turns.pop();
    this.#changed();
    await this.#answer();
  }

  #edit(): void {
    if (this.#turns.at(-1)?.role === "assistant") this.#turns.pop();
    const last = this.#turns.pop();
    this.#changed();
    if (last) this.#hooks.onEdit(last.content);
  }

  async #answer(): Promise<void> {
    const turns = this.#turns;
    const messages = turns.map(({ role, content }) => ({ role, content }));
    const turn: AnswerTurn = { role: "assistant", content: "" };
    const label = this.#session.choice?.label;
    const view = new MarkdownView();
    const status = h("p", { class: "stats" }, "reading your message");
    const wait = h("div", { class: "wait", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    const element = h("article", { class: "turn answer", "aria-busy": "true" }, heading("Fireside"), view.element, wait, status);
    this.#thread.querySelectorAll(".turn-actions").forEach((actions) => actions.remove());
    this.#thread.append(element);
    this.#follow(true);

    const begin = performance.now();
    const stats: Stats = { tokens: 0, ...(label === undefined ? {} : { model: label }) };
    let first = 0;
    let frame = 0;
    const paint = () => {
      frame = 0;
      const follows = this.#isNearEnd();
      view.show(turn.content);
      status.textContent = statsLine(stats);
      if (follows) this.#follow();
    };
    let failure: FiresideError | undefined;
    try {
      await this.#session.answer(messages, this.#hooks.settings(), ({ text, finish, usage }) => {
        if (text !== "") {
          const now = performance.now();
          if (first === 0) {
            first = now;
            wait.remove();
            stats.firstToken = (now - begin) / 1000;
          }
          turn.content += text;
          stats.tokens++;
          if (now > first) stats.decodeRate = ((stats.tokens - 1) * 1000) / (now - first);
          this.#hooks.onToken();
          frame ||= requestAnimationFrame(paint);
        }
        if (finish) stats.finish = finish;
        if (usage) {
          stats.tokens = usage.completion_tokens;
          stats.promptTokens = usage.prompt_tokens;
          stats.cachedTokens = usage.prompt_tokens_details.cached_tokens;
          stats.firstToken = usage.extra.time_to_first_token_s;
          stats.decodeRate = usage.extra.decode_tokens_per_s;
          stats.prefillRate = usage.extra.prefill_tokens_per_s;
        }
      });
    } catch (thrown) {
      failure = asError(thrown);
    }
    cancelAnimationFrame(frame);
    // Another conversation has begun meanwhile.
    if (this.#turns !== turns) return;
    if (failure === undefined || turn.content !== "") {
      turn.stats = stats;
      turns.push(turn);
    }
    this.#changed();
    // What came of a broken answer stands there, and is made anew.
    const again = turn.content === "" ? () => void this.#answer() : () => void this.#regenerate();
    if (failure) this.#hooks.onError(failure, again);
    else announce(turn.content === "" ? "The answer is empty." : `Fireside: ${turn.content}`);
  }

  #changed(): void {
    if (!saveTurns(this.#turns)) toast("The browser has no room to keep this conversation for the next visit.");
    this.#render();
    this.#hooks.onChange();
  }

  #render(): void {
    const follows = this.#isNearEnd();
    const turns = this.#turns.map((turn, at) => {
      const isLast = at === this.#turns.length - 1;
      const isLastUser = turn.role === "user" && this.#turns.findLastIndex((one) => one.role === "user") === at;
      return turn.role === "user" ? this.#userTurn(turn.content, isLastUser) : this.#answerTurn(turn, isLast);
    });
    this.#thread.replaceChildren(...turns);
    if (follows) this.#follow();
  }

  #userTurn(content: string, isLast: boolean): HTMLElement {
    const edit = isLast && this.#action("edit", "Edit", () => this.#edit());
    return h(
      "article",
      { class: "turn user" },
      heading("You"),
      h("p", { class: "bubble" }, content),
      edit && h("div", { class: "turn-actions" }, edit),
    );
  }

  #answerTurn(turn: AnswerTurn, isLast: boolean): HTMLElement {
    const view = new MarkdownView();
    view.show(turn.content);
    const copying = this.#action("copy", "Copy", () => void copy(turn.content, copying));
    const redo = isLast && this.#action("redo", "Regenerate", () => void this.#regenerate());
    return h(
      "article",
      { class: "turn answer" },
      heading("Fireside"),
      turn.content === "" ? h("p", { class: "empty" }, "The model had nothing to say.") : view.element,
      h("p", { class: "stats" }, turn.stats ? statsLine(turn.stats) : ""),
      h("div", { class: "turn-actions" }, copying, redo),
    );
  }

  /** A button that does nothing while an answer or a model is on its way. */
  #action(name: "copy" | "redo" | "edit", label: string, run: () => void): HTMLButtonElement {
    const onclick = () => {
      if (name === "copy" || this.#session.status === "ready" || (name === "edit" && this.#session.status === "empty")) run();
    };
    return h("button", { type: "button", class: "text-button", onclick }, icon(name), label);
  }

  #isNearEnd(): boolean {
    const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
    return scrollHeight - clientHeight - scrollTop < NEAR;
  }

  #follow(smooth = false): void {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    scrollTo({ top: document.documentElement.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
  }
}

function heading(name: string): HTMLElement {
  return h("h2", { class: "visually-hidden" }, name);
}
