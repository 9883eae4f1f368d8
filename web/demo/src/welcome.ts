/** What stands where no conversation is yet: the way to a model, or to a first message. */
import { adapterReport, type AdapterReport } from "fireside-llm";

import { byId, h, icon } from "./dom.js";
import { bytes, sentence } from "./format.js";
import { kept, shelves } from "./library.js";
import { asError, type Choice, type Session } from "./session.js";
import type { Server } from "./server.js";
import { loadLastModel } from "./store.js";

const STARTERS = [
  "Explain how a campfire burns, to a child of eight.",
  "Write a haiku about the first snow.",
  "What should I pack for a night outdoors?",
];

export interface WelcomeActions {
  session: Session;
  load: (choice: Choice) => void;
  pickFile: () => void;
  openModels: () => void;
  openGpu: () => void;
  ask: (text: string) => void;
  /** Asks this page's server again. */
  connect: () => void;
  /** Asks for the server's key. */
  enterKey: () => void;
}

function set(title: string, text: string, ...body: Node[]): void {
  byId("welcome-title").textContent = title;
  byId("welcome-text").textContent = text;
  byId("welcome-body").replaceChildren(...body);
}

export class Welcome {
  readonly #actions: WelcomeActions;
  /** What the page says before anything is known. */
  readonly #greeting = { title: byId("welcome-title").textContent, text: byId("welcome-text").textContent };
  #adapter: Promise<AdapterReport> | undefined;

  constructor(actions: WelcomeActions) {
    this.#actions = actions;
  }

  /** Shows what fits the moment. */
  async show(): Promise<void> {
    const { session, ask } = this.#actions;
    if (session.place === "server" && session.server && session.status !== "ready" && session.status !== "answering") {
      this.#showServer(session.server, session.status === "loading");
      return;
    }
    if (session.status === "loading") {
      set("Kindling.", "The first time takes a download. After that the model starts from this device, with or without a network.");
      return;
    }
    if (session.status !== "empty") {
      const starters = STARTERS.map((text) => h("li", {}, h("button", { type: "button", class: "starter", onclick: () => ask(text) }, text)));
      const software = session.info?.software
        ? [h("p", { class: "aside" }, "This browser runs the model on the CPU, so it is slow. ", this.#link("Why", () => this.#actions.openGpu()))]
        : [];
      const where = session.place === "server" ? "on this server" : "on this device";
      set("It is warm in here.", `${session.choice?.label ?? "The model"} is ready, ${where}. Ask it something.`, h("ul", { class: "starters" }, ...starters), ...software);
      return;
    }
    await this.#showModels();
  }

  #link(label: string, onclick: () => void): HTMLElement {
    return h("button", { type: "button", class: "text-button inline", onclick }, label);
  }

  #showServer({ address, wantsKey }: Server, isAsked: boolean): void {
    const { connect, enterKey } = this.#actions;
    const text = "Answers come from the server that this page is from.";
    if (isAsked) return set(this.#greeting.title, text);
    const button = wantsKey
      ? h("button", { type: "button", class: "button primary large", id: "start", onclick: enterKey }, "Enter the key")
      : h("button", { type: "button", class: "button primary large", id: "start", onclick: connect }, "Connect");
    const about = wantsKey ? "It wants an API key." : "It has not answered yet.";
    const card = h("div", { class: "start-card" }, h("div", { class: "start-text" }, h("h2", {}, address), h("p", {}, about)), button);
    set(this.#greeting.title, text, card);
  }

  async #showModels(): Promise<void> {
    const { session, load, pickFile, openModels, openGpu } = this.#actions;
    const { title, text } = this.#greeting;
    const last = loadLastModel();
    const [[first], all] = await Promise.all([shelves(), kept()]);
    this.#adapter ??= adapterReport();
    const failure = await this.#adapter.then(() => null, asError);
    if (failure) this.#adapter = undefined;
    // Something else may have begun meanwhile.
    if (session.status !== "empty" || session.place !== "tab") return;
    if (failure) {
      const more = h("button", { type: "button", class: "button", onclick: openGpu }, "What is missing");
      const again = h("button", { type: "button", class: "button", onclick: () => void this.show() }, "Look again");
      const note = h("div", { class: "start-card" }, h("h2", {}, "No GPU to run on"), h("p", {}, sentence(failure.message)), h("div", { class: "row" }, more, again));
      set(title, text, note);
      return;
    }
    if (!first) return;
    const { model, kept: copy } = first;
    const isOther = last !== null && last.source !== model.id;
    const isKept = isOther ? all.some((one) => one.url === last.source && one.complete) : copy?.complete === true;
    const choice: Choice = isOther ? last : { source: model.id, label: model.label };
    const size = isOther ? "To be downloaded again" : `${bytes(model.size)}, downloaded once`;
    const cost = isKept ? "It is on this device." : `${size} and kept on this device.`;
    const card = h(
      "div",
      { class: "start-card" },
      h("div", { class: "start-text" }, h("h2", {}, choice.label), h("p", {}, cost)),
      h("button", { type: "button", class: "button primary large", id: "start", onclick: () => load(choice) }, isKept ? "Start" : "Download and start"),
    );
    const ways = h(
      "div",
      { class: "ways" },
      h("button", { type: "button", class: "text-button", onclick: pickFile }, icon("file"), "Use a GGUF file"),
      h("button", { type: "button", class: "text-button", onclick: openModels }, icon("link"), "Use an address"),
    );
    set(title, text, card, ways);
  }
}
