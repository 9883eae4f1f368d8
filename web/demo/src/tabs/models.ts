/** Which model: those with a name, one by address, one from this device. */
import { knownModels } from "fireside-llm";

import { h, icon, rows } from "../dom.js";
import { bytes } from "../format.js";
import { kept, nameOfKept, nameOfUrl, shelves, type Shelf } from "../library.js";
import type { Server } from "../server.js";
import type { Choice, Session } from "../session.js";

export interface ModelActions {
  session: Session;
  load: (choice: Choice) => void;
  pickFile: () => void;
  /** Takes a key for this page's server, and asks it anew. */
  useKey: (key: string) => void;
}

/** What loading a model costs now. */
export function costOf({ model, kept: copy }: Shelf): string {
  if (copy?.complete) return "on this device";
  if (copy && copy.received > 0) return `${bytes(model.size - copy.received)} of ${bytes(model.size)} to go`;
  return `${bytes(model.size)} to download, once`;
}

/** A card with a model's name, what it costs, and the button. */
function card(title: string, about: string, isLoaded: boolean, action: string, run: () => void, primary: boolean): HTMLElement {
  const button = isLoaded
    ? h("span", { class: "badge" }, "loaded")
    : h("button", { type: "button", class: primary ? "button primary" : "button", onclick: run, "aria-label": `${action} ${title}` }, action);
  return h("li", { class: "model" }, h("div", { class: "model-text" }, h("strong", {}, title), h("span", {}, about)), button);
}

/** What this page's server is, and the field for its key where it wants one. */
function ofServer(server: Server, useKey: (key: string) => void): HTMLElement[] {
  const facts: [string, string][] = [
    ["Address", server.address],
    ["Model", server.model || "not known yet"],
    ["Context", server.context === undefined ? "not told" : `${server.context.toLocaleString("en")} tokens`],
  ];
  const all = [h("h3", {}, "This server"), rows(facts)];
  if (!server.wantsKey && server.key === "") return all;
  const key = h("input", { type: "password", id: "server-key", required: true, autocomplete: "off", spellcheck: "false", "aria-describedby": "server-key-help" });
  key.value = server.key;
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    useKey(key.value.trim());
  };
  const form = h(
    "form",
    { class: "own key", onsubmit: submit, "aria-label": "Key for this server" },
    h("label", { for: "server-key" }, "API key"),
    h("div", { class: "row joined" }, key, h("button", { type: "submit", class: "button primary" }, "Use")),
    h("p", { class: "help", id: "server-key-help" }, "Sent to this server only, and forgotten when the tab is closed."),
  );
  return [...all, form];
}

/** The form for an address, and the button for a file. */
export function ownModel({ load, pickFile }: ModelActions): HTMLElement {
  const input = h("input", {
    type: "url",
    id: "model-url",
    name: "url",
    required: true,
    placeholder: "https://…/model.gguf",
    inputmode: "url",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "model-url-help",
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const url = input.value.trim();
    load({ source: url, label: nameOfUrl(url) });
  };
  return h(
    "div",
    { class: "own" },
    h(
      "form",
      { onsubmit: submit, "aria-label": "Model by address" },
      h("label", { for: "model-url" }, "Address of a GGUF file"),
      h("div", { class: "row joined" }, input, h("button", { type: "submit", class: "button" }, "Load")),
      h("p", { class: "help", id: "model-url-help" }, "Its host must allow other origins (CORS). Range requests let a broken download go on."),
    ),
    h("button", { type: "button", class: "button wide", onclick: pickFile }, icon("file"), "Choose a GGUF file"),
    h("p", { class: "help" }, "Or drop one anywhere on the page. A file is read from where it is, and must be chosen again next time."),
  );
}

export function modelsTab(actions: ModelActions) {
  return (place: HTMLElement): void => {
    const { session, load, useKey } = actions;
    const { server } = session;
    const list = h("ul", { class: "models" });
    if (server && session.place === "server") place.append(...ofServer(server, useKey));
    place.append(h("h3", {}, server ? "Models for this tab" : "Models"), list, h("h3", {}, "Your own"), ownModel(actions));
    if (session.status === "ready" && session.engine) {
      const unload = () => void session.unload();
      place.append(h("h3", {}, "Memory"), h("button", { type: "button", class: "button wide", onclick: unload }, "Unload the model"));
    }
    const fill = async () => {
      const isLoaded = (source: string) => session.choice?.source === source;
      const known = (await shelves()).map((shelf) => {
        const { id, label } = shelf.model;
        const action = shelf.kept?.complete ? "Load" : "Download";
        return card(label, costOf(shelf), isLoaded(id), action, () => load({ source: id, label }), true);
      });
      const others = (await kept()).filter((one) => one.complete && !knownModels.some((model) => model.url === one.url));
      const own = others.map((one) => {
        const label = nameOfKept(one);
        const about = `${bytes(one.size)}, on this device`;
        return card(label, about, isLoaded(one.url), "Load", () => load({ source: one.url, label }), false);
      });
      list.replaceChildren(...known, ...own);
    };
    void fill();
  };
}
