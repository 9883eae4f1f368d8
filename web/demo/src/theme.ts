/** Light, dark, or as the system has it; remembered. */
import { byId, icon, type IconName } from "./dom.js";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

const PICTURE: Record<Theme, IconName> = { system: "system", light: "sun", dark: "moon" };

/** Wires the button. `public/theme.js` has set the remembered one before the first paint. */
export function setUpTheme(onChange: () => void): void {
  const button = byId("theme");
  const root = document.documentElement;
  const current = (): Theme => (root.dataset["theme"] as Theme | undefined) ?? "system";
  const show = () => {
    const name = `Theme: ${current() === "system" ? "as the system" : current()}`;
    button.setAttribute("aria-label", name);
    button.title = name;
    button.replaceChildren(icon(PICTURE[current()]));
    onChange();
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length]!;
    if (next === "system") delete root.dataset["theme"];
    else root.dataset["theme"] = next;
    try {
      if (next === "system") localStorage.removeItem("fireside.theme");
      else localStorage.setItem("fireside.theme", next);
    } catch {
      // Not remembered, then.
    }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
  show();
}
