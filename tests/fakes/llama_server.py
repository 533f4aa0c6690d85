"""A real llama.cpp server as an executable: llama-server's flags around the engine inside the xllamacpp package.

    llama_server.py [--as-llamafile VERSION] --version | --help | -m FILE --port N …

With `--as-llamafile` it is llamafile 0.10: the same server, which has to be asked for with `--server`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
from typing import Any

HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
-tb,   --threads-batch N                number of threads to use during batch and prompt processing
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
-b,    --batch-size N                   logical maximum batch size (default: 2048)
-ub,   --ubatch-size N                  physical maximum batch size (default: 512)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ctv,  --cache-type-v TYPE              KV cache data type for V
-lm,   --load-mode MODE                 model loading mode (default: mmap)
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM
-fit,  --fit [on|off]                   whether to adjust unset arguments to fit in device memory
-ot,   --override-tensor <tensor name pattern>=<buffer type>,...
                                        override tensor buffer type
--lora FNAME                            path to LoRA adapter
--lora-scaled FNAME:SCALE,...           path to LoRA adapter with user defined scaling
-m,    --model FNAME                    model path to load
--poll <0...100>                        use polling level to wait for work
--no-repack                             disable weight repacking

----- server-specific params -----

-np,   --parallel N                     number of server slots
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer shared across all sequences
-cram, --cache-ram N                    set the maximum cache size in MiB
--warmup, --no-warmup                   whether to perform warmup with an empty run
--host HOST                             ip address to listen
--port PORT                             port to listen
--no-ui                                 disable the Web UI
--api-key KEY                           API key to use for authentication
"""
LLAMAFILE_HELP = """
--server                                run the HTTP server
--gpu MODE                              auto, amd, apple, nvidia, disable
"""
LOAD_MODES = {"none": "NONE", "mmap": "MMAP", "mlock": "MLOCK", "mmap+mlock": "MMAP_MLOCK"}
FLASH = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}


def parse(arguments: list[str], llamafile: bool) -> argparse.Namespace:
    """Strict, as llama.cpp's own parser: an unknown flag ends the program."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    if llamafile:
        parser.add_argument("--server", action="store_true", required=True)
        parser.add_argument("--gpu", default="auto")
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("-tb", "--threads-batch", type=int, default=0)
    parser.add_argument("-c", "--ctx-size", type=int, default=0)
    parser.add_argument("-b", "--batch-size", type=int, default=2048)
    parser.add_argument("-ub", "--ubatch-size", type=int, default=512)
    parser.add_argument("-fa", "--flash-attn", choices=FLASH, default="auto")
    parser.add_argument("-ctk", "--cache-type-k", default="f16")
    parser.add_argument("-ctv", "--cache-type-v", default="f16")
    parser.add_argument("-lm", "--load-mode", choices=LOAD_MODES, default="mmap")
    parser.add_argument("-ngl", "--gpu-layers", "--n-gpu-layers", type=int, default=-1)
    parser.add_argument("-fit", "--fit", choices=("on", "off"), default="on")
    parser.add_argument("-ot", "--override-tensor", default="")
    parser.add_argument("--lora", default="")
    parser.add_argument("--lora-scaled", default="")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--poll", type=int, default=50)
    parser.add_argument("--no-repack", action="store_true")
    parser.add_argument("-np", "--parallel", type=int, default=4)
    parser.add_argument("-kvu", "--kv-unified", action="store_true")
    parser.add_argument("-no-kvu", "--no-kv-unified", action="store_true")
    parser.add_argument("-cram", "--cache-ram", type=int, default=8192)
    parser.add_argument("--warmup", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--no-ui", action="store_true")
    parser.add_argument("--api-key", default=os.environ.get("LLAMA_API_KEY", ""))
    return parser.parse_args(arguments)


def serve(wanted: argparse.Namespace) -> int:
    """Run the real server until a signal ends it."""
    import xllamacpp as engine

    params = engine.CommonParams()
    params.model.path = wanted.model
    params.n_ctx = wanted.ctx_size
    params.n_parallel = wanted.parallel
    params.kv_unified = wanted.kv_unified
    params.n_batch, params.n_ubatch = wanted.batch_size, min(wanted.ubatch_size, wanted.batch_size)
    params.cpuparams.n_threads = wanted.threads
    params.cpuparams_batch.n_threads = wanted.threads_batch or wanted.threads
    params.cpuparams.poll = wanted.poll
    params.flash_attn_type = engine.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{FLASH[wanted.flash_attn]}"]
    params.cache_type_k = engine.ggml_type[f"GGML_TYPE_{wanted.cache_type_k.upper()}"]
    params.cache_type_v = engine.ggml_type[f"GGML_TYPE_{wanted.cache_type_v.upper()}"]
    params.load_mode = engine.llama_load_mode[f"LLAMA_LOAD_MODE_{LOAD_MODES[wanted.load_mode]}"]
    params.n_gpu_layers = wanted.gpu_layers
    params.fit_params = wanted.fit == "on"
    params.cache_ram_mib = wanted.cache_ram
    params.no_extra_bufts = wanted.no_repack
    params.warmup = wanted.warmup
    params.ui = False
    params.hostnames = [wanted.host]
    params.port = wanted.port
    if wanted.api_key:
        params.api_keys = [wanted.api_key]
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: stop.set())
    try:
        server = engine.Server(params)
    except RuntimeError as error:
        _write_out_log(engine)
        sys.stderr.write(f"main: exiting due to model loading error: {error}\n")
        return 1
    while not stop.wait(0.1):
        pass
    del server
    return 0


def _write_out_log(engine: Any) -> None:
    """As the real program does before it ends: a thread of its own writes the log, and would be cut off."""
    library = ctypes.CDLL(engine.xllamacpp.__file__)
    log, write_to = library._Z15common_log_mainv, library._Z19common_log_set_fileP10common_logPKc
    log.restype, write_to.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
    write_to(log(), None)  # changing the log's file waits for what is queued


def main(arguments: list[str]) -> int:
    llamafile = ""
    if arguments[:1] == ["--as-llamafile"]:
        llamafile, arguments = arguments[1], arguments[2:]
    if "--version" in arguments:
        sys.stderr.write(f"llamafile v{llamafile}\n" if llamafile else "version: 6543 (0123abc)\nbuilt for tests\n")
        return 0
    if "--help" in arguments:
        sys.stdout.write(HELP + (LLAMAFILE_HELP if llamafile else ""))
        return 0
    return serve(parse(arguments, bool(llamafile)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
