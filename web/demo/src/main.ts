/** The page: puts its parts together and hands what happens in one to the others. */
import { knownModels, type FiresideError } from "fireside-llm";

import { Chat } from "./chat.js";
import { announce, byId, h, icon, toast } from "./dom.js";
import { Embers } from "./embers.js";
import { Notices } from "./notices.js";
import { setUpOffline } from "./offline.js";
import { Panel } from "./panel.js";
import { showPlaces } from "./places.js";
import { share, showProgress } from "./progress.js";
import { findServer, Server } from "./server.js";
import { asError, Session, type Choice } from "./session.js";
import {
  loadKey,
  loadLastModel,
  loadPlace,
  loadSettings,
  saveKey,
  saveLastModel,
  savePlace,
  saveSettings,
  type Place,
} from "./store.js";
import { benchTab } from "./tabs/bench.js";
import { gpuTab } from "./tabs/gpu.js";
import { modelsTab } from "./tabs/models.js";
import { settingsTab } from "./tabs/settings.js";
import { storageTab } from "./tabs/storage.js";
import { setUpTheme } from "./theme.js";
import { Welcome } from "./welcome.js";

const session = new Session();
const settings = loadSettings();
const embers = new Embers(byId<HTMLCanvasElement>("embers"));
const prompt = byId<HTMLTextAreaElement>("prompt");
const file = byId<HTMLInputElement>("file");

const load = (choice: Choice) => void loadThen(choice);
const pickFile = () => file.click();
const showError = (error: FiresideError) => notices.show(error);
const openTab = (id: string) => () => panel.open(id);
const connect = () => void usePlace("server");
const useKey = (key: string) => {
  if (session.server) session.server.key = key;
  saveKey(key);
  connect();
};
const enterKey = () => {
  panel.open("models");
  document.getElementById("server-key")?.focus();
};

const panel = new Panel(
  [
    { id: "models", label: "Model", show: modelsTab({ session, load, pickFile, useKey }) },
    { id: "settings", label: "Settings", show: settingsTab({ settings, onChange: () => saveSettings(settings) }) },
    { id: "gpu", label: "GPU", show: gpuTab(session) },
    { id: "bench", label: "Bench", show: benchTab(session, showError) },
    { id: "storage", label: "Storage", show: storageTab(() => void welcome.show()) },
  ],
  [byId("model-chip"), byId("open-panel")],
);

const notices = new Notices({
  models: { label: "Choose a model", run: openTab("models") },
  storage: { label: "Open storage", run: openTab("storage") },
  settings: { label: "Open settings", run: openTab("settings") },
  gpu: { label: "About the GPU", run: openTab("gpu") },
  "new-chat": { label: "New chat", run: () => newChat() },
  "reload-model": { label: "Load the model again", run: () => void loadLast() },
  key: { label: "Enter the key", run: enterKey },
  tab: { label: "Use this tab", run: () => void usePlace("tab") },
});

const welcome = new Welcome({
  session,
  load,
  pickFile,
  openModels: openTab("models"),
  openGpu: openTab("gpu"),
  ask: (text) => void ask(text),
  connect,
  enterKey,
});

const chat = new Chat(session, {
  settings: () => settings,
  onToken: () => embers.flare(),
  onError: (error, retry) => notices.show(error, retry),
  onChange: () => showThread(),
  onEdit: (text) => {
    prompt.value = text;
    fit();
    prompt.focus();
  },
});

/** The model chosen last in this visit, which may be a file. */
let lastChoice: Choice | null = null;

const settlePlaces = showPlaces(session, (place) => void usePlace(place));

/** Lets answers come from this page's server, or from this tab. */
async function usePlace(place: Place): Promise<void> {
  notices.clear();
  savePlace(place);
  const { server } = session;
  if (place === "server" && server) {
    await loadThen({ source: server, label: "this server" });
  } else {
    lastChoice = null;
    session.place = "tab";
    await session.unload();
    showStatus();
  }
}

/** Looks for a server behind this page, and takes it unless another choice was made. */
async function setUpServer(): Promise<void> {
  const server = await findServer(loadKey());
  if (!server) return;
  session.server = server;
  if (session.status === "empty" && loadPlace() !== "tab") await usePlace("server");
  else showStatus();
}

async function loadThen(choice: Choice): Promise<boolean> {
  const isServer = choice.source instanceof Server;
  notices.clear();
  if (panel.isSheet && !isServer) panel.close();
  lastChoice = choice;
  try {
    await session.load(choice, settings);
  } catch (thrown) {
    const error = asError(thrown);
    if (error.code === "aborted" && (isServer || session.status !== "empty")) return false;
    if (error.code === "aborted") toast("Cancelled. What has arrived is kept, and the next load goes on from there.");
    else notices.show(error, () => void loadThen(choice));
    return false;
  }
  if (choice.source instanceof Server) choice.label = choice.source.model;
  else if (session.server) savePlace("tab");
  if (typeof choice.source === "string") saveLastModel({ source: choice.source, label: choice.label });
  showStatus();
  announce(`${choice.label} is ready`);
  // The switch keeps the focus.
  if (!isServer) prompt.focus({ preventScroll: true });
  return true;
}

