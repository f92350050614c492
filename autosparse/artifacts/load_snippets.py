"""Code that loads a bundle: in stock ONNX Runtime, or TVM's runtime, with the real names.

Names come from a model file, so each is written as an escaped literal of its language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.manifest import Manifest
from autosparse.artifacts.snippet_tensors import (
    CPP_TYPES,
    Tensor,
    cpp_literal,
    input_tensors,
    numpy_type,
    output_names,
)
from autosparse.artifacts.tvm_snippets import (
    cpp_example,
    cpp_needs,
    python_example,
    python_needs,
)

_CS_TYPES = {
    "float32": "float", "float64": "double", "int64": "long", "int32": "int", "int16": "short",
    "int8": "sbyte", "uint8": "byte", "uint16": "ushort", "uint32": "uint", "uint64": "ulong",
    "bool": "bool", "float16": "Float16",
}  # fmt: skip


@dataclass(frozen=True)
class Snippet:
    """Code in one language."""

    language: str
    needs: str
    """What to install."""
    code: str


def load_snippets(manifest: Manifest) -> tuple[Snippet, ...]:
    """Loading code; empty for a bundle of a backend that we do not know."""
    if manifest.target.backend == "tvm" and not manifest.stands_in:
        return (
            Snippet("Python", python_needs(manifest), python_example(manifest)),
            Snippet("C++", cpp_needs(manifest), cpp_example(manifest)),
        )
    if manifest.target.backend != "onnxruntime" and not manifest.stands_in:
        return ()
    inputs, outputs = input_tensors(manifest), output_names(manifest)
    threads = manifest.target.threads
    libraries = [n for n in manifest.files if n.startswith("kernels/") and n.endswith(".so")]
    # a device of another architecture has its own, one level below
    kernels = sorted(libraries, key=lambda name: -name.count("/"))[:1]
    return (
        Snippet("Python", "pip install onnxruntime", _python(inputs, outputs, threads, kernels)),
        Snippet("C++", "onnxruntime_cxx_api.h of an ONNX Runtime release",
                _cpp(inputs, outputs, threads, kernels)),
        Snippet("C#", "dotnet add package Microsoft.ML.OnnxRuntime",
                _csharp(inputs, outputs, threads, kernels)),
    )  # fmt: skip


def _python(
    inputs: Sequence[Tensor], outputs: Sequence[str], threads: int, kernels: Sequence[str]
) -> str:
    lines = [
        "import numpy as np",
        "import onnxruntime as ort",
        "",
        "options = ort.SessionOptions()",
        f"options.intra_op_num_threads = {threads}  # as measured",
        *(f"options.register_custom_ops_library({f'bundle/{k}'!r})" for k in kernels),
        "session = ort.InferenceSession(",
        '    "bundle/model.onnx", options, providers=["CPUExecutionProvider"]',
        ")",
        "inputs = {  # put your data here",
        *(f"    {t.name!a}: np.zeros({t.shape}, dtype=np.{numpy_type(t.dtype)})," for t in inputs),
        "}",
        f"outputs = session.run([{', '.join(ascii(o) for o in outputs)}], inputs)",
    ]
    return "\n".join(lines)


def _cpp(
    inputs: Sequence[Tensor], outputs: Sequence[str], threads: int, kernels: Sequence[str]
) -> str:
    lines = [
        "#include <onnxruntime_cxx_api.h>",
        "#include <cstdint>",
        "#include <memory>",
        "#include <vector>",
        "",
        "int main() {",
        "  Ort::Env env;",
        "  Ort::SessionOptions options;",
        f"  options.SetIntraOpNumThreads({threads});  // as measured",
        *(f'  options.RegisterCustomOpsLibrary(ORT_TSTR("bundle/{k}"));' for k in kernels),
        '  Ort::Session session(env, ORT_TSTR("bundle/model.onnx"), options);',
        "  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);",
        "",
        "  std::vector<Ort::Value> inputs;",
    ]
    for i, tensor in enumerate(inputs):
        kind = CPP_TYPES.get(tensor.dtype, "float")
        size = " * ".join(map(str, tensor.shape)) or "1"
        dims = ", ".join(map(str, tensor.shape))
        lines += [
            f"  auto data{i} = std::make_unique<{kind}[]>({size});  // put your data here",
            f"  std::vector<int64_t> shape{i} = {{{dims}}};",
            f"  inputs.push_back(Ort::Value::CreateTensor<{kind}>(",
            f"      memory, data{i}.get(), {size}, shape{i}.data(), shape{i}.size()));",
        ]
    lines += [
        "",
        f"  const char* input_names[] = {{{', '.join(cpp_literal(t.name) for t in inputs)}}};",
        f"  const char* output_names[] = {{{', '.join(cpp_literal(o) for o in outputs)}}};",
        "  auto outputs = session.Run(Ort::RunOptions{nullptr}, input_names, inputs.data(),",
        f"                             inputs.size(), output_names, {len(outputs)});",
        "}",
    ]
    return "\n".join(lines)


def _csharp(
    inputs: Sequence[Tensor], outputs: Sequence[str], threads: int, kernels: Sequence[str]
) -> str:
    lines = [
        "using System.Collections.Generic;",
        "using Microsoft.ML.OnnxRuntime;",
        "using Microsoft.ML.OnnxRuntime.Tensors;",
        "",
        "// threads as measured",
        f"using var options = new SessionOptions {{ IntraOpNumThreads = {threads} }};",
        *(f'options.RegisterCustomOpLibrary("bundle/{k}");' for k in kernels),
        'using var session = new InferenceSession("bundle/model.onnx", options);',
        "var inputs = new List<NamedOnnxValue> {  // put your data here",
    ]
    for tensor in inputs:
        kind = _CS_TYPES.get(tensor.dtype, "float")
        dims = ", ".join(map(str, tensor.shape))
        lines += [
            f"    NamedOnnxValue.CreateFromTensor({_csharp_literal(tensor.name)},",
            f"        new DenseTensor<{kind}>(new int[] {{ {dims} }})),",
        ]
    names = ", ".join(_csharp_literal(o) for o in outputs)
    lines += ["};", f"using var outputs = session.Run(inputs, new[] {{ {names} }});"]
    return "\n".join(lines)


def _csharp_literal(name: str) -> str:
    """Four hexadecimal digits for every UTF-16 unit that is not plain."""
    units = name.encode("utf-16-be", "replace")
    codes = [units[i] << 8 | units[i + 1] for i in range(0, len(units), 2)]
    return f'"{"".join(_csharp_unit(code) for code in codes)}"'


def _csharp_unit(code: int) -> str:
    plain = 32 <= code < 127 and chr(code) not in '"\\'
    return chr(code) if plain else f"\\u{code:04x}"
