/** The service worker: the page without a network, and new versions of it. */
import { toast } from "./dom.js";

/** Installs it, and offers a new version when one is there. */
export async function setUpOffline(): Promise<void> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  const { serviceWorker } = navigator;
  let isControlled = serviceWorker.controller !== null;
  let takes = false;
  serviceWorker.addEventListener("controllerchange", () => {
    if (takes) location.reload();
    // The first one takes over a page of its own version.
    else if (isControlled) toast("This page was renewed in another tab.", { label: "Reload", run: () => location.reload() }, true);
    isControlled = true;
  });
  const offer = (next: ServiceWorker) => {
    const take = () => {
      takes = true;
      next.postMessage("take-over");
    };
    toast("A new version of this page is ready.", { label: "Reload", run: take }, true);
  };
  const watch = (next: ServiceWorker) => {
    next.addEventListener("statechange", () => {
      // Without one before it, it is the first and takes over by itself.
      if (next.state === "installed" && serviceWorker.controller) offer(next);
    });
  };
  let registration: ServiceWorkerRegistration;
  try {
    registration = await serviceWorker.register(new URL("./sw.js", document.baseURI));
  } catch {
    // A page in a private window or under an odd policy works with the network only.
    return;
  }
  if (registration.waiting && serviceWorker.controller) offer(registration.waiting);
  registration.addEventListener("updatefound", () => registration.installing && watch(registration.installing));
}
