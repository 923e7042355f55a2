"""A GPU made of CPU tensors: real numbers that claim to be elsewhere and refuse to meet the CPU's, as those of CUDA do.

Inside `other_device()`, `device="cuda"` means this device. To torch its tensors lie on "meta", to Python on "cuda:0".
What would make the host wait for a GPU is counted.
"""

import os
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from neuropil.plasticity.kernels import dispatch as dispatch_of_rules
from neuropil.spiking.kernels import dispatch as dispatch_of_events

CLAIMED, HELD, CPU = torch.device("cuda", 0), torch.device("meta"), torch.device("cpu")
NAMES = ("cuda", "cuda:0", torch.device("cuda"), CLAIMED)
CUDA = {"is_available": True, "device_count": 1, "synchronize": None, "mem_get_info": (2**33, 2**33)}
CUDA |= {"get_device_name": "no GPU", "memory_allocated": 0, "max_memory_allocated": 0, "reset_peak_memory_stats": None}
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_consecutive", "unique_dim",
         "bincount", "is_nonzero", "repeat_interleave")  # fmt: skip
INDEXED = ("index", "index_put_", "index_put", "_unsafe_index", "_index_put_impl_")
MIXES = ("_to_copy", "copy_", "copy", "set_")
SCALARS = ("fill_", "fill", "masked_fill_", "masked_fill", "where", "full_like", *INDEXED)


class Other(Tensor):
    """A tensor of that device; its numbers are in `inner`, on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CLAIMED)
    is_cuda, is_cpu, is_meta = (property(lambda self, said=said: said) for said in (True, False, False))

    @staticmethod
    def __new__(cls, inner):
        strided = inner.layout == torch.strided
        laid = {"strides": inner.stride(), "storage_offset": inner.storage_offset()} if strided else {}
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, layout=inner.layout, device=HELD, **laid
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {}, Counter())

    def __repr__(self, **_):
        return f"Other({self.inner})"

    def __deepcopy__(self, memo):
        made = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            made = torch.nn.Parameter(made, self.requires_grad)
        return memo.setdefault(id(self), made)

    def _replace(self, value):
        Tensor.data.__set__(self, value)
        self.inner = value.inner

    data = property(Tensor.data.__get__, _replace)

    def data_ptr(self):
        return self.inner.data_ptr()

    def numpy(self, *, force=False):
        if not force:
            raise TypeError(f"can't convert {CLAIMED} device type tensor to numpy. Use Tensor.cpu() first.")
        return self.cpu().numpy()

    def __array__(self, *_, **__):
        return self.numpy()

    def __format__(self, spec):
        return format(self.item() if self.dim() == 0 else self.inner, spec)

    def tolist(self):
        return self.cpu().tolist()


def tensors(parts):
    """Every tensor in nested arguments."""
    for part in parts:
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, (list, tuple)):
            yield from tensors(part)


def inside(part):
    """The same argument with the numbers themselves."""
    if isinstance(part, Other):
        return part.inner
    if isinstance(part, (list, tuple)):
        return type(part)(map(inside, part)) if type(part) in (list, tuple) else type(part)(*map(inside, part))
    return CPU if isinstance(part, torch.device) and part == HELD else part


def refuse_to_meet(func, name, args, there):
    """Raise where CUDA would: tensors of the CPU may come along as scalars of pointwise operations, or as indices."""
    if name in MIXES or name.endswith("_like") or name.startswith("new_"):
        return
    allowed = [] if torch.Tag.pointwise not in func.tags and name not in SCALARS else [0]
    indices = list(tensors(args[1])) if name in INDEXED and isinstance(args[0], Other) else []
    for part in there:
        if not isinstance(part, Other) and part.dim() not in allowed and all(part is not one for one in indices):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found {CLAIMED} and cpu{list(part.shape)} "
                f"in {func} at {where()}"
            )
    if name in ("index_put_", "index_put", "_index_put_impl_") and not isinstance(args[0], Other):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")


def waits(func, name, args, kwargs, there):
    """What the host would wait for: a word, or none."""
    if name in WAITS and not (name == "repeat_interleave" and kwargs.get("output_size") is not None):
        return name
    if name in INDEXED:
        if any(part.dtype in (torch.bool, torch.uint8) for part in tensors(args[1])):
            return "index by a mask"
        if any(not isinstance(part, Other) for part in tensors(args[1])):
            return "copy to the device"
    if name == "_to_copy" and kwargs.get("device") not in (None, HELD) and isinstance(args[0], Other):
        return "copy to the CPU"
    if name == "_to_copy" and kwargs.get("device") == HELD and not isinstance(args[0], Other):
        return "copy to the device"
    if name == "copy_" and isinstance(args[0], Other) != isinstance(args[1], Other):
        return "copy to the device" if isinstance(args[0], Other) else "copy to the CPU"
    return None


def dispatch(func, args, kwargs, seen):
    """Do it on the CPU, and say that it was done elsewhere."""
    name = func._schema.name.partition("::")[2]
    there = [*tensors(args), *tensors(kwargs.values())]
    asked = kwargs.get("device")
    assert not any(part.is_meta for part in there), f"{func}: a tensor was made around this module"
    if not any(isinstance(part, Other) for part in there) and asked != HELD:
        return func(*args, **kwargs)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != CLAIMED.type:
        raise RuntimeError(
            f"Expected a '{CLAIMED.type}' device type for generator but found '{generator.device.type}' at {where()}"
        )
    refuse_to_meet(func, name, args, there)
    if word := waits(func, name, args, kwargs, there):
        seen[f"{word} ({where()})"] += 1
    if asked == CPU:
        return func(*inside(args), **kwargs)
    out = func(*inside(args), **{key: inside(value) for key, value in kwargs.items()})
    if name == "copy_" and not isinstance(args[0], Other):
        return args[0]
    written = {id(inside(part)): part for part in there}
    return wrapped(out, written)


def wrapped(out, written):
    if isinstance(out, Tensor):
        return written[id(out)] if id(out) in written else Other(out)
    if isinstance(out, (list, tuple)):
        parts = [wrapped(part, written) for part in out]
        return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)
    return out


def where():
    """The line of neuropil that is at work."""
    frame = sys._getframe(2)
    while frame and "/neuropil/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}" if frame else "torch"


class Elsewhere:
    """A kernel of the CPU that takes tensors of the other device and returns such."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getattr__(self, name):
        return lambda *args: wrapped(getattr(self.kernel, name)(*inside(args)), {})


