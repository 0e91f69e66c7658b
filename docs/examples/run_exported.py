"""Continues a text with a folder exported for target cpu: run_exported.py OUT TEXT TOKENS."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import: it would report its use
import onnxruntime as ort

folder, text, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
config = json.loads((folder / "tokenizer_config.json").read_text())
ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
rotations = json.loads((folder / "manifest.json").read_text())["rotations"]

options = ort.SessionOptions()
options.log_severity_level = 3  # it warns of weights that may be fed, and need not be
session = ort.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])

tokens = tokenizer.encode(text, add_special_tokens=False).ids
if config["add_bos_token"]:
    tokens.insert(0, tokenizer.token_to_id(config["bos_token"]))
length = -(-(len(tokens) + count) // 16) * 16  # of the KV state: a multiple of 16
inputs = {value.name: value.shape for value in session.get_inputs()}
feeds = {}
for turn in rotations:
    frequencies, magnitude = np.float32(turn["frequencies"]), turn["magnitude"]
    angles = np.float64(np.arange(length, dtype=np.float32)[:, None] * frequencies)
    feeds[turn["cos"]] = np.float32(np.cos(angles) * magnitude)
    feeds[turn["sin"]] = np.float32(np.sin(angles) * magnitude)
state = [name for name in inputs if name.startswith(("key.", "value."))]
feeds |= {n: np.zeros((1, inputs[n][1], length, inputs[n][3]), np.float32) for n in state}
new, start = [], 0
while len(new) < count and not (new and new[-1] in ends):
    feeds |= {"tokens": np.int64([tokens[start:]]), "wanted": np.int64([[len(tokens) - start - 1]])}
    feeds |= {"past": np.int32([start]), "total": np.int32([len(tokens)])}
    logits, *halves = session.run(None, {name: feeds[name] for name in inputs})
    feeds |= zip(state, halves, strict=True)
    new.append(int(logits.argmax()))
    start = len(tokens)
    tokens.append(new[-1])
print(tokenizer.decode(new))
