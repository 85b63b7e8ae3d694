"""The data that a figure was measured on, read as the card says and known by their fingerprint."""

from ..arguments import DataArguments, FineTuningDataArguments
from ..hub import Claim
from ..trainers.claim_arguments import fingerprint, read_data_arguments


def read_data(claim: Claim, kind: type[DataArguments], names: list[str], read):
    """
    Reads the data of a claim.

    Args:
        claim ([`~hf_genkit.hub.Claim`]): The claim.
        kind (`type[DataArguments]`): The class of its options.
        names (`list[str]`): Data to take instead of those that the card names: the first that are the same.
        read (`Callable[[DataArguments], data]`): Makes a class of `hf_genkit.data` of the options.

    Returns:
        `tuple`: The options, and what `read` made.

    Raises:
        `ValueError`: The data are not to be had, or none are those that the card speaks of.
    """
    wanted = claim.dataset.args.get("fingerprint")
    for name in names or [None]:
        args = read_data_arguments(kind, claim, name)
        data = read(args)
        inner = data.data if kind is FineTuningDataArguments else data
        if wanted is None or fingerprint(inner) == wanted:
            return args, data
    tried = ", ".join(f"'{name}'" for name in names) or f"'{claim.dataset.id or claim.dataset.name}'"
    raise ValueError(
        f"The samples of {tried} are not those that the figures were measured on ('{claim.dataset.name}', split "
        f"{claim.dataset.split}): their fingerprint is another one."
    )
