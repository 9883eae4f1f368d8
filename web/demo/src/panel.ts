/** The panel at the side, a sheet on small windows: tabs, one at a time. */
import { byId, h, icon } from "./dom.js";

export interface Tab {
  id: string;
  label: string;
  /** Fills the tab when it is shown. */
  show: (place: HTMLElement) => void;
}

export class Panel {
  readonly #dialog = byId<HTMLDialogElement>("panel");
  readonly #wide = matchMedia("(min-width: 1080px)");
  readonly #openers: HTMLElement[];
  readonly #tabs: Tab[];
  readonly #buttons = new Map<string, HTMLButtonElement>();
  readonly #body = h("div", { class: "panel-body", role: "tabpanel", tabindex: 0 });
  #current: string;
  #opener: HTMLElement | undefined;

  constructor(tabs: Tab[], openers: HTMLElement[]) {
    this.#tabs = tabs;
    this.#openers = openers;
    this.#current = tabs[0]!.id;
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "Settings and details" });
    for (const { id, label } of tabs) {
      const onclick = () => this.select(id);
      const button = h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": "panel-body", onclick }, label);
      this.#buttons.set(id, button);
      list.append(button);
    }
    this.#body.id = "panel-body";
    list.addEventListener("keydown", (event) => this.#step(event));
    const close = h("button", { type: "button", class: "icon-button", "aria-label": "Close", title: "Close (Escape)" }, icon("close"));
    close.addEventListener("click", () => this.close());
    const head = h("div", { class: "panel-head" }, h("h2", { id: "panel-title" }, "Settings and details"), close);
    this.#dialog.append(head, list, this.#body);
    this.#dialog.addEventListener("close", () => this.#closed());
    this.#dialog.addEventListener("click", (event) => {
      // The backdrop belongs to the dialog.
      if (event.target === this.#dialog) this.close();
    });
    this.#dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      event.preventDefault();
      this.close();
    });
    this.#wide.addEventListener("change", () => {
      if (!this.#dialog.open) return;
      this.#dialog.addEventListener("close", () => this.#show(), { once: true });
      this.#dialog.close();
    });
  }

  get isSheet(): boolean {
    return !this.#wide.matches;
  }

  get current(): string | null {
    return this.#dialog.open ? this.#current : null;
  }

  open(id = this.#current, opener = document.activeElement): void {
    if (opener instanceof HTMLElement) this.#opener = opener;
    if (!this.#dialog.open) this.#show();
    this.select(id);
    this.#buttons.get(id)?.focus();
  }

  close(): void {
    this.#dialog.close();
  }

  toggle(id: string, opener: HTMLElement): void {
    if (this.current === id) this.close();
    else this.open(id, opener);
  }

  /** Shows a tab anew, if it is the one that is open. */
  refresh(id: string): void {
    if (this.current === id) this.select(id);
  }

  select(id: string): void {
    this.#current = id;
    for (const [name, button] of this.#buttons) {
      button.setAttribute("aria-selected", String(name === id));
      button.tabIndex = name === id ? 0 : -1;
    }
    this.#body.setAttribute("aria-labelledby", `tab-${id}`);
    const place = h("div", { class: "tab" });
    const hadFocus = this.#body.contains(document.activeElement);
    this.#body.replaceChildren(place);
    // What had it is gone.
    if (hadFocus) this.#body.focus({ preventScroll: true });
    this.#tabs.find((tab) => tab.id === id)?.show(place);
  }

  #show(): void {
    if (this.#wide.matches) this.#dialog.show();
    else this.#dialog.showModal();
    document.documentElement.toggleAttribute("data-panel", true);
    for (const opener of this.#openers) opener.setAttribute("aria-expanded", "true");
  }

  #closed(): void {
    document.documentElement.toggleAttribute("data-panel", false);
    for (const opener of this.#openers) opener.setAttribute("aria-expanded", "false");
    this.#opener?.focus();
    this.#opener = undefined;
  }

  #step(event: KeyboardEvent): void {
    const at = this.#tabs.findIndex((tab) => tab.id === this.#current);
    const steps: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.#tabs.length - 1 };
    const to = steps[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const { id } = this.#tabs[(to + this.#tabs.length) % this.#tabs.length]!;
    this.select(id);
    this.#buttons.get(id)?.focus();
  }
}
