// What a custom operator needs of ONNX Runtime's C ABI, and a thin C++ layer over it.
//
// ONNX Runtime hands a library its table of functions, to which new entries are only ever appended,
// so a library that names the entries it uses by their places runs with every later version. The
// places and signatures are those of onnxruntime_c_api.h and are checked against it where
// ORT_CUSTOM_OP_CHECK_HEADERS is defined and the header is on the include path.
//
// A kernel is a class:
//
//     struct Twice {
//       static constexpr const char* name = "Twice";
//       static constexpr custom_op::Type inputs[] = {custom_op::Type::float32};
//       static constexpr custom_op::Type outputs[] = {custom_op::Type::float32};
//       explicit Twice(const custom_op::Info&) {}
//       void compute(custom_op::Context& context) const;
//     };
//
// and a library exports one function, with `CUSTOM_OPS("my.domain", Twice, ...)`. What constructor
// and `compute` throw becomes the error of the session.
//
// A graph may come from anywhere. What is asked for here and is not there, an input, an output, an
// attribute, elements of some type, is an error; whether shapes and values fit is for kernels to say.
#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#ifdef ORT_CUSTOM_OP_CHECK_HEADERS
#include <onnxruntime_c_api.h>
#else
extern "C" {
struct OrtApi;
struct OrtStatus;
struct OrtValue;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtTensorTypeAndShapeInfo;
struct OrtShapeInferContext;

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  int (*GetInputType)(const OrtCustomOp*, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int (*GetOutputType)(const OrtCustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);
  int (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp*, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};
}
#endif

// Hidden, because two libraries in one process must not share what is static in here.
namespace custom_op __attribute__((visibility("hidden"))) {

// The version of the table that is asked for: 1.17's, the first with KernelContext_ParallelFor.
constexpr uint32_t kApiVersion = 17;

// Element types, as ONNX numbers them. `any` is for a variadic input of mixed types.
enum class Type : int { any = 0, float32 = 1, uint8 = 2, int8 = 3, int32 = 6, int64 = 7, float16 = 10 };

inline std::string name_of(Type type) {
  switch (type) {
    case Type::float32: return "float32";
    case Type::uint8: return "uint8";
    case Type::int8: return "int8";
    case Type::int32: return "int32";
    case Type::int64: return "int64";
    case Type::float16: return "float16";
    default: return "type " + std::to_string(static_cast<int>(type));
  }
}

// The element type that is read as T; float16 is read as its bits.
template <class T>
constexpr Type type_of = Type::any;
template <>
inline constexpr Type type_of<float> = Type::float32;
template <>
inline constexpr Type type_of<uint8_t> = Type::uint8;
template <>
inline constexpr Type type_of<int8_t> = Type::int8;
template <>
inline constexpr Type type_of<int32_t> = Type::int32;
template <>
inline constexpr Type type_of<int64_t> = Type::int64;
template <>
inline constexpr Type type_of<uint16_t> = Type::float16;

// Thrown for what the caller got wrong: shapes, sizes, values out of range.
struct InvalidArgument : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The entries of the table that are used, by their places in it.
class Api {
 public:
  explicit Api(const OrtApi* table) : entries_(reinterpret_cast<void* const*>(table)) {}

  OrtStatus* create_status(int code, const char* message) const {
    return entry<OrtStatus*(int, const char*)>(0)(code, message);
  }
  void create_domain(const char* name, OrtCustomOpDomain** domain) const {
    check(entry<OrtStatus*(const char*, OrtCustomOpDomain**)>(26)(name, domain));
  }
  void add_to_domain(OrtCustomOpDomain* domain, const OrtCustomOp* op) const {
    check(entry<OrtStatus*(OrtCustomOpDomain*, const OrtCustomOp*)>(27)(domain, op));
  }
  void add_domain(OrtSessionOptions* options, OrtCustomOpDomain* domain) const {
    check(entry<OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)>(28)(options, domain));
  }
  void* tensor_data(const OrtValue* value) const {
    void* data = nullptr;
    check(entry<OrtStatus*(OrtValue*, void**)>(51)(const_cast<OrtValue*>(value), &data));
    return data;
  }
  void tensor_type_and_shape(const OrtValue* value, Type& type, std::vector<int64_t>& shape) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(entry<OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)>(65)(value, &info));
    size_t rank = 0;
    OrtStatus* status = entry<OrtStatus*(const OrtTensorTypeAndShapeInfo*, Type*)>(60)(info, &type);
    if (status == nullptr) status = entry<OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t*)>(61)(info, &rank);
    if (status == nullptr) {
      shape.resize(rank);
      status = entry<OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>(62)(
          info, shape.data(), rank);
    }
    entry<void(OrtTensorTypeAndShapeInfo*)>(99)(info);
    check(status);
  }
  float float_attribute(const OrtKernelInfo* info, const char* name) const {
    float value = 0;
    check(entry<OrtStatus*(const OrtKernelInfo*, const char*, float*)>(85)(info, name, &value));
    return value;
  }
  int64_t int_attribute(const OrtKernelInfo* info, const char* name) const {
    int64_t value = 0;
    check(entry<OrtStatus*(const OrtKernelInfo*, const char*, int64_t*)>(86)(info, name, &value));
    return value;
  }
  size_t input_count(const OrtKernelContext* context) const {
    size_t count = 0;
    check(entry<OrtStatus*(const OrtKernelContext*, size_t*)>(88)(context, &count));
    return count;
  }
  const OrtValue* input(const OrtKernelContext* context, size_t index) const {
    const OrtValue* value = nullptr;
    check(entry<OrtStatus*(const OrtKernelContext*, size_t, const OrtValue**)>(90)(context, index, &value));
    return value;
  }
  OrtValue* output(OrtKernelContext* context, size_t index, const std::vector<int64_t>& shape) const {
    OrtValue* value = nullptr;
    check(entry<OrtStatus*(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)>(91)(
        context, index, shape.data(), shape.size(), &value));
    return value;
  }
  size_t input_count(const OrtKernelInfo* info) const {
    size_t count = 0;
    check(entry<OrtStatus*(const OrtKernelInfo*, size_t*)>(230)(info, &count));
    return count;
  }
  size_t output_count(const OrtKernelInfo* info) const {
    size_t count = 0;
    check(entry<OrtStatus*(const OrtKernelInfo*, size_t*)>(231)(info, &count));
    return count;
  }
  const OrtValue* constant_input(const OrtKernelInfo* info, size_t index) const {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    check(entry<OrtStatus*(const OrtKernelInfo*, size_t, int*, const OrtValue**)>(249)(
        info, index, &is_constant, &value));
    return is_constant ? value : nullptr;
  }
  void parallel_for(const OrtKernelContext* context, void (*work)(void*, size_t), size_t total,
                    size_t batches, void* data) const {
    check(entry<OrtStatus*(const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(274)(
        context, work, total, batches, data));
  }

 private:
  template <class Signature>
  Signature* entry(size_t place) const {
    return reinterpret_cast<Signature*>(entries_[place]);
  }
  void check(OrtStatus* status) const {
    if (status == nullptr) return;
    std::string message = entry<const char*(const OrtStatus*)>(2)(status);
    entry<void(OrtStatus*)>(93)(status);
    throw std::runtime_error(message);
  }

  void* const* entries_;
};

