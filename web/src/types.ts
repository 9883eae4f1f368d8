/**
 * Where a model comes from: a known name, the URL of a GGUF file (any part of a split one means all of
 * it), the URLs or files of the parts of one, a file, or a model in safetensors.
 */
export type ModelSource = string | Blob | ReadableStream<Uint8Array> | readonly (string | Blob)[] | SafetensorsSource;

/** Which GPU to ask for where a machine has several; the browser may give another. */
export type AdapterPreference = "high-performance" | "low-power";

/** How the KV cache stores keys and values: halves, or bytes with a scale for each position and head, which take
 * about half the memory. */
export type KvCacheType = "f16" | "q8";

/** A model in safetensors, by URL. */
export interface SafetensorsSource {
  /** `config.json`. */
  config: string;
  /** `tokenizer.json`. */
  tokenizer: string;
  /** `tokenizer_config.json`, with the chat template. */
  tokenizerConfig?: string;
  /** `generation_config.json`. */
  generationConfig?: string;
  /** `chat_template.jinja`. */
  chatTemplate?: string;
  /** The weights: one file or its shards. */
  safetensors: string | string[];
  /** sentence-transformers' files, where they are: how the model makes embeddings. */
  embedding?: EmbeddingFiles;
}

/** sentence-transformers' files of an embedding model, by URL. */
export interface EmbeddingFiles {
  /** `modules.json`. */
  modules: string;
  /** `1_Pooling/config.json`. */
  pooling?: string;
  /** `sentence_bert_config.json`. */
  transformer?: string;
  /** `config_sentence_transformers.json`. */
  prompts?: string;
}

/** A LoRA adapter as PEFT saves it, each file by URL or as a file. */
export interface AdapterSource {
  /** `adapter_config.json`. */
  config: string | Blob;
  /** `adapter_model.safetensors`. */
  weights: string | Blob;
  /** Headers for fetching them. */
  headers?: Record<string, string>;
}

/** How far a load has come. */
export interface InitProgress {
  /** What is going on: bytes arrive, bytes go to the adapter, shaders compile. */
  phase: "download" | "upload" | "compile";
  /** Share of the phase that is done, 0 to 1. */
  progress: number;
  /** Bytes so far; in the download, of the file. */
  loaded: number;
  /** All bytes; 0 where the server does not say. */
  total: number;
  /** The file, in the download. */
  file?: string;
  /** Which of how many files it is, counted from 1, where a model has several. */
  part?: { number: number; count: number };
  /** Seconds since the load began. */
  timeElapsed: number;
  /** One line for people. */
  text: string;
}

/** Options of {@link CreateEngine}. */
export interface EngineOptions {
  /** Called as the load goes on. */
  initProgressCallback?: (progress: InitProgress) => void;
  /** Ends the load. */
  signal?: AbortSignal;
  /** Run in a dedicated worker, so that the page stays smooth; true by default. A worker of one's
   * own that imports `fireside-llm/worker` is taken too. */
  worker?: boolean | Worker;
  /** Which GPU to ask for where there are several; "high-performance" by default. */
  adapter?: AdapterPreference;
  /** Keep downloads on the device; true by default. */
  cache?: boolean;
  /** Positions of the KV cache, for all requests together; 4096 or the model's by default. */
  contextSize?: number;
  /** How the KV cache of a model that generates text stores keys and values; "f16" by default. */
  kvCacheType?: KvCacheType;
  /** SHA-256 of the GGUF file, in hexadecimal, or of each of its parts in their order; checked as it
   * arrives. */
  sha256?: string | readonly string[];
  /** Headers for the download. */
  headers?: Record<string, string>;
  /** Where the WASM module lies, if not beside this package. */
  wasmUrl?: string;
}

/** A message of a conversation. */
export interface ChatMessage {
  role: "system" | "user" | "assistant" | "tool" | (string & {});
  content: string | { type: "text"; text: string }[] | null;
  [field: string]: unknown;
}

/** Parameters that chats and completions share. A null is as good as nothing. */
export interface GenerationParameters {
  /** The name of a LoRA adapter or the model's; while no adapter has been loaded, any name means the model. */
  model?: string | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  min_tokens?: number | null;
  /** 0 is greedy; 1 by default. */
  temperature?: number | null;
  top_k?: number | null;
  top_p?: number | null;
  min_p?: number | null;
  typical_p?: number | null;
  repetition_penalty?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  logit_bias?: Record<string, number> | null;
  /** The same seed gives the same text. */
  seed?: number | null;
  stop?: string | string[] | null;
  stop_token_ids?: number[] | null;
  ignore_eos?: boolean | null;
  /** Sequences per prompt. */
  n?: number | null;
  stream_options?: { include_usage?: boolean } | null;
}

/** A body of `chat.completions.create`. */
export interface ChatRequest extends GenerationParameters {
  messages: ChatMessage[];
  stream?: boolean | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  continue_final_message?: boolean | null;
  /** Begin the answer as the template does; true unless `continue_final_message` is. */
  add_generation_prompt?: boolean | null;
  chat_template_kwargs?: Record<string, unknown> | null;
}

