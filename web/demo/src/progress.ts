/** The two phases of a load, with bytes, rate and the time that is left. */
import { bytes, seconds } from "./format.js";
import { h } from "./dom.js";
import type { Session } from "./session.js";

/** Seconds over which the rate is taken. */
const WINDOW = 5;

/** Bytes over time, of the last few seconds. */
class Rate {
  #points: [time: number, bytes: number][] = [];

  /** Bytes per second, once there is something to tell. */
  add(now: number, loaded: number): number | null {
    this.#points.push([now, loaded]);
    while (this.#points.length > 2 && now - this.#points[0]![0] > WINDOW) this.#points.shift();
    const [first, before] = this.#points[0]!;
    return now - first >= 0.5 && loaded > before ? (loaded - before) / (now - first) : null;
  }
}

function row(label: string) {
  const bar = h("progress", { max: 1, "aria-label": label });
  const detail = h("span", { class: "load-detail" });
  const element = h("div", { class: "load-row" }, h("span", { class: "load-label" }, label), detail, bar);
  return {
    element,
    set(share: number | null, text: string, state: "waiting" | "busy" | "done") {
      if (share === null) bar.removeAttribute("value");
      else bar.value = share;
      detail.textContent = text;
      element.dataset["state"] = state;
    },
  };
}

/** Shows a load in an element for as long as it goes on. */
export function showProgress(session: Session, place: HTMLElement): void {
  let rate = new Rate();
  let rows: { fetch: ReturnType<typeof row>; prepare: ReturnType<typeof row> } | undefined;
  const begin = () => {
    rate = new Rate();
    rows = { fetch: row("Download"), prepare: row("Upload and compile") };
    const fromDisk = session.choice?.source instanceof File;
    rows.fetch.set(fromDisk ? 1 : null, fromDisk ? "a file of this device" : "asking the server", fromDisk ? "done" : "busy");
    rows.prepare.set(0, "", "waiting");
    place.replaceChildren(
      h(
        "div",
        { class: "load-head" },
        h("h2", {}, session.choice?.label ?? ""),
        h("button", { type: "button", class: "button", id: "cancel-load", onclick: () => session.cancelLoad() }, "Cancel"),
      ),
      rows.fetch.element,
      rows.prepare.element,
    );
  };
  session.on("status", () => {
    // A server has its model loaded.
    const loading = session.status === "loading" && session.place === "tab";
    // Another model may be chosen while one loads.
    if (loading && (place.hidden || session.progress === undefined)) begin();
    place.hidden = !loading;
  });
  session.on("progress", () => {
    const { progress } = session;
    if (!progress || !rows) return;
    const { phase, loaded, total, timeElapsed } = progress;
    const of = total > 0 ? `${bytes(loaded)} of ${bytes(total)}` : bytes(loaded);
    if (phase === "download") {
      const speed = rate.add(timeElapsed, loaded);
      const left = speed && total > 0 ? (total - loaded) / speed : null;
      const text = [of, speed && `${bytes(speed)}/s`, left !== null && left >= 1 && `${seconds(Math.ceil(left)).replace(".0", "")} left`];
      const whole = total > 0 && loaded >= total;
      rows.fetch.set(total > 0 ? progress.progress : null, text.filter(Boolean).join(" · "), whole ? "done" : "busy");
      if (whole) rows.prepare.set(null, "starting the GPU", "busy");
    } else if (phase === "upload") {
      rows.fetch.set(1, "on this device", "done");
      // The greater part is the upload; what compiling takes is not known in advance.
      rows.prepare.set(progress.progress * 0.8, `${of} to the GPU`, "busy");
    } else {
      rows.prepare.set(progress.progress < 1 ? 0.9 : 1, progress.progress < 1 ? "compiling shaders, first answer next" : "ready", "busy");
    }
  });
}

/** How far a load is as a whole, 0 to 1: the download counts for most of it. */
export function share(session: Session): number {
  const { progress } = session;
  if (!progress) return 0;
  if (progress.phase === "download") return progress.progress * 0.7;
  return progress.phase === "upload" ? 0.7 + progress.progress * 0.2 : 0.9 + progress.progress * 0.1;
}
