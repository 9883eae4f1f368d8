/**
 * The bed of embers behind the page: a matrix of cells that catch fire as a model loads, and flare
 * with each token. It moves only while something happens, and never where motion is unwelcome.
 */
const CELL = 9;
const GAP = 5;
const FRAME = 80;

/** A number from 0 to 1 that is always the same for a cell. */
function noise(x: number, y: number): number {
  const value = Math.sin(x * 127.1 + y * 311.7) * 43758.5453;
  return value - Math.floor(value);
}

export class Embers {
  readonly #canvas: HTMLCanvasElement;
  readonly #still = matchMedia("(prefers-reduced-motion: reduce)");
  #colours: string[] = [];
  /** How high the fire is and where it goes, 0 to 1. */
  #heat = 0;
  #target = 0;
  /** What the last token added; it fades. */
  #flare = 0;
  #lively = false;
  #time = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.recolour();
  }

  /** Takes the colours of the theme anew. */
  recolour(): void {
    // The text of a property has the colours of both themes; what an element computes has one.
    const { style } = this.#canvas;
    this.#colours = [0, 1, 2, 3, 4].map((step) => {
      style.color = `var(--ember-${step})`;
      return getComputedStyle(this.#canvas).color;
    });
    style.removeProperty("color");
    this.#draw();
  }

  /** Sets how high it burns, and whether it flickers. */
  burn(heat: number, lively: boolean): void {
    this.#target = heat;
    this.#lively = lively;
    if (this.#still.matches) {
      this.#heat = heat;
      this.#draw();
    } else {
      this.#run();
    }
  }

  /** A token came. */
  flare(): void {
    this.#flare = Math.min(1, this.#flare + 0.5);
  }

  #resize(): void {
    const { clientWidth, clientHeight } = this.#canvas;
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.#canvas.width = Math.round(clientWidth * ratio);
    this.#canvas.height = Math.round(clientHeight * ratio);
    this.#canvas.getContext("2d")?.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#draw();
  }

  #run(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#time += FRAME / 1000;
      this.#heat += (this.#target - this.#heat) * 0.14;
      this.#flare *= 0.82;
      const settled = Math.abs(this.#target - this.#heat) < 0.004 && this.#flare < 0.02;
      if (!document.hidden) this.#draw();
      if (this.#lively || !settled) this.#run();
    }, FRAME);
  }

  #draw(): void {
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    context.clearRect(0, 0, width, height);
    const step = CELL + GAP;
    const columns = Math.ceil(width / step) + 1;
    const rows = Math.ceil(height / step);
    const left = (width - columns * step + GAP) / 2;
    const strength = this.#heat + this.#flare * 0.12;
    const reach = 0.3 + 0.7 * strength;
    for (let column = 0; column < columns; column++) {
      const across = (column + 0.5) / columns - 0.5;
      const hill = Math.exp(-((across / (0.2 + 0.16 * strength)) ** 2));
      for (let row = 0; row < rows; row++) {
        const up = row / rows;
        const grain = noise(column, row);
        const flicker = this.#lively ? 0.12 * Math.sin(this.#time * (2 + 3 * grain) + grain * 40) : 0;
        const tongue = 0.75 + 0.25 * Math.sin(column * 0.55 + this.#time * 1.3) * Math.cos(column * 0.21 - this.#time * 0.7);
        const heat = hill * (1 - up / (reach * tongue * (0.35 + 0.65 * hill) + 0.02)) * (0.35 + 0.65 * strength) + flicker * hill;
        // Away from the middle the fire is low.
        const value = heat + (grain - 0.6) * 0.5 - up * (1 - hill) * 0.9;
        if (value <= 0.02) continue;
        const colour = this.#colours[Math.min(4, Math.floor(value * 6))];
        context.globalAlpha = Math.min(1, 0.25 + value * 1.4) * (1 - up * 0.5);
        context.fillStyle = colour ?? "";
        context.beginPath();
        context.roundRect(left + column * step, height - (row + 1) * step, CELL, CELL, 2);
        context.fill();
      }
    }
    context.globalAlpha = 1;
  }
}