class _Dispatch(TorchDispatchMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {}, self.seen)


class _Names(TorchFunctionMode):
    """Takes the claimed name for the held one wherever torch is called."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("device") in NAMES and kwargs["device"] is not None:
            kwargs = {**kwargs, "device": HELD}
            if func in (torch.tensor, torch.as_tensor, torch.asarray):
                kwargs.pop("device")
                return func(*args, **kwargs).to(HELD)
        if func is Tensor.to and len(args) > 1 and not isinstance(args[1], (Tensor, torch.dtype)) and args[1] in NAMES:
            args = (args[0], HELD, *args[2:])
        if func is Tensor.new_tensor:
            data, *rest = args[1:]
            func, args, kwargs = (
                torch.tensor,
                (data, *rest),
                {"dtype": args[0].dtype, "device": args[0].device, **kwargs},
            )
            return self.__torch_function__(func, types, args, kwargs)
        if func is Tensor.cuda:
            func, args, kwargs = Tensor.to, (args[0], HELD), {}
        return func(*args, **kwargs)


@contextmanager
def as_chosen():
    """Puts back what torch was told of repeatable kernels."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling, cudnn = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.flags()
    with mock.patch.dict(os.environ), cudnn:
        yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.utils.deterministic.fill_uninitialized_memory = filling


def _named(run_backward):
    """What is differentiated by hand calls torch, too."""

    def run(*args, **kwargs):
        with _Names():
            return run_backward(*args, **kwargs)

    return run


@contextmanager
def other_device(**kernels):
    """Within, "cuda" is that device; a counter of what the host would wait for, and where.

    Args:
        kernels: by kind, to be taken instead of those of the CPU.
    """
    seen, events = Counter(), dispatch_of_events
    run_backward = torch.autograd._engine_run_backward
    with ExitStack() as stack:
        stack.enter_context(as_chosen())
        for name, answer in CUDA.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, answer=answer: answer))
        there = {kind: Elsewhere(kernel) for kind, kernel in events.CPU.items() if kind != "lif"}  # for the CPU only
        there |= kernels
        for asked in events.kernels, events.clocked:
            stack.enter_context(mock.patch.object(asked, "__defaults__", (lambda: there,)))
        stack.enter_context(mock.patch.object(dispatch_of_rules, "_kernels", return_value=None))  # torch's operations
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", _named(run_backward)))
        stack.enter_context(_Dispatch(seen))
        stack.enter_context(_Names())
        yield seen


def _plain(value):
    """Nested tensors as a flat list of numbers on the CPU, each with whether it was elsewhere."""
    if isinstance(value, Tensor):
        return [(value.detach().cpu(), isinstance(value, Other))]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (int, float, str, type(None))):
        return [(value, None)]
    return [part for each in value for part in _plain(each)]


def same(job, *, follows=True, kernels=None, **within):
    """Assert that `job(device)` gives the same on that device as on the CPU, and what `follows` stays there."""
    want = _plain(job("cpu"))
    with other_device(**(kernels or {})) as seen:
        got = _plain(job("cuda"))
    assert len(want) == len(got) > 0
    for (mine, _), (theirs, elsewhere) in zip(want, got):
        if isinstance(mine, Tensor):
            torch.testing.assert_close(theirs, mine, **within)
            assert elsewhere == follows
        else:
            assert theirs == mine or abs(theirs - mine) <= 1e-3 * abs(mine)
    return seen