// The one table of this library; set when the library is registered.
inline const OrtApi*& registered_table() {
  static const OrtApi* table = nullptr;
  return table;
}
inline Api api() { return Api(registered_table()); }

// A tensor that belongs to ONNX Runtime.
struct Tensor {
  Type type;
  std::vector<int64_t> shape;
  void* bytes;

  // `what` it is, for messages: "input", "output". Null stands for one that the node does not have.
  Tensor(const OrtValue* value, const char* what, size_t index) : what_(what), index_(index) {
    if (value == nullptr) throw InvalidArgument(name() + " is missing");
    api().tensor_type_and_shape(value, type, shape);
    bytes = api().tensor_data(value);
  }

  template <class T>
  T* data() const {
    static_assert(type_of<T> != Type::any, "elements of this type are to be had from `bytes`");
    expect(type_of<T>);
    return static_cast<T*>(bytes);
  }
  // Throws if elements are of another type.
  void expect(Type expected) const {
    if (type != expected)
      throw InvalidArgument(name() + " has elements of " + name_of(type) + ", expected " + name_of(expected));
  }
  // Product of the dimensions from `first` up to, not including, `last`.
  int64_t elements(size_t first, size_t last) const {
    uint64_t count = 1;  // of a tensor without elements some of the dimensions may overflow it
    for (size_t i = first; i < last; ++i) count *= static_cast<uint64_t>(shape[i]);
    return static_cast<int64_t>(count);
  }
  int64_t elements() const { return elements(0, shape.size()); }

