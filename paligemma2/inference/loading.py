"""`load`: a checkpoint by any of its names, ready to answer."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.adapter import read_adapter
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.quantized_folder import check_quantization
from paligemma2.checkpoint.weights import OnProgress
from paligemma2.errors import InputError
from paligemma2.inference.devices import Dtype, device_named, dtype_named, dtype_on, form_for
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import attach
from paligemma2.model.processes import join_processes
from paligemma2.model.weight_forms import Quantization, quantized_form, restored_form
from paligemma2.processing.processor import Processor


def load(
    source: str | Path = "tiny",
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    mask_codec: str | Path = "default",
    quantize: Quantization | None = None,
    for_training: bool = False,
    adapter: str | Path | Mapping[str, str | Path] | None = None,
    tensor_parallel: bool = False,
    config: ModelConfig | None = None,
    on_progress: OnProgress | None = None,
) -> PaliGemma2:
    """A model ready to use.

    Args:
        source: "tiny" (the small trained model inside this package), a Hugging Face folder, a big_vision
            `.npz` with its tokenizer beside it, or a hub id such as `google/paligemma2-3b-pt-224`.
        device: "auto" is CUDA if there is one, else the CPU; "mps" can be named, but was not tried yet.
        dtype: of the weights. "auto" is the file's own, but float32 for float16 files and for the small
            model. A CPU without bfloat16 instructions keeps such weights in 16 bits and computes in float32.
        mask_codec: what turns mask tokens into masks: "default" (that of the small model), or a file such as
            `vae-oid.npz` for the released checkpoints. It is read when a mask is first asked for.
        quantize: round the weights as they are read: "int8", "int4" (the decoder's blocks; the rest to 8
            bits) or "w8a8" (8 bits, and activations too). A folder made by `paligemma2 convert --quantize`
            is loaded as it is without this.
        for_training: weights stay as they are and can be trained and saved; otherwise they are packed for the
            kernels of a CPU, which is faster. With `quantize` ("int8" or "int4") they are frozen, and an
            adapter can be trained on them.
        adapter: a folder of `peft` with a LoRA for this model, which all requests go through; or several by
            the names that requests choose them by.
        tensor_parallel: share the model with the other processes of `torchrun`, each on its own GPU. All must
            then ask the same in the same order, and all get the same answers.
        config: instead of the checkpoint's own, as with other soft-caps.
        on_progress: called while the weights are read, with the bytes done and in all.

    Raises:
        InputError: no such model, device or adapter, or processes that cannot share the model.
        ConfigError: an adapter has settings that are not supported.
        CheckpointError: the files are damaged or do not fit.
    """
    is_tiny = str(source) == "tiny"
    if is_tiny and dtype == "auto":
        dtype = "float32"  # bfloat16 gains nothing at this size and is emulated on many CPUs
    torch_dtype, mesh = dtype_named(dtype), None
    if tensor_parallel:
        if adapter is not None:
            raise InputError("a model that processes share has no adapters", hint="merge it into the weights")
        mesh, torch_device = join_processes(device)
    else:
        torch_device = device_named(device)
    torch_dtype = dtype_on(torch_device, torch_dtype)
    may_pack = mesh is None and not for_training
    if quantize is not None:
        _check_quantize(quantize, for_training=for_training, is_shared=mesh is not None)
    folder = TINY_FOLDER if is_tiny else source
    try:
        loaded = load_model(
            folder,
            device=torch_device,
            dtype=torch_dtype,
            config=config,
            mesh=mesh,
            form_for=partial(form_for, torch_device, may_pack=may_pack, quantize=quantize),
            may_be_quantized=may_pack or (for_training and quantize is not None),
            low_form_for=restored_form if for_training else quantized_form,
            on_progress=on_progress,
        )
    except InputError as error:
        if Path(folder).exists():
            raise
        hint = f"{error.hint}; 'tiny' is the small model inside this package"
        raise InputError(error.message, hint=hint) from error
    if quantize is not None and loaded.quantization not in (None, quantize):
        raise InputError(
            f"{loaded.folder} holds {loaded.quantization} weights already, quantize is {quantize!r}",
            hint="leave quantize out",
        )
    processor = Processor.from_folder(loaded.folder, loaded.config)
    adapters = _by_name(adapter)
    attach(loaded.model, {name: read_adapter(path, loaded.config) for name, path in adapters.items()})
    default = None if isinstance(adapter, Mapping) else next(iter(adapters), None)
    return PaliGemma2(loaded.model, processor, loaded.folder, mask_codec, default)


def _check_quantize(quantize: Quantization, *, for_training: bool, is_shared: bool) -> None:
    check_quantization(quantize)
    if is_shared:
        raise InputError(
            f"quantize is {quantize!r} for a model that processes share", hint="leave one of them out"
        )
    if for_training and quantize == "w8a8":
        raise InputError(
            "quantize is 'w8a8' for a model that is trained",
            hint="use 'int8', which has the same weights and does not round activations",
        )


def _by_name(adapter: str | Path | Mapping[str, str | Path] | None) -> Mapping[str, str | Path]:
    """Adapters by name; a single one is called as its folder is."""
    if adapter is None or isinstance(adapter, Mapping):
        return adapter or {}
    return {Path(adapter).expanduser().resolve().name: adapter}
