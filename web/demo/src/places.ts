/** The switch between the places that answers may come from: this page's server, or the tab. */
import { byId } from "./dom.js";
import type { Session } from "./session.js";
import type { Place } from "./store.js";

/** Shows the switch as the session is; hidden where there is no server to switch to. */
export function showPlaces(session: Session, use: (place: Place) => void): () => void {
  const group = byId<HTMLFieldSetElement>("places");
  const radios = [...group.querySelectorAll("input")];
  for (const radio of radios) radio.addEventListener("change", () => use(radio.value as Place));
  return () => {
    group.hidden = session.server === undefined;
    group.disabled = session.status === "answering";
    for (const radio of radios) radio.checked = radio.value === session.place;
  };
}