 private:
  std::string name() const { return std::string(what_) + " " + std::to_string(index_); }

  const char* what_;
  size_t index_;
};

// What a kernel knows when it is made.
class Info {
 public:
  explicit Info(const OrtKernelInfo* info) : info_(info) {}

  int64_t integer(const std::string& attribute) const {
    return named(attribute, [&] { return api().int_attribute(info_, attribute.c_str()); });
  }
  int64_t integer(const std::string& attribute, int64_t least, int64_t most) const {
    const int64_t value = integer(attribute);
    if (value < least || value > most)
      throw InvalidArgument("attribute '" + attribute + "' is " + std::to_string(value) + ", expected " +
                            std::to_string(least) + " to " + std::to_string(most));
    return value;
  }
  bool flag(const std::string& attribute) const { return integer(attribute, 0, 1) != 0; }
  // A finite one.
  float number(const std::string& attribute) const {
    const float value = named(attribute, [&] { return api().float_attribute(info_, attribute.c_str()); });
    if (!std::isfinite(value)) throw InvalidArgument("attribute '" + attribute + "' is no finite number");
    return value;
  }
  size_t inputs() const { return api().input_count(info_); }
  size_t outputs() const { return api().output_count(info_); }

  // An input that the graph has as a constant.
  Tensor constant(size_t index) const {
    const OrtValue* value = index < inputs() ? api().constant_input(info_, index) : nullptr;
    if (value == nullptr) throw InvalidArgument("input " + std::to_string(index) + " has to be a constant");
    return Tensor(value, "input", index);
  }

 private:
  template <class Read>
  static auto named(const std::string& attribute, const Read& read) -> decltype(read()) {
    try {
      return read();
    } catch (const std::runtime_error& error) {
      throw InvalidArgument("attribute '" + attribute + "' is missing or of another type: " + error.what());
    }
  }

  const OrtKernelInfo* info_;
};

// What a kernel works with in one run.
class Context {
 public:
  explicit Context(OrtKernelContext* context) : context_(context) {}

  size_t inputs() const { return api().input_count(context_); }
  Tensor input(size_t index) const { return Tensor(api().input(context_, index), "input", index); }
  Tensor output(size_t index, const std::vector<int64_t>& shape) {
    return Tensor(api().output(context_, index, shape), "output", index);
  }

  // Calls `work(i)` for every i below `total` on the threads of the session, each of which takes the
  // next i when it is done with one. The first of what `work` throws is thrown here, at the end.
  template <class Work>
  void parallel_for(size_t total, const Work& work) const {
    if (total == 0) return;
    struct Job {
      const Work& work;
      std::atomic<bool> failed{false};
      std::exception_ptr error{};
    } job{work};
    auto call = [](void* data, size_t i) {
      Job& job = *static_cast<Job*>(data);
      try {
        job.work(i);
      } catch (...) {
        if (!job.failed.exchange(true)) job.error = std::current_exception();
      }
    };
    api().parallel_for(context_, call, total, total, &job);
    if (job.failed) std::rethrow_exception(job.error);
  }

