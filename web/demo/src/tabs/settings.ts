/** What is sent with each request, and what the next load takes. */
import { h } from "../dom.js";
import { DEFAULTS, type Settings } from "../store.js";

interface Field {
  name: Exclude<keyof Settings, "system" | "seed" | "contextSize">;
  label: string;
  help: string;
  min: number;
  max: number;
  step: number;
}

const FIELDS: Field[] = [
  { name: "temperature", label: "Temperature", help: "0 is always the likeliest token; higher is freer.", min: 0, max: 2, step: 0.05 },
  { name: "top_p", label: "Top p", help: "Only the likeliest tokens that make up this share. 1 is off.", min: 0.05, max: 1, step: 0.05 },
  { name: "top_k", label: "Top k", help: "Only so many of the likeliest tokens. 0 is off.", min: 0, max: 200, step: 1 },
  { name: "min_p", label: "Min p", help: "Only tokens at least this likely, next to the likeliest. 0 is off.", min: 0, max: 1, step: 0.01 },
  { name: "repetition_penalty", label: "Repetition penalty", help: "Above 1, what has been said becomes less likely. 1 is off.", min: 0.5, max: 2, step: 0.05 },
  { name: "max_tokens", label: "Max tokens", help: "The longest answer.", min: 1, max: 4096, step: 1 },
];

export interface SettingsActions {
  settings: Settings;
  onChange: () => void;
}

export function settingsTab({ settings, onChange }: SettingsActions) {
  return (place: HTMLElement): void => {
    const system = h("textarea", { id: "set-system", rows: 3, placeholder: "You are a helpful assistant." });
    system.value = settings.system;
    system.addEventListener("input", () => {
      settings.system = system.value;
      onChange();
    });
    const numbers = FIELDS.map(({ name, label, help, min, max, step }) => {
      const id = `set-${name}`;
      const number = h("input", { type: "number", id, min, max, step: "any", "aria-describedby": `${id}-help`, inputmode: "decimal" });
      const slide = h("input", { type: "range", min, max, step, "aria-label": `${label}, slider`, tabindex: -1 });
      number.value = slide.value = String(settings[name]);
      const take = (text: string, other: HTMLInputElement) => {
        const value = Number(text);
        if (text.trim() === "" || !Number.isFinite(value) || value < min || value > max) return;
        settings[name] = step === 1 ? Math.round(value) : value;
        other.value = String(settings[name]);
        onChange();
      };
      number.addEventListener("input", () => take(number.value, slide));
      // What was not taken is put back.
      number.addEventListener("change", () => (number.value = String(settings[name])));
      slide.addEventListener("input", () => take(slide.value, number));
      return h(
        "div",
        { class: "field" },
        h("label", { for: id }, label),
        number,
        slide,
        h("p", { class: "help", id: `${id}-help` }, help),
      );
    });
    const seed = h("input", { type: "number", id: "set-seed", min: 0, step: 1, placeholder: "new each time", inputmode: "numeric", "aria-describedby": "set-seed-help" });
    seed.value = settings.seed === null ? "" : String(settings.seed);
    seed.addEventListener("input", () => {
      const value = Number(seed.value);
      settings.seed = seed.value.trim() === "" || !Number.isSafeInteger(value) || value < 0 ? null : value;
      onChange();
    });
    const context = h("select", { id: "set-context", "aria-describedby": "set-context-help" });
    for (const size of [0, 512, 1024, 2048, 4096, 8192, 16384]) {
      const label = size === 0 ? "automatic" : `${size.toLocaleString("en")} tokens`;
      context.append(h("option", { value: size, selected: size === settings.contextSize }, label));
    }
    context.addEventListener("change", () => {
      settings.contextSize = Number(context.value);
      onChange();
    });
    const reset = () => {
      Object.assign(settings, DEFAULTS);
      onChange();
      place.replaceChildren();
      settingsTab({ settings, onChange })(place);
    };
    place.append(
      h("h3", {}, "System prompt"),
      h("div", { class: "field" }, h("label", { class: "visually-hidden", for: "set-system" }, "System prompt"), system),
      h("h3", {}, "Sampling"),
      ...numbers,
      h(
        "div",
        { class: "field" },
        h("label", { for: "set-seed" }, "Seed"),
        seed,
        h("p", { class: "help", id: "set-seed-help" }, "The same seed and settings give the same answer."),
      ),
      h("h3", {}, "Next load"),
      h(
        "div",
        { class: "field" },
        h("label", { for: "set-context" }, "Context size"),
        context,
        h("p", { class: "help", id: "set-context-help" }, "Room for the conversation on the GPU. Automatic is 4,096 tokens, or what the model has."),
      ),
      h("button", { type: "button", class: "button wide", onclick: reset }, "Back to the defaults"),
    );
  };
}
