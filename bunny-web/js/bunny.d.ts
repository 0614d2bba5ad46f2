/** What went wrong, in the engine's words. */
export class BunnyError extends Error {}

/**
 * A model's folder: an address, a tar archive of it (packed by gzip or not), or the files that a person chose
 * (`<input type="file" webkitdirectory>`).
 */
export type ModelFolder = string | URL | { archive: string | URL } | ArrayLike<File>;

/** How weights are held; `auto` is f32 for small models and as stored for others. */
export type Precision = "auto" | "f32" | "f16" | "int8" | "int4" | `${"int8" | "int4"}:${number}`;

export interface LoadOptions {
  /** Where `bunny-cli web` wrote its files: beside this module unless given, but for the package, which has its own. */
  site?: string | URL;
  /** The WebAssembly module, as it is or packed by gzip; `model` is then needed, unless it is inside or the package's. */
  wasm?: string | URL;
  /** Another model than the one of the site. */
  model?: ModelFolder;
  /** The language model that `model` belongs to, where that is an adapter or a projector. */
  base?: ModelFolder;
  /** The vision tower, where the model lacks it. */
  tower?: ModelFolder;
  precision?: Precision;
  /** Hears how far files have come; a `path` of null when all are there. */
  progress?: (event: { path: string | null; done?: number; length?: number }) => void;
  /** Gives up the loading: the promise is rejected with its reason. */
  signal?: AbortSignal;
}

export interface ModelInfo {
  name?: string;
  /** Positions of a conversation and its answer. */
  context: number;
  /** Positions that a picture takes. */
  picture_tokens: number;
  parameters: number;
  /** What the language model is held in. */
  precision: string;
  /** Bytes of memory that the module has. */
  memory: number;
}

/** A token that was chosen, and how likely the model found it where that was asked for. */
export interface Token {
  id: number;
  log_probability?: number;
  top?: [id: number, log_probability: number][];
}

/** How an answer is chosen; greedy, up to 512 tokens, unless told otherwise. */
export interface AnswerOptions {
  max_new_tokens?: number;
  min_new_tokens?: number;
  /** 0 takes the likeliest token every time. */
  temperature?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  repetition_penalty?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  seed?: number;
  stop?: string[];
  /** How many of the likeliest tokens come with each. */
  log_probabilities?: number;
  /** In place of the model's own system text. */
  system?: string;
  /** Hears the text as it comes, whole characters at a time. */
  listen?: (text: string, tokens: Token[]) => void;
  /** Stops the answer; what was said until then is returned. */
  signal?: AbortSignal;
}

export interface Message {
  role: "user" | "assistant";
  text: string;
  /** JPEG, PNG, WebP, GIF, BMP or TIFF. */
  pictures?: Blob[];
}

export interface Answer {
  answer: string;
  finish: "end_of_text" | "stop" | "length" | "interrupted";
  prompt_tokens?: number;
  completion_tokens?: number;
  /** Positions that were not known from before. */
  prefill_positions?: number;
  seconds?: { vision: number; prefill: number; decode: number };
}

export interface Embedding {
  tokens: number;
  hidden: number;
  /** `[tokens, hidden]`, row by row. */
  data: Float32Array;
}

/** A model in a Web Worker of this page. */
export class Bunny {
  static load(options?: LoadOptions): Promise<Bunny>;
  readonly info: ModelInfo;
  /** Asks about pictures and what was said before; a question asked meanwhile waits, and hears the answer before. */
  ask(text: string, options?: AnswerOptions & { pictures?: Blob[] }): Promise<Answer>;
  /** Answers the last of `messages`, and keeps nothing of them. */
  answer(messages: Message[], options?: AnswerOptions): Promise<Answer>;
  /** Stops all answers that are under way. */
  stop(): void;
  /** Forgets what was said and shown. */
  reset(): Promise<void>;
  /** What tower and projector make of a picture. */
  embed(picture: Blob): Promise<Embedding>;
  /** The ids of a text. */
  encode(text: string): Promise<number[]>;
  /** Ends the worker, and frees its memory. */
  close(): void;
}
