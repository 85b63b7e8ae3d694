"""Splits that are read as a whole, for data that don't stream."""

import datasets


class WholeSplits:
    """
    What every data set of language or speech has.

    Args:
        splits (`datasets.DatasetDict`): From [`load_data`], with `train` and `validation` at least.

    Raises:
        `ValueError`: The data stream.
    """

    def __init__(self, splits: datasets.DatasetDict):
        if isinstance(splits["train"], datasets.IterableDataset):
            raise ValueError("Language and speech are read once into memory, so `streaming` must be off.")
        self.splits = splits

    @property
    def evaluation_split(self) -> datasets.Dataset:
        """The split to validate and choose on."""
        return self.splits["validation"]

    @property
    def test_split_name(self) -> str:
        """Which split gives the final figures: "test", or "validation" where there is none."""
        return "test" if "test" in self.splits else "validation"

    @property
    def test_split(self) -> datasets.Dataset:
        """The split for the final figures, see [`~WholeSplits.test_split_name`]."""
        return self.splits[self.test_split_name]
