"""What a peer changes in the weights, read off the network itself: each library has words of its own for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .peer import Peer

_TOLERANCE = 1e-6  # all is computed in fp64
_ROUNDING = 1e-12


@torch.no_grad()
def peer_deltas(peer: Peer) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    """The updates of a peer's weights, fp64. The network is turned to fp64 and to inference, and left so.

    Parameters of the base that train are compared with what they were. A Linear layer that a library holds is asked
    for the unit vectors and for 0, which an affine map answers with its weight and its bias; their differences to
    those without the peer are the updates, whatever they are made of.

    Args:
        peer: attached to a network that nobody needs any more.

    Returns:
        updates by name (a layer's for its weight), what they are added to by the same names, and why others are left
        out.
    """
    network = peer.network.double().eval()
    trained = {id(parameter) for parameter in peer.parameters.values()}
    own = {name: value for name, value in peer.before.parameters.items() if id(value) in trained}
    maps, left_out = _maps(peer)
    if not peer.attached.layers:
        left_out |= dict.fromkeys(peer.parameters.keys() - own.keys(), "it is new beside the base's weights")
    after = _numbers(maps) | {name: value.clone() for name, value in own.items()}
    with peer.disabled():
        maps = {name: _affine(network.get_submodule(name)) for name in maps}
        before = _numbers(maps) | {name: value.clone() for name, value in own.items()}
    biases = {f"{name}.bias" for name in maps} - own.keys()
    deltas = {name: value - before[name] for name, value in after.items()}
    deltas = {
        name: delta for name, delta in deltas.items() if name not in biases or delta.abs().max() > _ROUNDING
    }
    return deltas, {name: before[name] for name in deltas}, left_out


def _maps(peer: Peer) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, str]]:
    """(weight, bias) of the layers that a peer holds, and why others have none."""
    maps, left_out = {}, {}
    for name in peer.attached.layers:
        weight = peer.before.parameters.get(f"{name}.weight")
        if weight is None or weight.dim() != 2:
            left_out[name] = "it is no Linear layer; those alone are measured"
            continue
        try:
            found = _affine(peer.network.get_submodule(name))
        except (
            RuntimeError
        ) as error:  # of a library that keeps numbers where the network's precision does not reach
            left_out[name] = f"it does not compute in double precision: {str(error).splitlines()[0]}"
            continue
        if found is None:
            left_out[name] = "its update depends on its input, so that it is no change of the weight"
        else:
            maps[name] = found
    return maps, left_out


def _affine(layer: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Weight (out, in) and bias (out,) of a layer x -> W x + b; None if it is no such map."""
    unit = torch.eye(layer.in_features, dtype=torch.float64)
    bias = layer(torch.zeros_like(unit[:1]))
    answers, doubled = layer(unit) - bias, layer(2 * unit) - bias
    if not torch.allclose(doubled, 2 * answers, rtol=_TOLERANCE, atol=_TOLERANCE):
        return None
    return answers.T, bias[0]


def _numbers(maps: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    named = {name: weight for name, (weight, _) in maps.items()}
    return named | {f"{name}.bias": bias for name, (_, bias) in maps.items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
