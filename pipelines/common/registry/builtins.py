"""What ships with the project, registered through the hooks that every plugin uses."""

from __future__ import annotations

from pipelines.common.checkpoints.huggingface.model import HuggingFaceModel
from pipelines.common.encodings import ENCODINGS
from pipelines.common.registry.hookspecs import (
    CommandRecord,
    OpPackageRecord,
    PipelineRecord,
    SamplerRecord,
    TargetRecord,
    TaskRecord,
    TokenizerRecord,
    WeightFormatRecord,
    hookimpl,
)
from pipelines.common.shipped import shipped


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """Llama 3 and 2, and a pipeline that needs no weights."""
    return [
        PipelineRecord(
            name="llama3",
            summary="Llama 3, 3.1 and 3.2; a small model is bundled.",
            load="pipelines.llama3.pipeline:load",
            architectures=("llama",),
            translations=tuple(
                HuggingFaceModel(kind, "llama", defaults=defaults)
                for kind, defaults in {
                    "llama": {},
                    "mistral": {},
                    "mixtral": {"rope_theta": 1e6},
                }.items()
            ),
            short_names={
                "llama3-8b": "meta-llama/Meta-Llama-3-8B",
                "llama3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
                "llama3.1-8b": "meta-llama/Llama-3.1-8B",
                "llama3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
                "llama3.2-1b": "meta-llama/Llama-3.2-1B",
                "llama3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
                "llama3.2-3b": "meta-llama/Llama-3.2-3B",
                "llama3.2-3b-instruct": "meta-llama/Llama-3.2-3B-Instruct",
            },
        ),
        # A file does not say which Llama it is, and `run` takes the pipeline above: so no
        # architecture is named here, and who means Llama 2 names the pipeline.
        PipelineRecord(
            name="llama2",
            summary="Llama 2, with its chat format where a model has none.",
            load="pipelines.llama2.pipeline:load",
            short_names={
                "llama2-7b": "meta-llama/Llama-2-7b-hf",
                "llama2-7b-chat": "meta-llama/Llama-2-7b-chat-hf",
                "llama2-13b": "meta-llama/Llama-2-13b-hf",
                "llama2-13b-chat": "meta-llama/Llama-2-13b-chat-hf",
            },
        ),
        PipelineRecord(
            name="echo",
            summary="Repeats the prompt; needs no weights.",
            load="pipelines.echo.pipeline:EchoPipeline",
        ),
    ]


@hookimpl
def register_tasks() -> list[TaskRecord]:
    """Text that goes on, and vectors of texts."""
    return [
        TaskRecord(
            name="generate",
            summary="Continues prompts, one or a batch.",
            command="pipelines.common.cli.generate:command",
        ),
        TaskRecord(
            name="embed",
            summary="Makes vectors of texts, and finds those that are alike.",
            command="pipelines.common.cli.embed:command",
        ),
    ]


@hookimpl
def register_targets() -> list[TargetRecord]:
    """ONNX Runtime on the CPU, on NVIDIA's GPUs and on Apple's, and eager PyTorch."""
    return [
        TargetRecord(
            name="cpu",
            summary="ONNX Runtime on the CPU.",
            requires=("onnxruntime",),
            load="pipelines.common.targets.cpu:CpuTarget",
            preference=10,
        ),
        TargetRecord(
            name="cuda",
            summary="ONNX Runtime on NVIDIA GPUs.",
            requires=("onnxruntime",),
            load="pipelines.common.targets.cuda:CudaTarget",
            preference=30,
        ),
        TargetRecord(
            name="coreml",
            summary="ONNX Runtime on Apple's GPU and Neural Engine.",
            requires=("onnxruntime",),
            load="pipelines.common.targets.coreml:CoreMLTarget",
        ),
        TargetRecord(
            name="torch",
            summary="The model's network, run eagerly by PyTorch: the reference.",
            requires=("torch",),
            load="pipelines.common.targets.torch:TorchTarget",
        ),
    ]


