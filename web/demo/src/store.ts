/** What is remembered between visits: settings, the conversation, the model of last time. */

/** Sampling and load options that the page offers. */
export interface Settings {
  system: string;
  temperature: number;
  top_p: number;
  top_k: number;
  min_p: number;
  repetition_penalty: number;
  max_tokens: number;
  /** None: a new one each time. */
  seed: number | null;
  /** 0: the package's default. */
  contextSize: number;
}

export const DEFAULTS: Settings = {
  system: "",
  temperature: 0.7,
  top_p: 0.95,
  top_k: 40,
  min_p: 0.05,
  repetition_penalty: 1.1,
  max_tokens: 512,
  seed: null,
  contextSize: 0,
};

/** What is told under an answer. */
export interface Stats {
  tokens: number;
  promptTokens?: number;
  cachedTokens?: number;
  firstToken?: number;
  prefillRate?: number;
  decodeRate?: number;
  finish?: string;
  model?: string;
}

export interface UserTurn {
  role: "user";
  content: string;
}

export interface AnswerTurn {
  role: "assistant";
  content: string;
  stats?: Stats;
}

export type Turn = UserTurn | AnswerTurn;

/** A model that can be loaded again by its address. */
export interface LastModel {
  /** A known name or a URL. */
  source: string;
  label: string;
}

/** Where answers come from: this page's server, or a model in the tab. */
export type Place = "server" | "tab";

function read<T>(key: string, isRight: (value: unknown) => value is T): T | null {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(`fireside.${key}`) ?? "null");
    return isRight(value) ? value : null;
  } catch {
    return null;
  }
}

/** False where the browser keeps nothing, or has no room. */
function write(key: string, value: unknown): boolean {
  try {
    if (value === null) localStorage.removeItem(`fireside.${key}`);
    else localStorage.setItem(`fireside.${key}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isTurn = (value: unknown): value is Turn =>
  isObject(value) && (value["role"] === "user" || value["role"] === "assistant") && typeof value["content"] === "string";

/** The settings of last time; what is missing or of another kind is as by default. */
export function loadSettings(): Settings {
  const kept = read("settings", isObject) ?? {};
  const all: Record<string, unknown> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const mine = kept[name];
    if (name === "seed" ? mine === null || typeof mine === "number" : typeof mine === typeof value) all[name] = mine;
  }
  return all as unknown as Settings;
}

export const saveSettings = (settings: Settings): boolean => write("settings", settings);

export function loadTurns(): Turn[] {
  const isTurns = (value: unknown): value is Turn[] => Array.isArray(value) && value.every(isTurn);
  return read("conversation", isTurns) ?? [];
}

export const saveTurns = (turns: Turn[]): boolean => write("conversation", turns.length > 0 ? turns : null);

export function loadLastModel(): LastModel | null {
  const isModel = (value: unknown): value is LastModel =>
    isObject(value) && typeof value["source"] === "string" && typeof value["label"] === "string";
  return read("model", isModel);
}

export const saveLastModel = (model: LastModel | null): boolean => write("model", model);

/** The place that was chosen last, if any. */
export const loadPlace = (): Place | null =>
  read("place", (value): value is Place => value === "server" || value === "tab");

export const savePlace = (place: Place): boolean => write("place", place);

/** The key for this page's server; it goes when the tab is closed. */
export function loadKey(): string {
  try {
    return sessionStorage.getItem("fireside.key") ?? "";
  } catch {
    return "";
  }
}

export function saveKey(key: string): void {
  try {
    if (key === "") sessionStorage.removeItem("fireside.key");
    else sessionStorage.setItem("fireside.key", key);
  } catch {
    // Asked for again after a reload, then.
  }
}
