"""Every tensor of the way from samples to results is on the model's device.

Shown without a GPU, on a device that stands in for one: its tensors compute on the CPU,
with real values, but a tensor of the CPU cannot be mixed with them, nor can numpy read
them, and what is moved from it is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from lmaczs import ZeroShotInterpreter
from lmaczs.demo.scenes import SCENES, render_scene
from lmaczs.presence import reference_text

# A device that torch knows everywhere, has no kernels of its own for, and does not
# initialise. What is made on it here has values.
APART = torch.device("meta")
LARGE = 2000  # elements: more than any vector of cosines or flags
aten = torch.ops.aten


class Apart(Tensor):
    """A tensor on the device; `inner`, on the CPU, has its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls: type[Apart], inner: Tensor) -> Apart:  # noqa: D102
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=APART,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Apart({self.inner!r})"

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        target = kwargs.get("device")
        if function is not aten.copy_.default:
            refuse_mixing(function, args, kwargs)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        found = function(*tree_map(inside, args), **tree_map(inside, kwargs))
        if target is not None and torch.device(target) != APART:
            return found
        schema = function._schema.arguments
        if schema and schema[0].alias_info and schema[0].alias_info.is_write:
            return args[0] if function._schema.returns else None  # in place
        return tree_map(outside, found)


def inside(value: Any) -> Any:
    """Values of a tensor on the device; anything else as it is."""
    return value.inner if isinstance(value, Apart) else value


def outside(value: Any) -> Any:
    """A tensor on the device, with a tensor's values; anything else as it is."""
    return Apart(value) if isinstance(value, Tensor) else value


def refuse_mixing(function: Any, args: Any, kwargs: Any) -> None:
    """RuntimeError where CUDA has one: for a CPU tensor beside one of the device.

    Scalars, and indices into a tensor of the device, may be on the CPU.
    """
    for one in tree_leaves((args, kwargs)):
        assert not isinstance(one, Tensor) or isinstance(one, Apart) or not one.is_meta
    given = args
    if function in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        if isinstance(args[0], Apart):
            given = (args[0], *args[2:])
    tensors = [one for one in tree_leaves((given, kwargs)) if isinstance(one, Tensor)]
    strange = [one for one in tensors if not isinstance(one, Apart) and one.dim()]
    if strange:
        shapes = [tuple(one.shape) for one in strange]
        raise RuntimeError(f"{function}: tensors {shapes} are on the CPU")


