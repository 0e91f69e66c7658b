"""Vectors of texts by a folder exported for target cpu: embed_exported.py OUT TEXT ..."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import: it would report its use
import onnxruntime as ort

folder, texts = Path(sys.argv[1]), sys.argv[2:]
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
pooling = json.loads((folder / "manifest.json").read_text())["config"]["pooling"]

options = ort.SessionOptions()
options.log_severity_level = 3  # it warns of weights that may be fed, and need not be
session = ort.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])

for text in texts:
    tokens = np.int64([tokenizer.encode(text).ids])
    feeds = {"tokens": tokens, "token_types": np.zeros_like(tokens)}
    feeds["positions"] = np.arange(tokens.shape[1])[None]
    (vectors,) = session.run(["vectors"], feeds)[0]
    vector = {2: vectors[0], 3: vectors[-1]}.get(pooling, vectors.mean(0))
    print(json.dumps((vector / np.linalg.norm(vector)).tolist()))
