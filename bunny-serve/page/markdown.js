// The little Markdown that answers hold, as elements and never as HTML text: headings, lists, code, emphasis,
// links. Whatever else stands there is shown as it was written.

/** The elements of a text. */
export function markdown(text) {
  const blocks = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    const fence = line.match(/^```/);
    const heading = line.match(/^(#{1,6})\s+(.*)$/);
    const item = line.match(/^\s*(?:[-*]|(\d+)[.)])\s+(.*)$/);
    if (fence) {
      const end = lines.findIndex((other, place) => place > at && other.startsWith("```"));
      const stop = end < 0 ? lines.length : end;
      const code = document.createElement("code");
      code.textContent = lines.slice(at + 1, stop).join("\n");
      blocks.push(element("pre", [code]));
      at = stop + 1;
    } else if (heading) {
      // The page's own heading is the first, the settings' the second.
      blocks.push(element(`h${Math.min(heading[1].length + 2, 6)}`, inline(heading[2])));
      at += 1;
    } else if (item) {
      const list = document.createElement(item[1] ? "ol" : "ul");
      if (item[1]) list.start = Number(item[1]);
      for (let found; at < lines.length && (found = lines[at].match(/^\s*(?:[-*]|\d+[.)])\s+(.*)$/)); at += 1) {
        list.append(element("li", inline(found[1])));
      }
      blocks.push(list);
    } else if (line.trim() === "") {
      at += 1;
    } else {
      const start = at;
      while (at < lines.length && lines[at].trim() !== "" && !/^(```|#{1,6}\s|\s*([-*]|\d+[.)])\s)/.test(lines[at])) at += 1;
      blocks.push(element("p", inline(lines.slice(start, Math.max(at, start + 1)).join("\n"))));
      at = Math.max(at, start + 1);
    }
  }
  return blocks;
}

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)|\n/g;

function inline(text) {
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(INLINE)) {
    parts.push(text.slice(from, found.index));
    from = found.index + found[0].length;
    const [whole, code, strong, emphasis, label, href] = found;
    if (whole === "\n") parts.push(document.createElement("br"));
    else if (code) parts.push(element("code", [code]));
    else if (strong) parts.push(element("strong", [strong]));
    else if (emphasis) parts.push(element("em", [emphasis]));
    else {
      const link = element("a", [label]);
      link.href = href;
      link.rel = "noopener noreferrer";
      link.target = "_blank";
      parts.push(link);
    }
  }
  parts.push(text.slice(from));
  return parts.filter((part) => part !== "");
}

function element(tag, children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}
