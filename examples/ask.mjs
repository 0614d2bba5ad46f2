// Asks a running `bunny-cli serve` about a picture; Node 18 or later, no packages.
//   node examples/ask.mjs examples/pictures/shapes.jpg "What is in the picture?"
import { readFileSync } from "node:fs";

const [, , file, text] = process.argv;
const url = `data:;base64,${readFileSync(file, "base64")}`;
const response = await fetch(`${process.env.BUNNY_SERVER ?? "http://127.0.0.1:8000"}/v1/chat/completions`, {
  method: "POST",
  headers: { "Content-Type": "application/json", Authorization: `Bearer ${process.env.BUNNY_KEY ?? "none"}` },
  body: JSON.stringify({ temperature: 0, messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }, { type: "text", text }] }] }),
});
const { choices, error } = await response.json();
console.log(error?.message ?? choices[0].message.content);
