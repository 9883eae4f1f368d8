/** Errors as a person can use them: what happened, the code, and what to do. */
import type { FiresideError } from "fireside-llm";

import { adviceFor, type Remedy } from "./advice.js";
import { byId, copy, h, icon } from "./dom.js";

/** What the page does for each remedy. */
export type Remedies = Record<Exclude<Remedy, "retry">, { label: string; run: () => void }>;

export class Notices {
  readonly #place = byId("notices");
  readonly #remedies: Remedies;

  constructor(remedies: Remedies) {
    this.#remedies = remedies;
  }

  clear(): void {
    this.#place.replaceChildren();
  }

  /** Shows an error until the next thing is done. */
  show(error: FiresideError, retry?: () => void): void {
    const { title, next, remedies } = adviceFor(error);
    const actions = remedies.flatMap((remedy) => {
      if (remedy === "retry") return retry ? [{ label: "Try again", run: retry }] : [];
      return [this.#remedies[remedy]];
    });
    const buttons = actions.map(({ label, run }, at) => {
      const onclick = () => {
        this.clear();
        run();
      };
      return h("button", { type: "button", class: at === 0 ? "button primary" : "button", onclick }, label);
    });
    const details = JSON.stringify(
      { code: error.code, message: error.message, param: error.param, version: __FIRESIDE_VERSION__, browser: navigator.userAgent },
      null,
      2,
    );
    const copying = h("button", { type: "button", class: "text-button" }, icon("copy"), "Copy details");
    copying.addEventListener("click", () => void copy(details, copying));
    this.#place.replaceChildren(
      h(
        "div",
        { class: "notice" },
        h(
          "div",
          { class: "notice-head" },
          icon("warn"),
          h("h2", {}, title),
          h("button", { type: "button", class: "icon-button", "aria-label": "Dismiss", title: "Dismiss", onclick: () => this.clear() }, icon("close")),
        ),
        h("p", {}, next),
        h("p", { class: "notice-message" }, h("code", { class: "code-chip" }, error.code), " ", error.message),
        h("div", { class: "row" }, ...buttons, copying),
      ),
    );
  }
}
