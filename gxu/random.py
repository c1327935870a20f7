"""Random number generators of the devices."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gxu import _C
from gxu._device import DeviceLike, get_device_index
from gxu._name import DEVICE_TYPE

#: Seeds for the generators that do not exist yet, from manual_seed before the first use of a device: by device index,
#: None for all of them.
_pending_seeds: dict[int | None, int] = {}


def default_generator(device: DeviceLike = None) -> torch.Generator:
    """The generator that operators use on `device` where none is given. Starts the runtime."""
    index = get_device_index(device)
    seed_new_generators()
    return _C.default_generator(index)


def seed_new_generators() -> None:
    """Applies the seeds that were set before the runtime was started, once."""
    for device, seed in _pending_seeds.items():
        for index in range(_C.device_count()) if device is None else (device,):
            _C.default_generator(index).manual_seed(seed)
    _pending_seeds.clear()


def manual_seed(seed: int) -> None:
    """Seeds the current device's generator."""
    seed = int(seed)
    if _C.is_initialized():
        default_generator().manual_seed(seed)
    else:
        _pending_seeds[0] = seed  # nobody can have left device 0 without starting the runtime


def manual_seed_all(seed: int) -> None:
    """Seeds the generators of all devices; does not start the runtime."""
    seed = int(seed)
    _pending_seeds.clear()
    if _C.is_initialized():
        for index in range(_C.device_count()):
            _C.default_generator(index).manual_seed(seed)
    else:
        _pending_seeds[None] = seed


def seed() -> int:
    """Seeds the current device's generator with a random number and returns that."""
    return default_generator().seed()


def seed_all() -> int:
    """Seeds the generators of all devices with one random number and returns that."""
    random_seed = seed()
    manual_seed_all(random_seed)
    return random_seed


def initial_seed() -> int:
    """The seed of the current device's generator."""
    return default_generator().initial_seed()


def get_rng_state(device: DeviceLike = DEVICE_TYPE) -> torch.Tensor:
    """State of the device's generator, a ByteTensor on the CPU."""
    return default_generator(device).get_state()


def get_rng_state_all() -> list[torch.Tensor]:
    """States of the generators of all devices."""
    _C.init()
    return [get_rng_state(index) for index in range(_C.device_count())]


def set_rng_state(new_state: torch.Tensor, device: DeviceLike = DEVICE_TYPE) -> None:
    """Sets the state of the device's generator to one that get_rng_state returned."""
    default_generator(device).set_state(new_state)


def set_rng_state_all(new_states: Iterable[torch.Tensor]) -> None:
    """Sets the states of the generators of the first devices."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)
