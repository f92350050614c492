// The part of ONNX Runtime's C++ interface that the snippets of a report use, with the signatures
// of its public header (release 1.31). The wheel brings no headers, so that this is what a test
// compiles them against: it checks types, arity and literals, and runs nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#define ORTCHAR_T char
#define ORT_TSTR(X) X

enum OrtAllocatorType { OrtInvalidAllocator = -1, OrtDeviceAllocator = 0, OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeCPUInput = -2, OrtMemTypeCPUOutput = -1, OrtMemTypeDefault = 0 };
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_VERBOSE, ORT_LOGGING_LEVEL_WARNING = 2 };
struct OrtMemoryInfo;

namespace Ort {

struct Float16_t {
  uint16_t val;
};

struct Env {
  Env(OrtLoggingLevel logging_level = ORT_LOGGING_LEVEL_WARNING, const char* logid = "");
};

struct CustomOpConfigs {};

struct SessionOptions {
  SessionOptions& SetIntraOpNumThreads(int intra_op_num_threads);
  SessionOptions& RegisterCustomOpsLibrary(const ORTCHAR_T* library_name,
                                           const CustomOpConfigs& custom_op_configs = {});
};

struct RunOptions {
  explicit RunOptions(std::nullptr_t) {}
  RunOptions();
};

struct MemoryInfo {
  static MemoryInfo CreateCpu(OrtAllocatorType type, OrtMemType mem_type1);
  operator const OrtMemoryInfo*() const;
};

struct Value {
  Value(Value&&) = default;
  template <typename T>
  static Value CreateTensor(const OrtMemoryInfo* info, T* p_data, size_t p_data_element_count,
                            const int64_t* shape, size_t shape_len);
};

struct Session {
  Session(const Env& env, const ORTCHAR_T* model_path, const SessionOptions& options);
  std::vector<Value> Run(const RunOptions& run_options, const char* const* input_names,
                         const Value* input_values, size_t input_count,
                         const char* const* output_names, size_t output_count);
};

}  // namespace Ort
