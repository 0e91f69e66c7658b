// The gate of a SwiGLU network, y = up * gate / (1 + exp(-gate)), in one pass over memory.

#include <algorithm>
#include <cmath>

#include "ort_custom_op.h"

namespace {

constexpr int64_t kChunk = 4096;  // elements that a thread takes at a time

struct SiLUGate {
  static constexpr const char* name = "SiLUGate";
  static constexpr custom_op::Type inputs[] = {custom_op::Type::float32, custom_op::Type::float32};
  static constexpr custom_op::Type outputs[] = {custom_op::Type::float32};

  explicit SiLUGate(const custom_op::Info&) {}

  void compute(custom_op::Context& context) const {
    const custom_op::Tensor gate = context.input(0), up = context.input(1);
    if (gate.shape != up.shape) {
      throw custom_op::InvalidArgument("SiLUGate: gate and up differ in shape");
    }
    const custom_op::Tensor out = context.output(0, gate.shape);
    const float* g = gate.data<float>();
    const float* u = up.data<float>();
    float* y = out.data<float>();
    const int64_t count = gate.elements();
    context.parallel_for((count + kChunk - 1) / kChunk, [=](size_t chunk) {
      const int64_t start = static_cast<int64_t>(chunk) * kChunk;
      const int64_t stop = std::min(start + kChunk, count);
      for (int64_t i = start; i < stop; ++i) y[i] = u[i] * g[i] / (1.0f + std::exp(-g[i]));
    });
  }
};

}  // namespace

CUSTOM_OPS("example.silu_gate", SiLUGate)
