"""What a run takes from the machine that it is on."""

from typing import Any

import pytest
import torch

from ostensible.machine import pick_dtype


@pytest.mark.parametrize(
    ("cpu", "dtype"),
    [
        ({"cpu_name": "Intel(R) Xeon(R) Processor", "avx512_bf16": True, "amx_bf16": True}, "bfloat16"),
        ({"cpu_name": "Intel(R) Xeon(R) Processor", "avx512_bf16": True, "amx_bf16": False}, "float32"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ],
)
def test_auto_is_the_faster_arithmetic_of_a_cpu(
    monkeypatch: pytest.MonkeyPatch, cpu: dict[str, Any], dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert pick_dtype("auto", "cpu") == dtype
    assert pick_dtype("float32", "cpu") == "float32"
    assert pick_dtype("auto", "cuda:0") == "bfloat16"
