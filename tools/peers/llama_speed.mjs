// What llama.cpp takes for a GGUF file, beside `cargo run --release -p lb-perf --example throughput -- --llama DIR`.
//
//     npm i -E node-llama-cpp@3.21.1        in DIR
//     node llama_speed.mjs MODEL PROMPT_TOKENS DECODED_TOKENS RUNS [THREADS] [flash]
//
// One line of JSON: medians of the speed of reading the prompt and of decoding behind it, tokens a second.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The package is looked for where this is run, not where the script lies.
const entry = createRequire(process.cwd() + "/").resolve("node-llama-cpp");
const { getLlama } = await import(pathToFileURL(entry));

const [, , modelPath, prompt, decoded, runs, threads = "2", flash] = process.argv;
const [n, d] = [Number(prompt), Number(decoded)];
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
let begin = performance.now();
const model = await llama.loadModel({ modelPath });
const load_s = (performance.now() - begin) / 1e3;
const context = await model.createContext({
    contextSize: n + d + 64,
    batchSize: 512,
    threads: Number(threads),
    flashAttention: flash === "flash",
    ...(flash === "flash" ? { experimentalKvCacheKeyType: "Q8_0", experimentalKvCacheValueType: "Q8_0" } : {}),
});
const sequence = context.getSequence();
const line = "The Oslo ledger is kept by Ana while seven clerks copy its pages into the register of the harbour. ";
const tokens = model.tokenize(line.repeat(Math.ceil(n / 12))).slice(0, n);
const [prefill, decode] = [[], []];
for (let run = 0; run < Number(runs); run++) {
    await sequence.clearHistory();
    begin = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, n - 1));
    prefill.push((n - 1) / ((performance.now() - begin) / 1e3));
    let [count, first] = [0, 0];
    for await (const _ of sequence.evaluate([tokens[n - 1]], { temperature: 0 })) {
        if (count === 0) first = performance.now();
        if (++count > d) break;
    }
    decode.push((count - 1) / ((performance.now() - first) / 1e3));
}
const median = values => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const peak_mib = process.resourceUsage().maxRSS / 1024;
console.log(JSON.stringify({ load_s, peak_mib, prefill: median(prefill), decode: median(decode) }));
process.exit(0);
