"""What weight decay is of.

Both papers mean the filters: "w corresponds to weights of the convolution filters" (ACNN, below eq. 1); "the parameters
W associated with all the convolutional layers", in a Frobenius norm "on the weights W" (SSLLN, below eq. 1). Neither
names biases, batch normalisation or fully connected layers: under "convolutions" these do not decay.

Deviation: what is trained here decays in all its parameters ("all"), as torch's optimisers do it. "convolutions"
becomes the default when the networks that are shipped are next trained; until then results stay what they are.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from shapelab.errors import one_of

DECAYS = ("all", "convolutions")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def decay_groups(model: nn.Module, decay: str, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that are trained, as groups of an optimiser: first those that decay.

    Args:
        decay: "all", or "convolutions": the weights of convolutions, transposed ones among them, and nothing else
        weight_decay: of those that decay; of the others 0

    UsageError for another word.
    """
    one_of("decay", decay, DECAYS)
    trained = [p for p in model.parameters() if p.requires_grad]
    filters = {id(m.weight) for m in model.modules() if isinstance(m, CONVOLUTIONS)}
    decaying = [decay == "all" or id(p) in filters for p in trained]
    groups = [
        {"params": [p for p, does in zip(trained, decaying) if does == so], "weight_decay": weight_decay if so else 0.0}
        for so in (True, False)
    ]
    return [group for group in groups if group["params"]]
