"""The logits behind each prompt and greedy continuations, by transformers' own loading of a GGUF file in f32.

    pip install torch transformers gguf
    python transformers_gguf.py MODEL.gguf llama.json out.json [NEW]

llama.json is what llama.mjs wrote: its prompts are used as tokens, so that only the model is compared. The logits go to
out.f32 beside out.json, little-endian f32, prompt after prompt.
"""

import json
import pathlib
import sys

import torch
import transformers

path, given, output = (pathlib.Path(argument) for argument in sys.argv[1:4])
new = int(sys.argv[4]) if len(sys.argv) > 4 else 64
torch.set_num_threads(1)
model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
rows, logits = [], []
for prompt in json.loads(given.read_text())["prompts"]:
    tokens = torch.tensor([prompt["tokens"]])
    with torch.no_grad():
        logits.append(model(tokens).logits[0, -1].float())
        greedy = model.generate(tokens, max_new_tokens=new, min_new_tokens=new, do_sample=False, repetition_penalty=1.0)
    rows.append({"text": prompt["text"], "greedy": greedy[0, tokens.shape[1] :].tolist()})
output.write_text(json.dumps({"transformers": transformers.__version__, "prompts": rows}))
output.with_suffix(".f32").write_bytes(torch.stack(logits).numpy().tobytes())
