// What an application does, for tsc.

import { Bunny, BunnyError, type Answer, type Embedding, type Message } from "bunny-web";

export async function ask(picture: Blob, question: string): Promise<Answer> {
  const control = new AbortController();
  const bunny = await Bunny.load({
    model: { archive: new URL("https://models.example/own.tar.gz") },
    precision: "int4:32",
    signal: control.signal,
    progress: ({ path, done = 0, length = 1 }) => console.log(path ?? "all", done / length),
  });
  try {
    console.log(bunny.info.parameters, bunny.info.context);
    const before: Message[] = [{ role: "user", text: question, pictures: [picture] }];
    const first: Answer = await bunny.answer(before, { temperature: 0.2, stop: ["\n"], log_probabilities: 2 });
    const { tokens, hidden, data }: Embedding = await bunny.embed(picture);
    console.log(first.finish === "length", data.length === tokens * hidden, (await bunny.encode(question)).length);
    return await bunny.ask(question, { pictures: [picture], listen: (text, tokens) => console.log(text, tokens[0]?.id) });
  } catch (error) {
    if (error instanceof BunnyError) console.log(error.message);
    throw error;
  } finally {
    bunny.stop();
    await bunny.reset();
    bunny.close();
  }
}

// @ts-expect-error: no such role
export const wrong: Message = { role: "robot", text: "" };
