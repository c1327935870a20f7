"""gxu tensors in torch.multiprocessing: queues, pipes and arguments of processes share their memory.

As with torch.cuda, the memory of a tensor that was sent stays until the receiving process has opened it, the sending
process must not end before that, and processes that use gxu are started with the 'spawn' or 'forkserver' method.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.multiprocessing import reductions

from gxu import _C
from gxu._name import DEVICE_TYPE
from gxu.streams import Event

_Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def _reduce_storage(storage: torch.UntypedStorage) -> _Reduced:
    """What ForkingPickler sends for a storage: gxu's by the handle of its memory, others as torch does."""
    if storage.device.type != DEVICE_TYPE:
        return reductions.reduce_storage(storage)
    if storage.nbytes() == 0:
        return _rebuild_empty_storage, (storage.device.index,)
    handle, receipt = _C.share_storage(storage)
    reductions.shared_cache[_cache_key(handle)] = reductions.StorageWeakRef(storage)
    return _rebuild_storage, (handle, receipt, storage.nbytes(), storage.device.index)


def _rebuild_storage(handle: bytes, receipt: bytes, nbytes: int, device_index: int) -> torch.UntypedStorage:
    """The storage behind a handle; the same one for each tensor that came with this handle and is still alive."""
    storage = reductions.storage_from_cache(torch.UntypedStorage, _cache_key(handle))
    if storage is None:
        storage = _C.open_storage(handle, nbytes, device_index)
        reductions.shared_cache[_cache_key(handle)] = reductions.StorageWeakRef(storage)
    if receipt:
        _C.return_receipt(receipt)
    return storage


def _rebuild_empty_storage(device_index: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(0, device=torch.device(DEVICE_TYPE, device_index))


def _reduce_event(event: Event) -> _Reduced:
    return Event.from_ipc_handle, (event.device, event.ipc_handle())


def _cache_key(handle: bytes) -> tuple[str, bytes]:
    return ("gxu", handle)


def register() -> None:
    """Teaches the pickler of torch.multiprocessing to send gxu storages, of which tensors consist, and events."""
    ForkingPickler.register(Event, _reduce_event)
    ForkingPickler.register(torch.UntypedStorage, _reduce_storage)
