"""How bitsandbytes holds a model that is loaded, frozen, in few bits: a teacher, or the base of an adapter."""

from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available


# Heads: a few small rows, or tied to the embeddings, which quantization would only make worse.
HEADS = ["classifier", "pre_classifier", "score", "lm_head", "cls", "proj_out"]


def in_few_bits(bits: int | None) -> dict[str, BitsAndBytesConfig]:
    """
    The quantization of a model that is given by name.

    Args:
        bits (`int`, *optional*):
            4 for NF4 with double quantization ([Dettmers et al., 2023](https://huggingface.co/papers/2305.14314)), 8 for
            LLM.int8(), `None` to load the model as it was saved, which may be quantized, too.

    Returns:
        `dict`: Arguments for `from_pretrained`; none where `bits` is `None`, for a `quantization_config` of `None` would
        switch off the model's own.

    Raises:
        `ImportError`: bitsandbytes is not installed.
    """
    if bits is None:
        return {}
    if not is_bitsandbytes_available():
        raise ImportError(f'Loading a model in {bits} bits needs bitsandbytes: pip install "hf-genkit[bnb]".')
    config = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=HEADS,
    )
    return {"quantization_config": config}
