// The orchestrator's side of a peer: starts its process, and asks it one measurement at a time.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

// What a line of a peer means: an object, or nothing where a library has printed something else.
export function parseAnswer(line) {
  if (!line.trimStart().startsWith("{")) return null;
  try {
    const value = JSON.parse(line);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

export class Child {
  #process;
  #said = [];
  #waiting = null;
  #answers = [];
  #ended = null;

  constructor([program, ...rest], env = {}) {
    this.#process = spawn(program, rest, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
    this.#process.stdin.on("error", () => {});
    this.#process.on("error", (error) => this.#end(`it does not start: ${error.message}`));
    const errors = createInterface({ input: this.#process.stderr });
    errors.on("line", (line) => {
      this.#said.push(line);
      if (this.#said.length > 20) this.#said.shift();
    });
    createInterface({ input: this.#process.stdout }).on("line", (line) => {
      const answer = parseAnswer(line);
      if (answer) this.#give(answer);
    });
    this.#process.on("close", (code, signal) => this.#end(`it ended (${signal ?? `exit code ${code}`})`));
  }

  #give(answer) {
    if (this.#waiting) {
      const { resolve } = this.#waiting;
      this.#waiting = null;
      resolve(answer);
    } else {
      this.#answers.push(answer);
    }
  }

  #end(why) {
    const last = this.#said.filter((line) => line.trim()).at(-1);
    this.#ended ??= new Error(last ? `${why}: ${last}` : why);
    this.#waiting?.reject(this.#ended);
    this.#waiting = null;
  }

  // The next answer; an error after so many seconds without one, which ends the process.
  #next(seconds) {
    if (this.#answers.length) return Promise.resolve(this.#answers.shift());
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#end(`no answer within ${seconds} s`);
        this.kill();
      }, seconds * 1000);
      const settle = (how) => (value) => {
        clearTimeout(timer);
        how(value);
      };
      this.#waiting = { resolve: settle(resolve), reject: settle(reject) };
    });
  }

  // What it has loaded.
  async ready(seconds) {
    const about = await this.#next(seconds);
    if (about.skip) throw new Error(about.skip);
    return about;
  }

  async ask(request, seconds) {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    const answer = await this.#next(seconds);
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  close() {
    this.#process.stdin.end();
  }

  kill() {
    this.#process.kill("SIGKILL");
  }
}
