"""The batched training attention gives the same logits as asking one question at a time with stock attention."""

import random
import sys

import torch

sys.argv = [sys.argv[0], *sys.argv[1:]]
import train
from data import Batch, Episodes, episode_row

args = train.arguments()
tok = train.load_tokenizer(args)
torch.manual_seed(0)
model = train.new_model(args, tok).eval()
stream = Episodes(args.episodes, "train", (60, 120), 5, 7, tok)
rows = [episode_row(stream, 5) for _ in range(3)]
batch = Batch(rows)
with torch.no_grad():
    train.attention.layout(batch, "cpu")
    ours = model(input_ids=batch.tokens, position_ids=batch.positions, attention_mask=torch.zeros(1, 1, 1, 1)).logits
    model.config._attn_implementation = "eager"
    worst = 0.0
    for r, row in enumerate(rows):
        log = sum(row["log"], [])
        start = batch.log
        for tokens, *_ in row["qa"]:
            alone = model(input_ids=torch.tensor([log + tokens])).logits[0, len(log):]
            worst = max(worst, (ours[r, start:start + len(tokens)] - alone).abs().max().item())
            start += len(tokens)
print("largest logit difference", worst)
assert worst < 1e-4
