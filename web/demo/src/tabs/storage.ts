/** What is kept on this device, how large, and how to be rid of it. */
import { deleteModel, storageEstimate } from "fireside-llm";

import { announce, h, icon } from "../dom.js";
import { bytes, sentence } from "../format.js";
import { extentOf, kept, nameOfKept, type KeptModel } from "../library.js";
import { asError } from "../session.js";

export function storageTab(onChange: () => void) {
  return (place: HTMLElement): void => {
    const note = h("p", { class: "help", role: "alert" });
    const fill = async () => {
      const [models, { usage, quota }] = await Promise.all([kept(), storageEstimate()]);
      const total = models.reduce((sum, model) => sum + model.received, 0);
      const forget = (model?: KeptModel) => async () => {
        note.textContent = "";
        try {
          await deleteModel(model?.url);
          announce(model ? `${nameOfKept(model)} is deleted` : "All models are deleted");
        } catch (thrown) {
          note.textContent = sentence(asError(thrown).message);
        }
        onChange();
        await fill();
      };
      const list = models.map((model) =>
        h(
          "li",
          { class: "model" },
          h(
            "div",
            { class: "model-text" },
            h("strong", {}, nameOfKept(model)),
            h("span", {}, extentOf(model)),
          ),
          h(
            "button",
            { type: "button", class: "icon-button", onclick: forget(model), "aria-label": `Delete ${nameOfKept(model)}`, title: "Delete" },
            icon("bin"),
          ),
        ),
      );
      const persisted = await navigator.storage?.persisted?.().catch(() => false);
      place.replaceChildren(
        h("h3", {}, "Models on this device"),
        models.length > 0 ? h("ul", { class: "models" }, ...list) : h("p", { class: "help" }, "None yet. A model that you download stays here, and loads without a network."),
        note,
        h("h3", {}, "Space"),
        h("progress", { max: quota || 1, value: usage, "aria-label": "Space in use" }),
        h(
          "p",
          { class: "help" },
          `Models take ${bytes(total)}. This site uses ${bytes(usage)} of the ${bytes(quota)} that the browser allows.`,
        ),
        h(
          "p",
          { class: "help" },
          persisted
            ? "The browser keeps it until you delete it."
            : "The browser may clear it when the device runs low. It is asked to keep it when you load a model.",
        ),
        ...(models.length > 0 ? [h("button", { type: "button", class: "button wide danger", onclick: forget() }, "Delete all models")] : []),
      );
    };
    fill().catch((thrown: unknown) => {
      note.textContent = sentence(asError(thrown).message);
      place.replaceChildren(note);
    });
  };
}
