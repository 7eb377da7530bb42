// What llama.cpp makes of texts with a GGUF file: tokens, greedy continuations, and the log-probabilities behind each prompt.
//   npm i -E node-llama-cpp@3.21.1      (in a folder of its own, which brings llama.cpp's builds)
//   node llama.mjs MODEL.gguf texts.json out.json [NEW]
// texts.json: {"texts": [...], "prompts": [...]}; texts are tokenised alone, prompts are continued by NEW tokens (64).
// LLAMA_LOGPROBS=FILE writes the log-probabilities of every prompt's next token, little-endian f32, prompt after prompt.
import {getLlama} from "node-llama-cpp";
import fs from "fs";

const [,, path, input, output, count] = process.argv;
const {texts, prompts} = JSON.parse(fs.readFileSync(input));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: path});
const tokens = text => Array.from(model.tokenize(text, false, "trimLeadingSpace"));
const context = await model.createContext({contextSize: 1024, batchSize: 512, threads: 2});
const sequence = context.getSequence();

/// The likeliest next tokens, one after the other, and the distribution behind the prompt.
async function continued(prompt, most) {
    await sequence.clearHistory();
    const ids = [];
    let first;
    const options = {temperature: 0, yieldEogToken: true};
    for await (const step of sequence.evaluateWithMetadata(prompt, {probabilities: true}, options)) {
        first ??= step.probabilities;
        ids.push(step.token);
        if (ids.length >= most)
            break;
    }
    return [ids, first];
}

const rows = [], logs = [];
for (const text of prompts) {
    const prompt = tokens(text);
    const [greedy, first] = await continued(prompt, +(count ?? 64));
    const row = new Float32Array(first.size).fill(-Infinity);
    for (const [id, probability] of first)
        row[id] = Math.log(probability);
    logs.push(Buffer.from(row.buffer));
    rows.push({text, tokens: prompt, greedy});
}
const listed = texts.map(text => ({text, tokens: tokens(text)}));
fs.writeFileSync(output, JSON.stringify({texts: listed, prompts: rows}));
if (process.env.LLAMA_LOGPROBS)
    fs.writeFileSync(process.env.LLAMA_LOGPROBS, Buffer.concat(logs));
process.exit(0);
