"""Trains the model on documents that are written as they are needed; none is seen twice."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.documents import BEGIN, END, PADDING, documents
from training.model import Dimensions, Transformer
from training.split import Split
from training.tokenizer import FILE as TOKENIZER_FILE

CHECKPOINT = Path(__file__).parent / "checkpoint.pt"
WARM_UP = 100
ANSWER_WEIGHT = 4.0
CANDIDATES = 8  # Documents drawn for each row of a batch; some four of them fit.


def draw_batch(tokenizer: Tokenizer, seed: int, split: Split, shape: tuple[int, int]) -> Tensor:
    """Packs whole documents into token ids of `shape` (batch, sequence), padded at the end."""
    rows: list[list[int]] = [[] for _ in range(shape[0])]
    for document in islice(documents(seed, split), CANDIDATES * len(rows)):
        ids = tokenizer.encode(document, add_special_tokens=False).ids
        row = next((row for row in rows if len(row) + len(ids) <= shape[1]), None)
        if row is not None:
            row += ids
    (padding,) = tokenizer.encode(PADDING).ids
    return torch.tensor([row + [padding] * (shape[1] - len(row)) for row in rows])


class Objective:
    """The training loss of a model.

    Answers weigh more: they are few among the tokens, and the only ones that call for reading.

    Args:
        model: Called with tokens and the numbers of their documents.
        tokenizer: Its special tokens delimit the documents.
    """

    def __init__(self, model: Callable[[Tensor, Tensor], Tensor], tokenizer: Tokenizer) -> None:
        self.model = model
        (self.begin,) = tokenizer.encode(BEGIN).ids
        (self.end,) = tokenizer.encode(END).ids
        (self.padding,) = tokenizer.encode(PADDING).ids
        self.answer = tokenizer.encode("Answer:").ids[0]
        pieces = [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())]
        self.ends_line = torch.tensor(["\n" in piece for piece in pieces])

    def __call__(self, batch: Tensor) -> Tensor:
        """Weighted mean cross-entropy, in nats a token, of predicting `batch` shifted by one."""
        tokens, targets = batch[:, :-1], batch[:, 1:]
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(tokens, (tokens == self.begin).cumsum(1))
        losses = cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
        weights = torch.where(self.in_answer(tokens), ANSWER_WEIGHT, 1.0)
        weights = weights * (targets != self.padding)
        return (losses * weights).sum() / weights.sum()

    def in_answer(self, tokens: Tensor) -> Tensor:
        """Marks the tokens from ``Answer`` up to the end of the line or of the document."""
        positions = torch.arange(tokens.shape[1])
        opens = tokens == self.answer
        closes = self.ends_line[tokens] | (tokens == self.end)
        opened = torch.where(opens, positions, -1).cummax(1).values
        closed = torch.where(closes, positions, -1).cummax(1).values
        return opened > closed


def rate_factor(step: int, steps: int) -> float:
    """Learning rate relative to its peak: linear warm-up, then linear decay to zero."""
    return min((step + 1) / WARM_UP, (steps - step) / (steps - WARM_UP))


def make_optimizers(model: Transformer, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [model.embedding.weight], "weight_decay": 0.1},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=rate,
            betas=(0.9, 0.95),
            fused=True,
        ),
    ]


def train(arguments: argparse.Namespace) -> None:
    """Runs `arguments.steps` steps, from the last checkpoint on with ``--resume``."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    tokenizer = Tokenizer.from_file(str(TOKENIZER_FILE))
    model = Transformer(Dimensions())
    optimizers = make_optimizers(model, arguments.rate)
    start = 0
    if arguments.resume:
        state: dict[str, Any] = torch.load(CHECKPOINT)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    shape = (arguments.batch, model.dims.context + 1)
    heldout = draw_batch(tokenizer, 0, Split.HELDOUT, shape)
    objective = Objective(torch.compile(model), tokenizer)
    clock = time.perf_counter()
    for step in range(start, arguments.steps):
        factor = rate_factor(step, arguments.steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = arguments.rate * factor
        loss = objective(draw_batch(tokenizer, step, Split.TRAIN, shape))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        done = step + 1
        if done % 10 == 0:
            speed = 10 * shape[0] * model.dims.context / (time.perf_counter() - clock)
            print(f"step {done} loss {loss.item():.4f} tokens/s {speed:.0f}", flush=True)
            clock = time.perf_counter()
        if done % arguments.save_every == 0 or done == arguments.steps:
            with torch.no_grad():
                print(f"step {done} held-out loss {objective(heldout).item():.4f}", flush=True)
            state = {
                "step": done,
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            }
            partial = CHECKPOINT.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(CHECKPOINT)


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2600, help="length of the run")
    parser.add_argument("--batch", type=int, default=8, help="sequences a step")
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights")
    parser.add_argument("--threads", type=int, default=2, help="threads of the processor")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