def with_tensors(index: Any) -> Any:
    """An index, with tensors instead of its lists."""
    if isinstance(index, tuple):
        return tuple(map(with_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


class Moves(TorchDispatchMode):
    """Makes tensors on the device, and keeps the sizes of those moved off it."""

    def __init__(self) -> None:
        super().__init__()
        self.off: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        target = kwargs.get("device")
        leaves = tree_leaves((args, kwargs))
        if any(isinstance(one, Apart) for one in leaves):
            if target is not None and torch.device(target) != APART:
                self.off.append(tuple(args[0].shape))
            if function is aten.copy_.default and not isinstance(args[0], Apart):
                self.off.append(tuple(args[1].shape))
            return Apart.__torch_dispatch__(function, types, args, kwargs)
        if target is None or torch.device(target) != APART:
            return function(*args, **kwargs)
        return outside(function(*args, **{**kwargs, "device": torch.device("cpu")}))

    @property
    def large(self) -> list[tuple[int, ...]]:
        """Sizes of the large tensors that were moved off the device."""
        return [size for size in self.off if torch.Size(size).numel() >= LARGE]


class Literals(TorchFunctionMode):
    """Makes tensors of numbers on the device, and numbers of tensors.

    No dispatch sees these.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is Tensor.new_tensor and isinstance(args[0], Apart):
            given = {"dtype": args[0].dtype, **kwargs}
            return torch.tensor(args[1], **given).to(APART)
        if function is Tensor.tolist and isinstance(args[0], Apart):
            return args[0].cpu().tolist()
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            # lists become tensors on the device, and torch makes them itself
            args = (args[0], with_tensors(args[1]), *args[2:])
        if function in (torch.tensor, torch.as_tensor):
            target = kwargs.pop("device", None)
            made = function(*args, **kwargs)
            return made if target is None else made.to(target)
        return function(*args, **kwargs)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moves]:
    """The device, as long as the test runs."""
    autocast = torch.autocast

    def without(device_type: str, *args: Any, **kwargs: Any) -> Any:
        if device_type == APART.type:  # it has none
            assert not kwargs.get("enabled", True)
            return nullcontext()
        return autocast(device_type, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", without)
    with ExitStack() as stack:
        stack.enter_context(Literals())
        yield stack.enter_context(Moves())


@pytest.fixture
def interpreter(moves: Moves) -> ZeroShotInterpreter:
    """The embedded default on the device."""
    found = ZeroShotInterpreter.from_hparams(run_opts={"device": str(APART)})
    # once for a model: its weights are read, for their digest
    reference_text(found.clap, found.hparams.template)
    return found


@pytest.fixture(scope="module")
def on_cpu() -> ZeroShotInterpreter:
    """The embedded default on the CPU."""
    return ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def wav(on_cpu: ZeroShotInterpreter) -> Tensor:
    """A dog by the fire, as long as a window: [samples]."""
    scene = render_scene(SCENES[0], on_cpu.sample_rate)
    wav = torch.as_tensor(scene).sum(0).float()
    return wav[: on_cpu.clap.front_end.max_samples]


def agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that numbers are near and other values equal."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        near = isinstance(value, float)
        assert value == (pytest.approx(other[name], abs=1e-4) if near else other[name])


def test_the_device_refuses_what_a_gpu_refuses(moves: Moves) -> None:
    """Mixing, numpy; not scalars and indices; moves are counted."""
    one = torch.arange(3000.0).to(APART)
    assert one.device == APART
    with pytest.raises(RuntimeError, match="are on the CPU"):
        one + torch.zeros(3000)
    with pytest.raises((RuntimeError, TypeError)):
        one.numpy()
    assert float((one * torch.tensor(2.0))[torch.tensor([4])]) == 8
    assert moves.large == []
    assert one.cpu()[-1] == 2999
    assert moves.large == [(3000,)]


def test_classification(
    moves: Moves,
    interpreter: ZeroShotInterpreter,
    on_cpu: ZeroShotInterpreter,
    wav: Tensor,
) -> None:
    """Nothing large leaves the device, and the table is that of the CPU."""
    moves.off.clear()
    labels = ["dog", "siren"]
    found = interpreter.classify_waveform(wav, interpreter.sample_rate, labels)
    assert moves.large == []
    expected = on_cpu.classify_waveform(wav, on_cpu.sample_rate, labels)
    assert found.similarity.tolist() == pytest.approx(expected.similarity.tolist())


@pytest.mark.parametrize(
    ("windows", "refine"),
    [
        (0.5, 0),
        *[
            pytest.param(windows, refine, marks=pytest.mark.slow)
            for windows in (0.5, 2.2)
            for refine in (0, 2, "auto")
            if windows > 1 or refine
        ],
    ],
)
def test_interpretations(
    moves: Moves,
    interpreter: ZeroShotInterpreter,
    on_cpu: ZeroShotInterpreter,
    wav: Tensor,
    windows: float,
    refine: Any,
) -> None:
    """Spectrum, mask and sounds are all that leaves it; short and long clips."""
    rate, samples = interpreter.sample_rate, round(windows * len(wav))
    wav, prompts = wav.repeat(3)[:samples], ["siren", "dog"]
    expected = on_cpu.interpret_waveform(wav, rate, prompts, refine=refine)
    moves.off.clear()
    found = interpreter.interpret_waveform(wav, rate, prompts, refine=refine)
    assert found[1].refine_steps == refine or refine == "auto"
    grid = tuple(found[0].mask.shape)
    assert sorted(moves.large) == sorted(
        [grid, *[grid, (samples,), (samples,)] * len(prompts)]
    )
    for one, other in zip(found, expected, strict=True):
        agree(one.to_dict(), other.to_dict())
        assert torch.allclose(one.mask, other.mask, atol=1e-3)
        assert one.waveform.device.type == one.stft.device.type == "cpu"


def test_batches(
    moves: Moves,
    interpreter: ZeroShotInterpreter,
    on_cpu: ZeroShotInterpreter,
    wav: Tensor,
) -> None:
    """Clips of equal and of other lengths, each for its prompts, as on the CPU."""
    wavs = torch.stack([wav, wav.roll(9000), wav.flip(0)])
    prompts, lens = [["dog"], ["siren", "dog"], ["dog"]], torch.tensor([1.0, 1.0, 0.4])
    given = wavs, prompts, lens
    expected = on_cpu.interpret_batch(*given, refine=0)
    moves.off.clear()
    found = interpreter.interpret_batch(*given, refine=0)
    assert len(moves.large) == 3 + 3 * 4  # spectra; mask, sounds of each prompt
    for own, others in zip(found, expected, strict=True):
        for one, other in zip(own, others, strict=True):
            agree(one.to_dict(), other.to_dict())
            assert torch.allclose(one.mask, other.mask, atol=1e-3)


@pytest.mark.slow
def test_a_training_step(
    moves: Moves,
    interpreter: ZeroShotInterpreter,
    on_cpu: ZeroShotInterpreter,
    wav: Tensor,
    train: Callable[..., tuple[list[float], Tensor]],
) -> None:
    """Nothing large leaves the device; loss and new weights are the CPU's."""
    expected, weight = train(on_cpu.clap, wav, {"device": "cpu"})
    moves.off.clear()
    losses, other = train(interpreter.clap, wav, {"device": str(APART)})
    assert moves.large == []
    assert other.device == APART
    assert losses == pytest.approx(expected, rel=1e-3)
    assert losses[0] != losses[1]
    assert torch.allclose(other.cpu(), weight, atol=1e-3)
