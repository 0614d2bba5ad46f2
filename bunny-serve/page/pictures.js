// Pictures as the server takes them: JPEG, PNG, WebP and GIF as they are; what else this browser can read, as PNG.

/** What files of the kinds that are taken begin with, as the server has it. */
const KINDS = [
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/png", /^\x89PNG/],
  ["image/webp", /^RIFF[^]{4}WEBP/],
  ["image/gif", /^GIF8/],
];

/** The longest side of a picture that is converted: towers see less, and a PNG of a photograph is large. */
const LONGEST = 2048;

/** A file as a picture that the server takes. Its first bytes say what it is: types come from names, or lack. */
export async function taken(file) {
  try {
    const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
    const kind = KINDS.find(([, beginning]) => beginning.test(head))?.[0];
    if (kind) return file.type === kind ? file : new File([file], file.name, { type: kind });
    const untold = ["", "application/octet-stream"].includes(file.type);
    if (!untold && !file.type.startsWith("image/")) throw new TypeError(file.type);
    // Browsers know all kinds but this one by their bytes.
    const vectors = untold && head.startsWith("<");
    const png = await converted(vectors ? new Blob([file], { type: "image/svg+xml" }) : file);
    return new File([png], file.name, { type: "image/png" });
  } catch {
    // A folder that was dropped comes here too: it cannot be read.
    const name = file.name || "This file";
    throw new Error(`${name} is no JPEG, PNG, WebP or GIF, and no picture that this browser can convert.`);
  }
}

async function converted(blob) {
  const image = new Image();
  // From a blob's own address, drawings with text of HTML may be looked at but not read.
  image.src = await dataUrl(blob);
  await image.decode();
  return png(image);
}

async function png(image) {
  // Vectors need not say how large they are.
  const [width, height] = [image.naturalWidth || LONGEST / 2, image.naturalHeight || LONGEST / 2];
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  // Models see no transparency: black ink would be on black.
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  if (!blob) throw new TypeError("no picture");
  return blob;
}

/** A blob as an address that holds it. */
export function dataUrl(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(blob);
  });
}
