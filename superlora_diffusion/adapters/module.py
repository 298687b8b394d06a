"""``SuperLoRA``: an attached adapter. Its parameters are all that trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .arrays import make_arrays
from .autograd import Settings, generate_unit
from .config import SuperLoRAConfig
from .generation import generate_deltas, start_tensor
from .host import base_weight, host_of, keep_merged_weights, rewrite_weights, set_base_flags, unregister
from .layers import remove_source
from .low_rank import find_low_rank, low_rank_factors, products_are_cheaper
from .naming import Target
from .places import layer_of, parameter_in
from .plan import make_plan
from .projection import Arrays
from .units import make_units
from .updates import Updates

if TYPE_CHECKING:
    from .storage import AdapterCard


class SuperLoRA(nn.Module):
    """The joint update of a network's target weights, generated from few numbers (arXiv 2403.11887).

    Made by :func:`attach` or :func:`load_adapter`. Updates are generated once per forward of the whole network and
    are kept no longer than that forward: there is no cache to go stale.
    """

    def __init__(
        self,
        model: nn.Module,
        config: SuperLoRAConfig,
        targets: Sequence[Target],
        name: str = "default",
        arrays: Sequence[Arrays] | None = None,
    ) -> None:
        """Plan and start the tensors; attaching itself is done by :func:`superlora_diffusion.adapters.attach`.

        Args:
            model: the network the targets belong to.
            config: settings.
            targets: the weights and biases to adapt, in order.
            name: the adapter's name among those of the network.
            arrays: fixed arrays of each group; drawn from the seed, or made from the base, by default.
        """
        super().__init__()
        self.name, self.config, self.targets = name, config, list(targets)
        self.plan = make_plan(config, targets)
        self.run_scale, self.is_merged = 1.0, False
        self.generations = 0
        """In how many passes updates were generated."""
        self.has_own_arrays = arrays is not None  # which may be others than seed and base give now
        self._off = 0
        self._live: Updates | list[Tensor] | None = None
        self._pinned: Updates | list[Tensor] | None = None
        self._recomputed: tuple[int, Updates] | None = None
        # Plain attributes, so that the network is no child of its own child.
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_layers", [layer_of(model, target.name) for target in self.targets])
        self._shapes = [self.weight_of(index).shape for index in range(len(self.targets))]
        self.units = make_units(self.plan, self._shapes)
        self.unit_of = {
            index: (number, place)
            for number, unit in enumerate(self.units)
            for place, index in enumerate(unit.members)
        }
        """For each target: its unit, and its place in it."""
        self.low_rank = find_low_rank(config, self.plan, self._shapes)
        """Targets whose update may be applied as two small products."""
        self._flags = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
        self._make_tensors(self.weight_of(0).device, arrays)

    def _make_tensors(self, device: torch.device, arrays: Sequence[Arrays] | None) -> None:
        for group in self.plan.groups:
            for tensor in group.tensors:
                start = start_tensor(tensor, self.config.seed).to(device)
                self.register_parameter(tensor.name, nn.Parameter(start))
        if arrays is None:
            arrays = make_arrays(self.config, self.plan, lambda name: base_weight(self._model, name))
        self._array_names = [sorted(fixed) for fixed in arrays]
        for index, fixed in enumerate(arrays):
            for key, value in fixed.items():
                self.register_buffer(f"g{index}_{key}", value.to(device), persistent=False)

    @property
    def is_off(self) -> bool:
        """Whether it is in a :meth:`disabled` block."""
        return self._off > 0

    # --- what it generates ---

    @property
    def num_parameters(self) -> int:
        """How many numbers train."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def scale(self) -> float:
        """The effective scale of the whole: the config's times the run-time one. ``plan.groups`` have factors of their
        own beside it, all 1 unless ``config.step`` asks for others."""
        return self.config.scale * self.run_scale

    def tensors(self) -> dict[str, Tensor]:
        """What trains, by name."""
        return dict(self._parameters)

    def arrays(self) -> list[Arrays]:
        """The fixed arrays of each group."""
        return [
            {key: getattr(self, f"g{i}_{key}") for key in keys} for i, keys in enumerate(self._array_names)
        ]

    def deltas(self) -> dict[str, Tensor]:
        """{target name: dW}, fp32, each in its weight's shape, scale included; differentiable."""
        return dict(zip((target.name for target in self.targets), self._generate(), strict=True))

    def _generate(self) -> list[Tensor]:
        if torch.compiler.is_compiling():
            return self._generate_traced()
        self.generations += 1
        tensors, arrays, deltas = self.tensors(), self.arrays(), {}
        for unit in self.units:
            settings = Settings(unit, arrays, self.config.projection, self.scale, None)
            deltas |= zip(unit.members, generate_unit(settings, tensors), strict=True)
        return [deltas[index] for index in range(len(self.targets))]

    def _generate_traced(self) -> list[Tensor]:
        """The plain graph, for a compiler, which decides itself what is kept."""
        tensors, projection = self.tensors(), self.config.projection
        return generate_deltas(self.plan, tensors, self.arrays(), projection, self.scale, self._shapes)

    def layer_of(self, index: int) -> nn.Module:
        """The layer of target ``index``."""
        return self._layers[index]

    def weight_of(self, index: int) -> nn.Parameter:
        """The weight, or bias, that target ``index`` is, as its layer holds it now."""
        return parameter_in(self._layers[index], self.targets[index].name)

    # --- how it reaches the layers ---

    def before_forward(self, model: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Hook of the network: from here on updates are generated as its layers ask for them, each once."""
        self._recomputed = None
        if not self.is_active:
            return None
        if self._pinned is None:
            self._live = self._fresh_updates()
        return self._inputs_with_gradient(args, kwargs)

    def after_forward(self, model: nn.Module, args: tuple, output: Any) -> None:
        """Hook of the network: let go of the updates, also after an exception."""
        self._live = None

    @property
    def is_active(self) -> bool:
        """Whether it takes part in a forward beside the weights."""
        return not (self.is_off or self.is_merged)

    def delta_for_layer(self, index: int) -> Tensor:
        """The update of target ``index``, fp32, as a layer asks for it during a forward."""
        updates = self._updates()
        if isinstance(updates, Updates) and updates.added:
            # Pinned while it was alone; another adapter has come to the layer since.
            updates = self._pinned = Updates(self, added=False, grad=False)
        return updates[index]

    def weight_for_layer(self, index: int, weight: Tensor) -> Tensor:
        """Weight + update of target ``index``, for a layer that no other adapter touches now."""
        updates = self._updates()
        if isinstance(updates, list) or not updates.added:
            return weight + updates[index].to(weight.dtype)
        if self._pinned is not None and not torch.compiler.is_compiling():
            updates.drop_if_base_changed(index)
        return updates[index]

    def uses_products(self, index: int, tokens: int) -> bool:
        """Whether the update of target ``index`` is applied as two small products to so many tokens.

        By ``config.route``: as asked for, or by the closed-form cost. Updates that are kept cost nothing.
        """
        if index not in self.low_rank or self.config.route == "weight":
            return False
        if self.config.route == "products":
            return True
        if self._pinned is not None:
            return False
        _, rows, columns = self.targets[index]
        return products_are_cheaper(rows, columns, self.low_rank[index].rank, tokens, torch.is_grad_enabled())

    def factors_for_layer(self, index: int) -> tuple[Tensor, Tensor]:
        """(L, R) with dW = L R^T of target ``index``, fp32."""
        if not torch.compiler.is_compiling():
            self._updates().note_use()
        tensors = self.tensors()
        with torch.autocast(self.weight_of(0).device.type, enabled=False):
            return low_rank_factors(self.low_rank[index], tensors, self.scale)

    def _updates(self) -> Updates | list[Tensor]:
        if self._pinned is not None:
            return self._pinned
        return self._live if self._live is not None else self._outside_forward()

    def _fresh_updates(self, grad: bool | None = None) -> Updates | list[Tensor]:
        """Updates to be generated as layers ask for them, added to the weights where nothing speaks against it."""
        if torch.compiler.is_compiling():
            return self._generate_traced()
        grad = torch.is_grad_enabled() if grad is None else grad
        alone = not any(
            other.is_active for other in host_of(self._model).adapters.values() if other is not self
        )
        trained = grad and any(self.weight_of(index).requires_grad for index in range(len(self.targets)))
        return Updates(self, added=alone and not trained, grad=grad)

    def _outside_forward(self) -> Updates | list[Tensor]:
        """Updates for a layer that runs outside a forward of the network.

        In a backward pass that is the recomputation of a checkpointed block: all layers of one pass share one
        generation, let go when the pass ends. Anywhere else someone called a part of the network on its own.
        """
        backward = torch._C._current_graph_task_id()
        if backward == -1:
            return self._fresh_updates()
        if self._recomputed is None or self._recomputed[0] != backward:
            self._recomputed = (backward, self._fresh_updates(grad=True))
            torch.autograd.Variable._execution_engine.queue_callback(self._let_go_of_recomputed)
        return self._recomputed[1]

    def _let_go_of_recomputed(self) -> None:
        self._recomputed = None

    def _inputs_with_gradient(self, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Let the network's input require a gradient where blocks may be checkpointed.

        Checkpointing of the reentrant kind passes no gradient into a block none of whose inputs requires one, and
        behind a frozen first layer none does. Networks that declare a ``gradient_checkpointing`` flag are believed;
        for others the gradient of the input is a small price.
        """
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return None
        if not any(parameter.requires_grad for parameter in self.parameters()):
            return None  # nothing of it trains
        if self._flags and not any(module.gradient_checkpointing for module in self._flags):
            return None
        floating = (x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point())
        found = next(floating, None)
        if found is None or found.requires_grad:
            return None
        fresh = found.detach().requires_grad_().clone()  # no leaf, so that the network may write on its input
        swapped = tuple(fresh if value is found else value for value in args)
        return swapped, {key: fresh if value is found else value for key, value in kwargs.items()}

    # --- switching ---

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The network without this adapter, for the block: the untouched base where no other is on.

        A merged adapter is taken out and put back.
        """
        host, was_merged = host_of(self._model), self.is_merged
        self.unmerge()
        was_all_off = host.all_off()
        self._off += 1
        turned_off = host.all_off() and not was_all_off
        if turned_off:
            set_base_flags(self._model, host, frozen=False)
        try:
            yield
        finally:
            self._off -= 1
            if turned_off:
                set_base_flags(self._model, host, frozen=True)
            if was_merged:
                self.merge()

    @contextmanager
    def cached(self) -> Iterator[None]:
        """Updates generated once for the block, without gradient: for sampling, where parameters stand still."""
        before = self._pinned
        self._pin()
        try:
            yield
        finally:
            self._pinned = before

    def set_scale(self, scale: float) -> None:
        """Set the run-time scale, a factor on the config's.

        Raises:
            AdapterError: unless it is a finite number.
        """
        if not isinstance(scale, int | float) or not math.isfinite(scale):
            raise AdapterError(f"scale {scale!r} is not a finite number.")
        self.run_scale = float(scale)
        if self.is_merged:
            rewrite_weights(self._model)
        if self._pinned is not None:
            self._pin()

    def _pin(self) -> None:
        with torch.no_grad():
            self._pinned = self._fresh_updates(grad=False)
            if isinstance(self._pinned, Updates) and self.config.route != "products":
                self._pinned.generate_all()  # products never ask for a whole update

    def merge(self) -> None:
        """Add the update to the weights themselves. Merging twice changes nothing."""
        if not self.is_merged:
            self.is_merged = True
            rewrite_weights(self._model)

    def unmerge(self) -> None:
        """Undo :meth:`merge`: the weights are what they were, bit for bit."""
        if self.is_merged:
            self.is_merged = False
            rewrite_weights(self._model)

    def unload(self, keep_merged: bool = False) -> nn.Module:
        """Take the adapter from the network, which is then the base again, bit for bit.

        Args:
            keep_merged: leave the update of a merged adapter in the weights.

        Returns:
            the network.

        Raises:
            AdapterError: for ``keep_merged`` without :meth:`merge`.
        """
        if keep_merged and not self.is_merged:
            raise AdapterError(
                f"adapter {self.name!r} is not merged; call merge() before unload(keep_merged=True)."
            )
        if keep_merged:
            with torch.no_grad():
                keep_merged_weights(self._model, self)
        self.unmerge()
        for layer in dict.fromkeys(self._layers):
            remove_source(layer, self)
        for hooks in (self._model._forward_pre_hooks, self._model._forward_hooks):
            for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is self]:
                del hooks[key]
                self._model._forward_pre_hooks_with_kwargs.pop(key, None)
                self._model._forward_hooks_always_called.pop(key, None)
        unregister(self._model, self)
        return self._model

    def save_pretrained(
        self, folder: Path | str, card: AdapterCard | None = None, store_projection: bool = False
    ) -> None:
        """Write the adapter to a folder; see :func:`superlora_diffusion.adapters.storage.save_adapter`."""
        from .storage import save_adapter

        save_adapter(self, folder, card, store_projection)

    # --- how torch sees it ---

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """The trained numbers. As a part of the network's state dict: nothing, so that stays the base's."""
        if prefix:
            return destination
        return super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        if not prefix:
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SuperLoRA:
        """Follow the network to a device, but stay fp32 when it is cast."""

        def keep_type(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_type, recurse)

    def __getstate__(self) -> dict[str, Any]:
        # Updates with a graph belong to a forward that is over for whoever copies.
        return {**self.__dict__, "_live": None, "_recomputed": None, "_pinned": None}

    def forward(self, input: Any) -> Any:
        """Pass the input on: a Sequential runs all of its children, and this is one of them."""
        return input

    def extra_repr(self) -> str:
        return f"{self.name!r}, {self.num_parameters:,} parameters, {len(self.targets)} targets"
