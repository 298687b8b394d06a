"""What a peer changes in the weights, read off the network itself: each library has words of its own for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .peer import Peer

_TOLERANCE = 1e-6  # relative; all is computed in fp64


@torch.no_grad()
def peer_deltas(peer: Peer) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    """The updates of a peer's weights, fp64. The network is turned to fp64 and to inference, and left so.

    Parameters of the base that train are compared with what they were. A Linear layer that a library holds is given
    the unit vectors, which a linear map answers with its weight: the difference to its answers without the peer is the
    update, whatever it is made of.

    Args:
        peer: attached to a network that nobody needs any more.

    Returns:
        updates by name, the weights they are added to by the same names, and why others are left out.
    """
    network = peer.network.double().eval()
    trained = {id(parameter) for parameter in peer.parameters.values()}
    own = {name: value for name, value in peer.before.parameters.items() if id(value) in trained}
    answers = {name: _answer(peer, name) for name in peer.attached.layers}
    left_out = {name: answer for name, answer in answers.items() if isinstance(answer, str)}
    if not answers:
        left_out |= dict.fromkeys(peer.parameters.keys() - own.keys(), "it is new beside the base's weights")
    after = {name: value.clone() for name, value in own.items()}
    after |= {name: answer for name, answer in answers.items() if name not in left_out}
    with peer.disabled():
        before = {
            name: own[name].clone() if name in own else _weight_of(network.get_submodule(name))
            for name in after
        }
    return {name: value - before[name] for name, value in after.items()}, before, left_out


def _answer(peer: Peer, name: str) -> Tensor | str:
    """The weight (out, in) that a layer amounts to, or in words why there is none."""
    weight = peer.before.parameters.get(f"{name}.weight")
    if weight is None or weight.dim() != 2:
        return "it is no Linear layer; those alone are measured"
    try:
        return _weight_of(peer.network.get_submodule(name))
    except (
        RuntimeError
    ) as error:  # of a library that keeps numbers where the network's precision does not reach
        return f"it does not compute in double precision: {str(error).splitlines()[0]}"


def _weight_of(layer: nn.Module) -> Tensor | str:
    """The matrix (out, in) of a linear map, or in words why it is none."""
    unit = torch.eye(layer.in_features, dtype=torch.float64)
    nothing = layer(torch.zeros_like(unit[:1]))
    answers = layer(unit) - nothing
    doubled = layer(2 * unit) - nothing
    if not torch.allclose(doubled, 2 * answers, rtol=_TOLERANCE, atol=_TOLERANCE):
        return "its update depends on its input, so that it is no change of the weight"
    return answers.T
