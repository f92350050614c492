"""Code that loads a bundle in stock ONNX Runtime: Python, C++ and C#, with the real names.

Names come from a model file, so each is written as an escaped literal of its language.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.manifest import Manifest

_SPEC = re.compile(r"(?P<name>.*): (?P<dtype>[a-z]+\d*) \(.*\)", re.DOTALL)
_CPP_TYPES = {
    "float32": "float", "float64": "double", "int64": "int64_t", "int32": "int32_t",
    "int16": "int16_t", "int8": "int8_t", "uint8": "uint8_t", "bool": "bool",
    "float16": "Ort::Float16_t",
}  # fmt: skip
_CS_TYPES = {
    "float32": "float", "float64": "double", "int64": "long", "int32": "int", "int16": "short",
    "int8": "sbyte", "uint8": "byte", "bool": "bool", "float16": "Float16",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An input or output as the snippets need it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Snippet:
    """Code in one language."""

    language: str
    needs: str
    """What to install."""
    code: str


def load_snippets(manifest: Manifest) -> tuple[Snippet, ...]:
    """Loading code; empty for a bundle that ONNX Runtime does not run."""
    if manifest.target.backend != "onnxruntime":
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


def input_tensors(manifest: Manifest) -> tuple[Tensor, ...]:
    """Inputs with the shapes that were measured."""
    shapes = manifest.target.input_shapes
    tensors = []
    for spec in manifest.inputs:
        # the target knows the names exactly; a name may itself look like a spelled type
        known = [name for name in shapes if spec == name or spec.startswith(f"{name}: ")]
        name, dtype = _name_and_dtype(spec)
        name = max(known, key=len, default=name)
        tensors.append(Tensor(name, dtype, shapes.get(name, (manifest.target.batch_size,))))
    return tuple(tensors)


def output_names(manifest: Manifest) -> tuple[str, ...]:
    """Names of the outputs."""
    return tuple(_name_and_dtype(spec)[0] for spec in manifest.outputs)


def _name_and_dtype(spec: str) -> tuple[str, str]:
    match = _SPEC.fullmatch(spec)
    return (match["name"], match["dtype"]) if match else (spec, "float32")


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
        *(f"    {t.name!a}: np.zeros({t.shape}, dtype=np.{_numpy(t.dtype)})," for t in inputs),
        "}",
        f"outputs = session.run([{', '.join(ascii(o) for o in outputs)}], inputs)",
    ]
    return "\n".join(lines)


def _numpy(dtype: str) -> str:
    return "bool_" if dtype == "bool" else dtype


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
        kind = _CPP_TYPES.get(tensor.dtype, "float")
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
        f"  const char* input_names[] = {{{', '.join(_cpp_literal(t.name) for t in inputs)}}};",
        f"  const char* output_names[] = {{{', '.join(_cpp_literal(o) for o in outputs)}}};",
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


def _cpp_literal(name: str) -> str:
    """Octal bytes of UTF-8: three digits end by themselves, unlike hexadecimal ones."""
    return f'"{"".join(_cpp_byte(byte) for byte in name.encode("utf-8", "replace"))}"'


def _cpp_byte(byte: int) -> str:
    # a question mark could begin a trigraph
    plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if plain else f"\\{byte:03o}"


def _csharp_literal(name: str) -> str:
    """Four hexadecimal digits for every UTF-16 unit that is not plain."""
    units = name.encode("utf-16-be", "replace")
    codes = [units[i] << 8 | units[i + 1] for i in range(0, len(units), 2)]
    return f'"{"".join(_csharp_unit(code) for code in codes)}"'


def _csharp_unit(code: int) -> str:
    plain = 32 <= code < 127 and chr(code) not in '"\\'
    return chr(code) if plain else f"\\u{code:04x}"
