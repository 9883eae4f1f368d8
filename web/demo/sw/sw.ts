/**
 * Keeps the page on the device: every file of a build, under the version of that build.
 *
 * A new version is fetched whole beside the old one and takes over when the page says so, or when
 * no tab has the old one open. Models are not its business: the package keeps them itself.
 */
declare const __PRECACHE__: string[];
declare const __VERSION__: string;

const worker = self as unknown as ServiceWorkerGlobalScope;
const PREFIX = "fireside-demo-";
const NAME = PREFIX + __VERSION__;
const PAGE = "index.html";

worker.addEventListener("install", (event) => {
  const fetchAll = async () => {
    const cache = await caches.open(NAME);
    // Past the HTTP cache, which may hold files of an older build.
    await cache.addAll(__PRECACHE__.map((file) => new Request(file, { cache: "reload" })));
  };
  event.waitUntil(fetchAll());
});

worker.addEventListener("activate", (event) => {
  const takeOver = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await worker.clients.claim();
  };
  event.waitUntil(takeOver());
});

worker.addEventListener("message", (event) => {
  if (event.data === "take-over") void worker.skipWaiting();
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const scope = new URL(worker.registration.scope);
  if (request.method !== "GET" || url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return;
  const file = url.pathname.slice(scope.pathname.length);
  const known = file === "" ? PAGE : file;
  if (!__PRECACHE__.includes(known)) return;
  // The page itself is for who opens it: under the same address a server answers programs.
  if (known === PAGE && request.mode !== "navigate") return;
  const answer = async () => {
    const cache = await caches.open(NAME);
    return (await cache.match(new URL(known, scope).href)) ?? fetch(request);
  };
  event.respondWith(answer());
});
