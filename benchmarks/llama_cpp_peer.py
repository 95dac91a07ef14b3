"""Tokens decoded and prompts read by llama.cpp, on random weights of the decoder's shape.

    python -m venv PEERS && PEERS/bin/pip install gguf numpy
    CMAKE_ARGS=-DGGML_NATIVE=ON PEERS/bin/pip install --no-binary llama-cpp-python llama-cpp-python
    PEERS/bin/python benchmarks/llama_cpp_peer.py --threads 2

The second command compiles llama.cpp for this very processor, which takes minutes. A GGUF file of the text
decoder of the 3B model (Gemma 2 2B with PaliGemma's vocabulary) is written to a temporary folder, every
matrix in the same format; weights are random and there is no tokenizer, for only token ids go in.
llama.cpp's C functions are called directly: one call reads the prompt and gives the logits of its last
token, then one call for each token. The numbers of threads take turns in every round; for each, one line of
JSON comes out, whose seconds are the best of all rounds.
"""

import argparse
import ctypes
import json
import statistics
import tempfile
import time
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

LAYERS, WIDTH, MLP_WIDTH, VOCABULARY = 26, 2304, 9216, 257_216
HEADS, KV_HEADS, HEAD_DIM = 8, 4, 256
PROMPT_TOKENS = 264
MATRICES = {
    "attn_q": (HEADS * HEAD_DIM, WIDTH),
    "attn_k": (KV_HEADS * HEAD_DIM, WIDTH),
    "attn_v": (KV_HEADS * HEAD_DIM, WIDTH),
    "attn_output": (WIDTH, HEADS * HEAD_DIM),
    "ffn_gate": (MLP_WIDTH, WIDTH),
    "ffn_up": (MLP_WIDTH, WIDTH),
    "ffn_down": (WIDTH, MLP_WIDTH),
}
"""Rows and columns of the matrices of a block, by GGUF's names."""
NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
FORMATS = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", choices=list(FORMATS), default="q4_0")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="one or several numbers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16, help="decoded in a round")
    parser.add_argument("--file", type=Path, help="keep the GGUF file here, or use the one that is here")
    parser.add_argument("--json", type=Path, help="write all lines here, as a list")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder, "random.gguf")
        if not path.exists():
            write_model(path, arguments.format)
        lines = measure(path, arguments.threads, arguments.rounds, arguments.tokens)
    for line in lines:
        line["format"] = arguments.format
        print(json.dumps(line))
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")


def write_model(path: Path, name: str) -> None:
    """A GGUF file of random weights."""
    writer = gguf.GGUFWriter(path, "gemma2")
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP_WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_attn_logit_softcapping(50.0)
    writer.add_final_logit_softcapping(30.0)
    writer.add_sliding_window(4096)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(VOCABULARY)
    random = np.random.default_rng(0)
    shapes = {"token_embd": (VOCABULARY, WIDTH)}
    shapes |= {f"blk.{layer}.{key}": shape for layer in range(LAYERS) for key, shape in MATRICES.items()}
    for key, shape in shapes.items():
        data = random_matrix(random, *shape, name)
        writer.add_tensor(f"{key}.weight", data, raw_shape=data.shape, raw_dtype=FORMATS[name])
    norms = [f"blk.{layer}.{key}" for layer in range(LAYERS) for key in NORMS]
    for key in (*norms, "output_norm"):
        writer.add_tensor(f"{key}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_matrix(random: np.random.Generator, rows: int, columns: int, name: str) -> np.ndarray:
    """Blocks of 32 weights as bytes [rows, bytes of a row]: a float16 scale, then the quantised weights.

    The weights are uniform in their range, and scaled to keep the size of what they are multiplied with.
    """
    block, size = gguf.GGML_QUANT_SIZES[FORMATS[name]]
    levels = 16 if name == "q4_0" else 256
    data = random.integers(0, 256, (rows, columns // block, size), np.uint8)
    scale = np.array([12**0.5 / levels / columns**0.5], np.float16)
    data[..., :2] = scale.view(np.uint8)
    return data.reshape(rows, -1)


def measure(path: Path, threads: list[int], rounds: int, tokens: int) -> list[dict]:
    """For each number of threads what all rounds gave."""
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
    context = llama_cpp.llama_init_from_model(model, settings)
    if not context:
        raise SystemExit(f"llama.cpp does not load {path}")
    weights = llama_cpp.llama_model_size(model)
    prompts: dict[int, list[float]] = {count: [] for count in threads}
    steps: dict[int, list[float]] = {count: [] for count in threads}
    for number in range(rounds + 1):
        for count in threads:
            llama_cpp.llama_set_n_threads(context, count, count)
            prompt, after = read_and_decode(context, tokens)
            if number:  # the first round warms up
                prompts[count].append(prompt)
                steps[count] += after
    return [
        {
            "decode_seconds_per_token": min(steps[count]),
            "decode_seconds_median": statistics.median(steps[count]),
            "prefill_264_seconds": min(prompts[count]),
            "prefill_264_seconds_median": statistics.median(prompts[count]),
            "bytes": weights,
            "bytes_per_second": weights / min(steps[count]),
            "threads": count,
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "instructions": llama_cpp.llama_print_system_info().decode(),
        }
        for count in threads
    ]


def read_and_decode(context: llama_cpp.llama_context_p, tokens: int) -> tuple[float, list[float]]:
    """Seconds of a prompt in an empty cache, and of each token after it."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
    random = np.random.default_rng(1)
    prompt = run(context, random.integers(0, VOCABULARY, PROMPT_TOKENS))
    return prompt, [run(context, random.integers(0, VOCABULARY, 1)) for _ in range(tokens)]


def run(context: llama_cpp.llama_context_p, ids: np.ndarray) -> float:
    """Seconds that tokens take through the model, up to the logits of the last."""
    ids = ids.astype(np.int32)
    batch = llama_cpp.llama_batch_get_one(ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)), len(ids))
    start = time.perf_counter()
    is_refused = llama_cpp.llama_decode(context, batch)
    pointer = llama_cpp.llama_get_logits(context)
    taken = time.perf_counter() - start
    logits = np.ctypeslib.as_array(pointer, (VOCABULARY,))
    if is_refused or not np.isfinite(logits).all() or not logits.any():
        raise SystemExit(f"llama.cpp gives no logits for {len(ids)} tokens")
    return taken


if __name__ == "__main__":
    main()
