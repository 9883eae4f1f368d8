/** A model's answer as safe HTML, block by block. */
import DOMPurify from "dompurify";
import { Marked, type Token, type TokensList } from "marked";

import { copy, h, icon } from "./dom.js";

const escape = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const marked = new Marked({
  gfm: true,
  breaks: true,
  async: false,
  renderer: {
    // Tags of an answer are text: a person asked for them, or they mean nothing.
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? "<br>" : escape(text)),
    // A picture would be a request to some host.
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

/** What an answer may hold: text with structure, and nothing that loads or runs. */
const ALLOWED = {
  ALLOWED_TAGS: [
    "p", "br", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "sup", "sub", "kbd",
  ],
  ALLOWED_ATTR: ["href", "title", "start", "align", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true as const,
};

function purify(html: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(html, ALLOWED);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  // The page has its own headings; those of an answer come below them.
  for (const heading of [...fragment.querySelectorAll("h1, h2, h3, h4, h5, h6")]) {
    const lower = document.createElement(/[123]/.test(heading.tagName) ? "h3" : "h4");
    lower.append(...heading.childNodes);
    heading.replaceWith(lower);
  }
  for (const table of [...fragment.querySelectorAll("table")]) {
    const frame = h("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  // Code inside a list or a quote.
  for (const pre of [...fragment.querySelectorAll("pre")]) {
    const language = /^language-([\w+#-]{1,24})$/.exec(pre.firstElementChild?.className ?? "")?.[1];
    pre.replaceWith(codeBlock(pre.textContent, language ?? ""));
  }
  // Classes would put the page's own styles at an answer's disposal.
  for (const element of fragment.querySelectorAll(":not(figure, figure *)[class]")) {
    if (element.className !== "table-frame") element.removeAttribute("class");
  }
  return fragment;
}

function codeBlock(text: string, language: string): HTMLElement {
  const button = h("button", { type: "button", class: "text-button" }, icon("copy"), "Copy");
  button.addEventListener("click", () => void copy(text, button));
  const name = language || "code";
  return h(
    "figure",
    { class: "code" },
    h("figcaption", {}, h("span", {}, name), button),
    h("pre", { tabindex: 0, role: "region", "aria-label": `Code: ${name}` }, h("code", {}, text)),
  );
}

function block(token: Token, links: TokensList["links"]): Node {
  if (token.type === "code") {
    return codeBlock(String(token["text"] ?? ""), String(token["lang"] ?? "").split(/\s/)[0] ?? "");
  }
  const list = Object.assign([token], { links });
  const holder = h("div", { class: "block" });
  holder.append(purify(marked.parser(list)));
  return holder;
}

/** Shows a text that grows: blocks that stay the same are left alone, with what is selected in them. */
export class MarkdownView {
  readonly element = h("div", { class: "prose" });
  #shown: string[] = [];

  show(text: string): void {
    const tokens = marked.lexer(text);
    const visible = tokens.filter((token) => token.type !== "space" && token.type !== "def");
    visible.forEach((token, at) => {
      if (this.#shown[at] === token.raw) return;
      const node = block(token, tokens.links);
      const old = this.element.childNodes[at];
      if (old) old.replaceWith(node);
      else this.element.append(node);
      this.#shown[at] = token.raw;
    });
    while (this.element.childNodes.length > visible.length) this.element.lastChild?.remove();
    this.#shown.length = visible.length;
  }
}
