"""A small tokenizer made from a corpus, for models that are trained from scratch."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int = 8192, *, masked: bool = False) -> PreTrainedTokenizerFast:
    """
    A byte-level BPE tokenizer ([Radford et al., 2019](https://openai.com/index/better-language-models/)): every text can
    be written with it, so there is no unknown token.

    Args:
        texts (iterable of `str`): The training split's texts.
        vocab_size (`int`, *optional*, defaults to 8192): The size of the vocabulary; a small corpus may give less.
        masked (`bool`, *optional*, defaults to `False`):
            Special tokens of a masked language model, as BERT's ([CLS] and [SEP] around each text), instead of a causal
            one's, as GPT-2's (`<|endoftext|>` begins and ends a text; nothing is put around it).

    Raises:
        `ValueError`: `vocab_size` has no room for the 256 bytes and the special tokens.
    """
    if masked:
        special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    else:
        special = {"pad_token": "<|pad|>", "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    names = list(dict.fromkeys(special.values()))
    smallest = 256 + len(names)
    if vocab_size < smallest:
        raise ValueError(
            f"`vocab_size` is {vocab_size}, but it must be at least {smallest}: bytes and special tokens."
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if masked:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special)
