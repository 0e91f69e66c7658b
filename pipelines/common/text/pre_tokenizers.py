"""How text is cut into words before it is merged into tokens, by the names that GGUF files use.

The GGUF specification leaves open which names there are and what they imply; llama.cpp decides that
(``src/llama-vocab.cpp``). Here are those of its names that stand for byte-level BPE without tokens
that end a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class PreTokenizer:
    """What a value of ``tokenizer.ggml.pre`` stands for.

    Attributes:
        splits: Regular expressions that cut the text into words, one after another.
        ignore_merges: Whether a word that is a token is taken whole, whatever the merges say.
        adds_bos: Whether a text begins with BOS where ``add_bos_token`` does not tell.
        composes: Whether the text is brought into Unicode's composed form (NFC) first.
    """

    splits: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False
    composes: bool = False


_CONTRACTIONS: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES: Final = r"\s+(?!\S)|\s+"
_CJK: Final = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


def _words(digits: str, *, before: str = f"{_CONTRACTIONS}|", spaces: str = _SPACES) -> str:
    """The split that came with OpenAI's cl100k, which models vary.

    Args:
        digits: How numbers are cut.
        before: What is looked for first.
        spaces: How what is left of spaces is cut.
    """
    return (
        rf"{before}[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{spaces}"
    )


def _cased_words(ending: str, digits: str, *, but: str = "", after: str = r"[\r\n/]*") -> str:
    """The split that came with OpenAI's o200k, where a capital begins a new word.

    Args:
        ending: What may end a word beside letters.
        digits: How numbers are cut.
        but: What is taken out of the letters of a word, at the end of a class.
        after: What punctuation takes with it.
    """
    before = r"[^\r\n\p{L}\p{N}]?"
    upper = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]"
    lower = rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]"
    return (
        f"{before}{upper}*{lower}+{ending}|{before}{upper}+{lower}*{ending}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+{after}|\s*[\r\n]+|{_SPACES}"
    )


_GPT2_WORDS: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT2: Final = PreTokenizer((_GPT2_WORDS,))
_DIGITS_AND_GPT2: Final = PreTokenizer((r"\p{N}", _GPT2_WORDS))
_FALCON: Final = PreTokenizer((r"[\p{P}$+<=>^~|`]+", _GPT2_WORDS, "[0-9][0-9][0-9]"))
_BETWEEN_STOPS: Final = " ?[^\\s|.,!?()\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c]+"
_BLOOM: Final = PreTokenizer((_BETWEEN_STOPS,))
_VIKING: Final = PreTokenizer((_BETWEEN_STOPS, r"\p{N}"))
DEFAULT: Final = PreTokenizer((r"[\p{P}$+<=>^~|]+", _GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]"))
_CL100K: Final = PreTokenizer((_words(r"\p{N}{1,3}"),))
_GLM4: Final = replace(_CL100K, ignore_merges=True)
LLAMA3: Final = replace(_GLM4, adds_bos=True)
_CL100K_BY_DIGIT: Final = PreTokenizer((_words(r"\p{N}"),))
_UFAKZEKA: Final = PreTokenizer((_words(r"\p{N}", before=""),))
_LAGUNA: Final = PreTokenizer((r"[^\n]+|[\n]+", *_CL100K_BY_DIGIT.splits))
_MINICPM5: Final = PreTokenizer((r"\p{N}{1,3}", _words(r"\p{N}+")), ignore_merges=True)
_JAIS2: Final = PreTokenizer(
    (
        _words(
            r"\p{N}{1,3}",
            spaces="".join(rf"\s{{{1 << n}}}(?!\S)|" for n in range(9, 1, -1))
            + r"\s{1,2}(?!\S)|\s",
        ),
    )
)
_QWEN2: Final = replace(_CL100K_BY_DIGIT, composes=True)
_QWEN35: Final = PreTokenizer(
    (
        _CONTRACTIONS
        + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
        + r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    composes=True,
)
_O200K: Final = PreTokenizer((_cased_words(f"{_CONTRACTIONS}?", r"\p{N}{1,3}"),))
_TINY_AYA: Final = PreTokenizer((r"\d{1,3}(?=(?:\d{3})*\b)", *_O200K.splits))
_KIMI_K2: Final = PreTokenizer(
    (
        r"\p{Han}+|"
        + _cased_words(f"{_CONTRACTIONS}?", r"\p{N}{1,3}", but=r"&&[^\p{Han}]", after=r"[\r\n]*"),
    )
)
_YOUTU: Final = PreTokenizer(
    (
        "[\uac00-\ud7a3\u3131-\u318e]+"
        "|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
        f"|[\u3105-\u312f]+|{_CJK}",
        _cased_words(f"{_CONTRACTIONS}?", r"\p{N}"),
    ),
    ignore_merges=True,
)
_TEKKEN: Final = PreTokenizer((_cased_words("", r"\p{N}"),), ignore_merges=True, adds_bos=True)
_CASED_LETTERS: Final = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
)
"""Those of DeepSeek LLM: Unicode's, but for some blocks, as those of formulas."""

