"""Loads exports in vLLM, one after another in one process, and has each write a few tokens.

    python -m tests.e2e.load_exports FOLDER...

Prints a JSON line for each: the method that vLLM found, the tokens, or the reason why not.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

PROMPT = list(range(20, 60))
TOKENS = 8


def load(folder: str) -> dict[str, Any]:
    """What came of one export."""
    from vllm import LLM, SamplingParams

    try:
        llm = LLM(
            model=folder,
            quantization=None,
            skip_tokenizer_init=True,
            max_model_len=256,
            max_num_seqs=2,
            enforce_eager=True,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )
        wanted = SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True, detokenize=False)
        asked: Any = [{"prompt_token_ids": PROMPT}]
        output = llm.generate(asked, wanted, use_tqdm=False)[0].outputs[0]
        method = llm.llm_engine.vllm_config.model_config.quantization
        llm.llm_engine.engine_core.shutdown()
    except Exception as error:  # noqa: BLE001 - whatever vLLM raises is the finding
        return {"tokens": [], "reason": " ".join(str(error).split())[:400]}
    return {"tokens": list(output.token_ids), "method": method}


def main(folders: list[str]) -> None:
    """Load them all; what vLLM itself says goes to standard error."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    for folder in folders:
        print(json.dumps(load(folder)), file=stream, flush=True)
        gc.collect()


if __name__ == "__main__":
    main(sys.argv[1:])