 private:
  OrtKernelContext* context_;
};

// An operator whose last input, or last output, may be given any number of times (at least once)
// says so with `static constexpr bool variadic_input = true` (`variadic_output`).
template <class Kernel, class = void>
struct VariadicInput : std::false_type {};
template <class Kernel>
struct VariadicInput<Kernel, std::void_t<decltype(Kernel::variadic_input)>>
    : std::bool_constant<Kernel::variadic_input> {};
// How many of the last inputs may be left out it says with `static constexpr size_t optional_inputs`; a kernel asks
// `Info::inputs` for their number.
template <class Kernel, class = void>
struct OptionalInputs : std::integral_constant<size_t, 0> {};
template <class Kernel>
struct OptionalInputs<Kernel, std::void_t<decltype(Kernel::optional_inputs)>>
    : std::integral_constant<size_t, Kernel::optional_inputs> {};
template <class Kernel, class = void>
struct VariadicOutput : std::false_type {};
template <class Kernel>
struct VariadicOutput<Kernel, std::void_t<decltype(Kernel::variadic_output)>>
    : std::bool_constant<Kernel::variadic_output> {};

template <class Kernel>
struct Operator : OrtCustomOp {
  static constexpr size_t kInputs = sizeof(Kernel::inputs) / sizeof(Type);
  static constexpr size_t kOutputs = sizeof(Kernel::outputs) / sizeof(Type);

  Operator() : OrtCustomOp{} {
    version = kApiVersion;
    GetName = [](const OrtCustomOp*) { return Kernel::name; };
    GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
    GetInputTypeCount = [](const OrtCustomOp*) { return kInputs; };
    GetInputType = [](const OrtCustomOp*, size_t i) { return element(Kernel::inputs[i]); };
    GetOutputTypeCount = [](const OrtCustomOp*) { return kOutputs; };
    GetOutputType = [](const OrtCustomOp*, size_t i) { return element(Kernel::outputs[i]); };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t i) {
      if (i + OptionalInputs<Kernel>::value >= kInputs) return optional();
      return characteristic(VariadicInput<Kernel>::value && i + 1 == kInputs);
    };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t i) {
      return characteristic(VariadicOutput<Kernel>::value && i + 1 == kOutputs);
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return memory_type(); };
    GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) {
      return int{Kernel::inputs[kInputs - 1] != Type::any};
    };
    GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
      // What is thrown here is told without the operator's name.
      return guarded([&] { *kernel = new Kernel(Info(info)); }, std::string(Kernel::name) + ": ");
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      return guarded([&] {
        Context wrapped(context);
        static_cast<const Kernel*>(kernel)->compute(wrapped);
      });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }

 private:
#ifdef ORT_CUSTOM_OP_CHECK_HEADERS
  static ONNXTensorElementDataType element(Type type) { return static_cast<ONNXTensorElementDataType>(type); }
  static OrtCustomOpInputOutputCharacteristic characteristic(bool variadic) {
    return variadic ? INPUT_OUTPUT_VARIADIC : INPUT_OUTPUT_REQUIRED;
  }
  static OrtCustomOpInputOutputCharacteristic optional() { return INPUT_OUTPUT_OPTIONAL; }
  static OrtMemType memory_type() { return OrtMemTypeDefault; }
#else
  static int element(Type type) { return static_cast<int>(type); }
  static int characteristic(bool variadic) { return variadic ? 2 : 0; }
  static int optional() { return 1; }
  static int memory_type() { return 0; }
