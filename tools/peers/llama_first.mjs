// From the start of the process to llama.cpp's first token behind a prompt, beside `latent-briefing generate --max-tokens 1`.
//
//     npm i -E node-llama-cpp@3.21.1        in DIR
//     node llama_first.mjs MODEL PROMPT [THREADS]
//
// One line of JSON: seconds until the runtime was there (Node.js and its packages; no part of llama.cpp), and until the first token.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The package is looked for where this is run, not where the script lies.
const entry = createRequire(process.cwd() + "/").resolve("node-llama-cpp");
const { getLlama, LlamaChat } = await import(pathToFileURL(entry));
const runtime_s = performance.now() / 1e3;

const [, , modelPath, prompt, threads = "2"] = process.argv;
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 512, batchSize: 512, threads: Number(threads) });
const chat = new LlamaChat({ contextSequence: context.getSequence() });
let first_s;
await chat.generateResponse([{ type: "user", text: prompt }, { type: "model", response: [] }], {
    maxTokens: 1,
    temperature: 0,
    onToken: () => (first_s ??= performance.now() / 1e3),
});
console.log(JSON.stringify({ runtime_s, first_s }));
process.exit(0);