async function loadLast(): Promise<boolean> {
  const choice = lastChoice ?? loadLastModel();
  if (choice) return loadThen(choice);
  if (chat.length > 0) panel.open("models");
  else byId("start").focus();
  toast("Choose a model first.");
  return false;
}

async function ask(text: string): Promise<void> {
  if (session.status === "empty" && !(await loadLast())) return;
  if (session.status !== "ready") return;
  notices.clear();
  prompt.value = "";
  fit();
  await chat.send(text);
}

function newChat(): void {
  notices.clear();
  if (chat.length > 0) toast("A new chat.", { label: "Undo", run: chat.clear() });
  prompt.focus();
}

/** Lets the field grow with what is in it. */
function fit(): void {
  byId<HTMLButtonElement>("send").disabled = prompt.value.trim() === "" || session.status === "loading";
  prompt.rows = Math.min(8, Math.max(1, prompt.value.split("\n").length));
}

function showThread(): void {
  const begun = chat.length > 0;
  byId("welcome").hidden = begun;
  byId("thread").hidden = byId("thread-title").hidden = !begun;
  byId("new-chat").toggleAttribute("data-idle", !begun);
  document.documentElement.toggleAttribute("data-chat", begun);
  if (!begun) void welcome.show();
}

function showStatus(): void {
  const { status, choice } = session;
  document.documentElement.dataset["status"] = status;
  const last = loadLastModel();
  const none = session.place === "server" ? "this server" : "choose a model";
  const verb = session.place === "server" ? "asking" : "loading";
  byId("model-name").textContent = status === "loading" ? `${verb} ${choice?.label ?? ""}` : (choice?.label ?? none);
  byId("send").hidden = status === "answering";
  byId("stop").hidden = status !== "answering";
  settlePlaces();
  prompt.placeholder = status === "empty" && !last && session.place === "tab" ? "Choose a model first" : "Write a message";
  const keys = status === "answering" ? "Escape stops the answer. " : "Enter sends, Shift+Enter begins a new line. ";
  const loadsFirst = status === "empty" && last && session.place === "tab";
  const stays = session.place === "server" ? `What you write goes to ${location.host}.` : "It all stays on this device.";
  const rest = loadsFirst ? `Sending loads ${last.label} first.` : stays;
  byId("hint").replaceChildren(h("span", { class: "keys" }, keys), rest);
  fit();
  const heat = { empty: 0.3, loading: 0.3, ready: 0.72, answering: 0.9 }[status];
  embers.burn(heat, status === "loading" || status === "answering");
  if (chat.length === 0) void welcome.show();
  panel.refresh("models");
  panel.refresh("gpu");
  if (status === "empty" || status === "ready") panel.refresh("bench");
}

function setUpComposer(): void {
  byId("send").append(icon("send"));
  byId("stop").append(icon("stop"));
  const submit = () => {
    const text = prompt.value.trim();
    if (text !== "") void ask(text);
  };
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  prompt.addEventListener("input", fit);
  prompt.addEventListener("keydown", (event) => {
    // Enter also ends the choice of a character in an input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  byId("stop").addEventListener("click", () => {
    session.stop();
    prompt.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (session.status === "answering") session.stop();
    else if (panel.current !== null) panel.close();
    else notices.clear();
  });
}

function setUpFiles(): void {
  const take = (files: FileList | null | undefined) => {
    const [chosen] = files ?? [];
    if (chosen) load({ source: chosen, label: chosen.name });
  };
  file.addEventListener("change", () => {
    take(file.files);
    file.value = "";
  });
  const carriesFile = (event: DragEvent) => event.dataTransfer?.types.includes("Files") === true;
  const drop = byId("drop");
  let inside = 0;
  window.addEventListener("dragenter", (event) => {
    if (carriesFile(event)) drop.hidden = ++inside === 0;
  });
  window.addEventListener("dragleave", (event) => {
    if (carriesFile(event)) drop.hidden = --inside <= 0;
  });
  window.addEventListener("dragover", (event) => {
    if (carriesFile(event)) event.preventDefault();
  });
  window.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    inside = 0;
    drop.hidden = true;
    take(event.dataTransfer?.files);
  });
}

byId("new-chat").append(icon("plus"));
byId("open-panel").append(icon("sliders"));
byId("new-chat").addEventListener("click", newChat);
byId("model-chip").addEventListener("click", (event) => panel.toggle("models", event.currentTarget as HTMLElement));
byId("open-panel").addEventListener("click", (event) => panel.toggle("settings", event.currentTarget as HTMLElement));
session.on("status", showStatus);
session.on("progress", () => embers.burn(0.3 + 0.5 * share(session), true));
showProgress(session, byId("loading"));
setUpTheme(() => embers.recolour());
setUpComposer();
setUpFiles();
showStatus();
showThread();
if (chat.length > 0) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
void setUpOffline();
void setUpServer();

// A model whose name is no longer known cannot be loaded again.
const remembered = loadLastModel();
if (remembered && !/[./:]/.test(remembered.source) && !knownModels.some(({ id }) => id === remembered.source)) saveLastModel(null);