@hookimpl
def register_weight_formats() -> list[WeightFormatRecord]:
    """GGUF, and folders of Hugging Face's hub and of Meta's."""
    return [
        WeightFormatRecord(
            name="gguf",
            summary=f"GGUF: tensors in {', '.join(map(str.upper, ENCODINGS))}.",
            suffixes=(".gguf",),
            open="pipelines.common.checkpoints.gguf.reader:open_gguf",
            magic=(b"GGUF",),
        ),
        WeightFormatRecord(
            name="huggingface",
            summary="Folders of Hugging Face's hub: config.json and safetensors.",
            suffixes=(".safetensors",),
            open="pipelines.common.checkpoints.huggingface.folder:open_folder",
            files=("config.json", "model.safetensors.index.json"),
        ),
        WeightFormatRecord(
            name="meta",
            summary="Meta's folders: params.json and consolidated.*.pth, read by PyTorch.",
            suffixes=(".pth",),
            open="pipelines.common.checkpoints.meta.folder:open_folder",
            files=("params.json",),
        ),
    ]


@hookimpl
def register_tokenizers() -> list[TokenizerRecord]:
    """Those of decoders, and that of BERT."""
    return [
        TokenizerRecord(
            name="gpt2",
            summary="Byte-level BPE, with merges.",
            load="pipelines.common.checkpoints.gguf.byte_pairs:load",
        ),
        TokenizerRecord(
            name="llama",
            summary="SentencePiece's BPE, with scores.",
            load="pipelines.common.checkpoints.gguf.sentence_pieces:load",
        ),
        TokenizerRecord(
            name="gemma4",
            summary="BPE over characters, with merges.",
            load="pipelines.common.checkpoints.gguf.spaced_byte_pairs:load",
        ),
        TokenizerRecord(
            name="bert",
            summary="Word pieces, for encoders.",
            load="pipelines.common.checkpoints.gguf.word_pieces:load",
        ),
    ]


@hookimpl
def register_op_packages() -> list[OpPackageRecord]:
    """The native CPU kernels."""
    folder = shipped("custom_ops")
    if folder is None:
        return []
    return [
        OpPackageRecord(
            name="native",
            summary="CPU kernels for block-encoded and float weights, and for attention.",
            path=folder / "native",
            everywhere=True,
        ),
    ]


@hookimpl
def register_commands() -> list[CommandRecord]:
    """What can be done with pipelines, models, plugins and the cache."""
    return [
        CommandRecord(name, summary, command=f"pipelines.common.cli.{command}")
        for name, summary, command in (
            ("run", "Run a model with the pipeline that it is for.", "generate:generate"),
            ("chat", "Talk with a model.", "generate:talk"),
            ("prompts", "List the prompts that there are by name.", "prompts_command:prompts"),
            ("list", "List what plugins and the project bring.", "listing:list_all"),
            ("targets", "Show what models can run on here.", "targets:list_targets"),
            ("doctor", "Look for what is wrong, and what to do about it.", "doctor:doctor"),
            ("inspect", "Show what is in a model file or an exported folder.", "inspect:inspect"),
            ("convert", "Write a model as one GGUF file.", "convert:convert"),
            ("quantize", "Write a model as a GGUF file in fewer bits.", "convert:quantize"),
            ("check", "Check pipelines and targets on random weights.", "check:check"),
            ("new", "Begin a plugin: a pipeline, op package, target or task.", "new:new"),
            ("graph", "Show what is built for a model on a target.", "graph:show_graph"),
            ("export", "Export a model to a folder that runs alone.", "export:export"),
            ("warm-cache", "Build ahead what later runs need.", "warm_cache:warm_cache"),
            ("perplexity", "Score a text by how well a model expects it.", "perplexity:perplexity"),
            ("choices", "Score a model by multiple choice.", "choices:choices"),
            ("bench", "Measure how fast a model reads and generates.", "bench:bench"),
            ("tokenize", "Show the tokens of a text: ids and pieces.", "tokenize:tokenize"),
            ("cache", "List or clear what is kept between runs.", "cache:app"),
            ("ops", "List, check or build custom op packages.", "ops:app"),
        )
    ]


@hookimpl
def register_samplers() -> list[SamplerRecord]:
    """Those of llama.cpp."""
    return [
        SamplerRecord(name, summary, load=f"pipelines.common.engine.sampling.order:{name}")
        for name, summary in (
            ("penalties", "Makes less likely what has occurred."),
            ("dry", "Makes less likely what goes on with a repeated sequence."),
            ("top_n_sigma", "Keeps logits that are near the largest."),
            ("top_k", "Keeps the k most likely."),
            ("typ_p", "Keeps the most typical."),
            ("top_p", "Keeps the most likely of a joint probability."),
            ("min_p", "Keeps those nearly as likely as the likeliest."),
            ("xtc", "Leaves out the likeliest now and then."),
            ("temperature", "Divides the logits."),
        )
    ]