/** A body of `completions.create`. */
export interface CompletionRequest extends GenerationParameters {
  prompt: string | string[] | number[] | number[][];
  stream?: boolean | null;
  echo?: boolean | null;
  logprobs?: number | null;
  best_of?: number | null;
}

/** A body of `embeddings.create`. */
export interface EmbeddingsRequest {
  /** Takes any name; the reply has the loaded model's. */
  model?: string | null;
  /** Texts, or their tokens. */
  input: string | string[] | number[] | number[][];
  /** `base64` for little-endian 32-bit floats. */
  encoding_format?: "float" | "base64" | null;
  /** Keep only so many of the first values. */
  dimensions?: number | null;
  /** Give embeddings the length 1; what the model's files say by default. */
  normalize?: boolean | null;
  /** Cut texts that are too long instead of refusing them. */
  truncate?: boolean | null;
  /** The name of the model's prompt to put before each text. */
  prompt_name?: string | null;
}

/** A reply with embeddings, in the order of the texts. */
export interface Embeddings<Vector = number[]> {
  object: "list";
  data: { object: "embedding"; index: number; embedding: Vector }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

/** A body of `rerank`. */
export interface RerankRequest {
  /** Takes any name; the reply has the loaded model's. */
  model?: string | null;
  /** What the documents are to answer. */
  query: string;
  /** Texts, or objects that have one. */
  documents: (string | { text: string })[];
  /** Give only so many of the best; 0 for all. */
  top_n?: number | null;
  /** Give the documents with their scores, as by default. */
  return_documents?: boolean | null;
  /** Cut queries and documents that are too long instead of refusing them: the longer one first. */
  truncate?: boolean | null;
  /** Give logits (true) or probabilities (false); what the model's files say by default. */
  raw_scores?: boolean | null;
}

/** A reply with scores, the best first. */
export interface Reranked {
  id: string;
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
  /** `index` is the document's place in the request. */
  results: { index: number; relevance_score: number; document?: { text: string } }[];
}

export type FinishReason = "stop" | "length" | "abort";

/** Log-probabilities of a token. */
export interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[];
  top_logprobs: { token: string; logprob: number; bytes: number[] }[];
}

/** Counts of a reply. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: {
    /** Tokens of the prompt that earlier requests had left in the KV cache. */
    cached_tokens: number;
  };
  extra: {
    prefill_tokens_per_s: number;
    decode_tokens_per_s: number;
    time_to_first_token_s: number;
    time_per_output_token_s: number;
    e2e_latency_s: number;
  };
}

interface Envelope<Kind extends string, Choice> {
  id: string;
  object: Kind;
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: Choice[];
}

/** A whole chat reply. */
export interface ChatCompletion
  extends Envelope<
    "chat.completion",
    {
      index: number;
      message: { role: "assistant"; content: string };
      logprobs: { content: TokenLogprob[] } | null;
      finish_reason: FinishReason;
    }
  > {
  usage: Usage;
}

/** A piece of a chat reply. */
export interface ChatCompletionChunk
  extends Envelope<
    "chat.completion.chunk",
    {
      index: number;
      delta: { role?: "assistant"; content?: string };
      logprobs: { content: TokenLogprob[] } | null;
      finish_reason: FinishReason | null;
    }
  > {
  usage?: Usage;
}

/** A text completion, or a piece of one. */
export interface Completion
  extends Envelope<
    "text_completion",
    {
      index: number;
      text: string;
      logprobs: unknown;
      finish_reason: FinishReason | null;
    }
  > {
  usage?: Usage;
}

/** What is loaded, and where. */
export interface EngineInfo {
  /** The model's name. */
  model: string;
  /** What it makes: text, embeddings, or scores of texts. */
  task: "text-generation" | "feature-extraction" | "text-ranking";
  /** The family, such as `llama`. */
  architecture: string;
  /** Positions the model knows. */
  context: number;
  /** Positions of the KV cache. */
  contextSize: number;
  /** How it stores keys and values, where the model generates text. */
  kvCacheType?: KvCacheType;
  /** Values of an embedding, where it makes some. */
  dimensions?: number;
  /** Bytes of weights on the adapter. */
  weightBytes: number;
  /** Bytes of the KV cache. */
  cacheBytes: number;
  /** The adapter's name. */
  adapter: string;
  /** Whether it is a CPU that plays a GPU. */
  software: boolean;
}

/** Counters: of the module since it started, and of the engine as of its last step. */
export interface Counters {
  wasmBytes: number;
  dispatches: number;
  submits: number;
  readBytes: number;
  uploadedBytes: number;
  pipelines: number;
  /** Sequences that hold blocks of the KV cache. */
  running: number;
  /** Sequences that wait for a place. */
  waiting: number;
  /** Steps since the model was loaded; requests share them. */
  steps: number;
  /** Tokens of all prompts that began to run. */
  promptTokens: number;
  /** Those of them that earlier requests had left in the KV cache. */
  cachedTokens: number;
  generatedTokens: number;
  /** How often a sequence had to give its blocks to an older one. */
  preemptions: number;
  /** Blocks of the KV cache. */
  blocks: number;
  usedBlocks: number;
  /** Blocks that nothing uses, kept for prompts that begin alike. */
  cachedBlocks: number;
}