_DEEPSEEK_LLM: Final = PreTokenizer(
    (
        r"[\r\n]",
        rf"\s?[{_CASED_LETTERS}]+",
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$",
        "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
        r"\p{N}+",
    )
)
_DEEPSEEK_CODER: Final = PreTokenizer(
    (
        r"[\r\n]",
        r"\s?\p{L}+",
        r"\s?\p{P}+",
        "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
        r"\p{N}",
    )
)
_MARKED_WORDS: Final = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+"
)
_MARKED_WORDS_AND_LINES: Final = rf"{_MARKED_WORDS}[\r\n]*|\s*[\r\n]+|{_SPACES}"
_DEEPSEEK3: Final = PreTokenizer((r"\p{N}{1,3}", _CJK, _MARKED_WORDS_AND_LINES))
_SPARK2_5: Final = PreTokenizer(
    (r"\p{N}{1,3}", _CJK, rf"{_MARKED_WORDS}|[\r\n]|{_SPACES}", r"\p{N}")
)
_AFMOE: Final = PreTokenizer(
    (
        r"\p{N}{1,2}(?=(?:\p{N}{3})*(?!\p{N}))|\p{N}{3}",
        "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf"
        "\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af"
        "\u1100-\u11ff]+",
        _MARKED_WORDS_AND_LINES,
    )
)
_SEED_CODER: Final = PreTokenizer(
    (
        _CONTRACTIONS
        + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
_BAILING: Final = PreTokenizer(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)
_EXAONE_MOE: Final = PreTokenizer(
    (
        _CONTRACTIONS
        + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
        + rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|{_SPACES}",
    )
)
_SUPERBPE: Final = PreTokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))"))
_CHAMELEON: Final = PreTokenizer(
    (
        "<sentinel:[0-9]+>",
        "IMGIMG[A-I]{1,4}Z",
        r"[\t\n]|    |  ",
        r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]",
        _GPT2_WORDS,
    ),
    adds_bos=True,
)

_NAMES: Final = (
    (
        LLAMA3,
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (_CL100K, "dbrx smaug-bpe chatglm-bpe"),
    (_GLM4, "glm4 glm5"),
    (_QWEN2, "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez"),
    (_CL100K_BY_DIGIT, "stablelm2 hunyuan solar-open grok-2"),
    (
        _GPT2,
        "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert"
        " exaone4 mpt olmo jais trillion granite-docling",
    ),
    (
        _DIGITS_AND_GPT2,
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    ),
    (_FALCON, "falcon"),
    (_BLOOM, "bloom poro-chat gpt3-finnish"),
    (_VIKING, "viking"),
    (_DEEPSEEK_LLM, "deepseek-llm"),
    (_QWEN35, "qwen35"),
    (_UFAKZEKA, "ufakzeka"),
    (_LAGUNA, "laguna"),
    (_MINICPM5, "minicpm5"),
    (_JAIS2, "jais-2"),
    (_O200K, "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (_TINY_AYA, "tiny_aya cohere2moe"),
    (_KIMI_K2, "kimi-k2"),
    (_YOUTU, "youtu"),
    (_TEKKEN, "tekken"),
    (_DEEPSEEK_CODER, "deepseek-coder"),
    (_DEEPSEEK3, "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    (_SPARK2_5, "spark2_5"),
    (_AFMOE, "afmoe"),
    (_SEED_CODER, "seed-coder"),
    (_BAILING, "bailingmoe bailingmoe2 llada-moe"),
    (_EXAONE_MOE, "exaone-moe"),
    (_SUPERBPE, "superbpe"),
    (_CHAMELEON, "chameleon"),
    (DEFAULT, "default"),
)

PRE_TOKENIZERS: Final[Mapping[str, PreTokenizer]] = {
    name: pre_tokenizer for pre_tokenizer, names in _NAMES for name in names.split()
}
