"""Connectionist temporal classification: the hard-label loss where frames outnumber labels and nobody aligned them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .classification import IGNORE_INDEX, upcast


def ctc_loss(logits: Tensor, labels: Tensor, frame_lengths: Tensor, blank: int = 0) -> Tensor:
    r"""
    \\(-\frac{1}{L} \ln p(\text{labels} \mid \text{frames})\\), summed over every alignment of a sample's \\(L\\) labels
    with its frames, [Graves et al. (2006)](https://www.cs.toronto.edu/~graves/icml_2006.pdf).

    | argument        | shape       | meaning                                                                            |
    |-----------------|-------------|------------------------------------------------------------------------------------|
    | `logits`        | `[B, F, C]` | unnormalised scores of each frame; in float32, float64 stays                       |
    | `labels`        | `[B, L]`    | class indices without the blank; -100 where there is none, which is left out       |
    | `frame_lengths` | `[B]`       | how many frames of each sample hold sound; what stands in later ones, NaN included |
    |                 |             | reaches neither the loss nor its gradient                                          |
    | `blank`         | `int`       | the class that means "no label here", the `pad_token_id` of transformers' models   |

    The division by the number of labels is that of torch's "mean", done for each sample: long transcripts don't rule a
    batch. A sample whose labels don't fit into its frames has loss 0 and no gradient, and so has one without labels.

    Use [`cross_entropy`] instead where each frame has a label of its own.

    Returns:
        `torch.Tensor` of shape `[B]`, in nats per label.
    """
    labelled = labels != IGNORE_INDEX
    lengths = labelled.sum(-1)
    frames = torch.arange(logits.shape[1], device=logits.device)
    used = (frames < frame_lengths[:, None]) & (lengths > 0)[:, None]
    log_p = torch.where(used[..., None], upcast(logits), 0.0).log_softmax(-1)
    values = F.ctc_loss(
        log_p.transpose(0, 1),
        labels[labelled],
        frame_lengths,
        lengths,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return torch.where(lengths > 0, values / lengths.clamp(min=1), 0.0)