#endif

  template <class Body>
  static OrtStatus* guarded(const Body& body, const std::string& prefix = {}) {
    constexpr int kFail = 1, kInvalidArgument = 2;
    try {
      body();
      return nullptr;
    } catch (const InvalidArgument& error) {
      return status(kInvalidArgument, (prefix + error.what()).c_str());
    } catch (const std::exception& error) {
      return status(kFail, (prefix + error.what()).c_str());
    }
  }
  static OrtStatus* status(int code, const char* message) {
#ifdef ORT_CUSTOM_OP_CHECK_HEADERS
    return registered_table()->CreateStatus(static_cast<OrtErrorCode>(code), message);
#else
    return api().create_status(code, message);
#endif
  }
};

// Adds one domain with these operators to a session's options. The domain is made once and lives as
// long as the library: sessions refer to it.
template <class... Kernels>
OrtStatus* register_operators(const char* domain_name, OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* table = base->GetApi(kApiVersion);
  if (table == nullptr) {
    // Version 1 has CreateStatus, and every runtime has version 1.
    std::string message = std::string("needs ONNX Runtime 1.17 or newer, this is ") + base->GetVersionString();
    return Api(base->GetApi(1)).create_status(1, message.c_str());
  }
  registered_table() = table;
  try {
    static OrtCustomOpDomain* const domain = [&] {
      OrtCustomOpDomain* made = nullptr;
      api().create_domain(domain_name, &made);
      (api().add_to_domain(made, new Operator<Kernels>), ...);
      return made;
    }();
    api().add_domain(options, domain);
    return nullptr;
  } catch (const std::exception& error) {
    return api().create_status(1, error.what());
  }
}

#ifdef ORT_CUSTOM_OP_CHECK_HEADERS
#define ORT_CUSTOM_OP_PLACE(function, place) \
  static_assert(offsetof(OrtApi, function) / sizeof(void*) == place, #function " is elsewhere")
ORT_CUSTOM_OP_PLACE(CreateStatus, 0);
ORT_CUSTOM_OP_PLACE(GetErrorMessage, 2);
ORT_CUSTOM_OP_PLACE(CreateCustomOpDomain, 26);
ORT_CUSTOM_OP_PLACE(CustomOpDomain_Add, 27);
ORT_CUSTOM_OP_PLACE(AddCustomOpDomain, 28);
ORT_CUSTOM_OP_PLACE(GetTensorMutableData, 51);
ORT_CUSTOM_OP_PLACE(GetTensorElementType, 60);
ORT_CUSTOM_OP_PLACE(GetDimensionsCount, 61);
ORT_CUSTOM_OP_PLACE(GetDimensions, 62);
ORT_CUSTOM_OP_PLACE(GetTensorTypeAndShape, 65);
ORT_CUSTOM_OP_PLACE(KernelInfoGetAttribute_float, 85);
ORT_CUSTOM_OP_PLACE(KernelInfoGetAttribute_int64, 86);
ORT_CUSTOM_OP_PLACE(KernelContext_GetInputCount, 88);
ORT_CUSTOM_OP_PLACE(KernelContext_GetInput, 90);
ORT_CUSTOM_OP_PLACE(KernelContext_GetOutput, 91);
ORT_CUSTOM_OP_PLACE(ReleaseStatus, 93);
ORT_CUSTOM_OP_PLACE(ReleaseTensorTypeAndShapeInfo, 99);
ORT_CUSTOM_OP_PLACE(KernelInfo_GetInputCount, 230);
ORT_CUSTOM_OP_PLACE(KernelInfo_GetOutputCount, 231);
ORT_CUSTOM_OP_PLACE(KernelInfoGetConstantInput_tensor, 249);
ORT_CUSTOM_OP_PLACE(KernelContext_ParallelFor, 274);
#undef ORT_CUSTOM_OP_PLACE
#endif

}  // namespace custom_op

// Defines the one function that a library of custom operators exports.
#define CUSTOM_OPS(domain, ...)                                                                      \
  extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(                    \
      OrtSessionOptions* options, const OrtApiBase* base) {                                          \
    return custom_op::register_operators<__VA_ARGS__>(domain, options, base);                        \
  }
