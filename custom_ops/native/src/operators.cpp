// The custom operators of the domain `pipelines.native`.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "decode.h"
#include "kernels.h"
#include "matrix.h"
#include "ort_custom_op.h"
#include "tiles.h"

namespace native {

namespace {

using custom_op::Context;
using custom_op::Info;
using custom_op::InvalidArgument;
using custom_op::Tensor;
using custom_op::Type;

constexpr int64_t kTaskBytes = 192 << 10;  // of a matrix that a thread takes at a time

// Beyond what any model has, and far from where sizes that are made of them would overflow.
constexpr int64_t kMostColumns = 1 << 30, kMostHeadDim = 1 << 16, kMostHeads = 1 << 16;

Encoding encoding_attribute(const Info& info, const std::string& name) {
  const auto encoding = static_cast<Encoding>(info.integer(name));
  switch (encoding) {
    case Encoding::f32:
    case Encoding::f16:
    case Encoding::bf16:
    case Encoding::q4_0:
    case Encoding::q4_1:
    case Encoding::q8_0:
    case Encoding::q6_k: return encoding;
  }
  throw InvalidArgument("no encoding " + std::to_string(static_cast<int64_t>(encoding)));
}

int64_t columns_attribute(const Info& info) { return info.integer("columns", 1, kMostColumns); }

void expect_count(size_t count, size_t expected, const char* what) {
  if (count != expected)
    throw InvalidArgument("the node has " + std::to_string(count) + " " + what + ", expected " +
                          std::to_string(expected));
}

std::string text(const std::vector<int64_t>& shape) {
  std::string all;
  for (const int64_t size : shape) all += (all.empty() ? "" : ", ") + std::to_string(size);
  return "[" + all + "]";
}

// Memory that a thread uses again from call to call.
template <class T>
T* scratch(size_t count) {
  thread_local std::vector<T> memory;
  if (memory.size() < count) memory.resize(count);
  return memory.data();
}

int panel_width(int64_t tokens) {
  int width = 1;
  while (width < kMaxTokens && width < tokens) width *= 2;
  return width;
}

// The activations of a call, in panels of up to 16 tokens.
class Panels {
 public:
  Panels(int64_t tokens, int64_t columns) : tokens_(tokens) {
    const int64_t padded = (columns + 63) / 64 * 64;
    const int64_t count = (tokens + kMaxTokens - 1) / kMaxTokens;
    int64_t width = 0;
    for (int64_t i = 0; i < count; ++i) width += panel_width(this->tokens(i));
    struct alignas(64) Line {
      uint8_t bytes[64];
    };
    // Codes, then scales, sums, and sums of half blocks: all multiples of 64 bytes a token of width.
    auto* at = reinterpret_cast<uint8_t*>(scratch<Line>(width * padded * 3 / 2 / 64 + 4 * count));
    const auto take = [&](int64_t bytes) {
      uint8_t* taken = at;
      at += (bytes + 63) / 64 * 64;
      return taken;
    };
    for (int64_t i = 0; i < count; ++i) {
      const int w = panel_width(this->tokens(i));
      Panel panel{w, i == 0, padded, nullptr, nullptr, nullptr, nullptr};
      panel.codes = reinterpret_cast<int8_t*>(take(padded * w));
      panel.scales = reinterpret_cast<float*>(take(padded / 8 * w));
      panel.sums = reinterpret_cast<int32_t*>(take(padded / 8 * w));
      panel.sums_16 = reinterpret_cast<int32_t*>(take(padded / 4 * w));
      panels_.push_back(panel);
    }
  }

  size_t size() const { return panels_.size(); }
  const Panel& operator[](size_t i) const { return panels_[i]; }
  int tokens(size_t i) const {
    return static_cast<int>(std::min<int64_t>(kMaxTokens, tokens_ - static_cast<int64_t>(i) * kMaxTokens));
  }

 private:
  int64_t tokens_;
  std::vector<Panel> panels_;
};

}  // namespace

// Products of one input with one or more weight matrices. Inputs: x [..., K]; the matrices, each the
// bytes of the file [N, row_bytes]; with `norm` the weight of an RMSNorm of x [K]; with `residual`
// what is added to the (only) product [..., N]. With `gated` there are two matrices and one output,
// silu(x W0') * (x W1').
class Linear {
 public:
  static constexpr const char* name = "Linear";
  static constexpr Type inputs[] = {Type::float32, Type::any};
  static constexpr Type outputs[] = {Type::float32};
  static constexpr bool variadic_input = true, variadic_output = true;

  explicit Linear(const Info& info)
      : columns_(columns_attribute(info)),
        normalizes_(info.flag("norm")),
        adds_(info.flag("residual")),
        gated_(info.flag("gated")),
        epsilon_(info.number("epsilon")) {
    if (epsilon_ < 0) throw InvalidArgument("attribute 'epsilon' is negative");
    const int64_t count = info.integer("weights", 1, static_cast<int64_t>(info.inputs()));
    expect_count(info.inputs(), 1 + count + normalizes_ + adds_, "inputs");
    expect_count(info.outputs(), gated_ ? 1 : count, "outputs");
    matrices_.reserve(count);
    for (int64_t i = 0; i < count; ++i) {
      const Tensor stored = info.constant(1 + i);
      if (stored.shape.size() != 2) throw InvalidArgument("a weight is a matrix of bytes");
      const Encoding encoding = encoding_attribute(info, "encoding_" + std::to_string(i));
      matrices_.emplace_back(encoding, stored.data<uint8_t>(), stored.shape[0], stored.shape[1], columns_);
      quantizes_ |= matrices_.back().packed();
    }
    if (adds_ && count != 1) throw InvalidArgument("a residual is added to one product");
    if (gated_ && (count != 2 || matrices_[0].rows() != matrices_[1].rows() || !matrices_[0].packed() ||
                   matrices_[0].encoding() != matrices_[1].encoding()))
      throw InvalidArgument("a gated product has two block-quantized matrices of one shape and encoding");
  }

  void compute(Context& context) const {
    const Kernels& kernel = kernels();
    const Tensor x = context.input(0);
    if (x.shape.empty() || x.shape.back() != columns_)
      throw InvalidArgument("the input " + text(x.shape) + " has not " + std::to_string(columns_) + " columns");
    const int64_t tokens = x.elements(0, x.shape.size() - 1);
    size_t next = 1 + matrices_.size();
    const float* norm = nullptr;
    if (normalizes_) {
      const Tensor weight = context.input(next++);
      if (weight.elements() != columns_)
        throw InvalidArgument("the norm's weight " + text(weight.shape) + " has not the size of a row");
      norm = weight.data<float>();
    }
    const float* residual = nullptr;
    if (adds_) {
      const Tensor added = context.input(next++);
      if (added.elements() != tokens * matrices_[0].rows())
        throw InvalidArgument("the residual " + text(added.shape) + " has not the size of the product");
      residual = added.data<float>();
    }
    std::vector<float*> results;
    for (size_t i = 0; i < (gated_ ? 1 : matrices_.size()); ++i) {
      std::vector<int64_t> shape = x.shape;
      shape.back() = matrices_[i].rows();
      results.push_back(context.output(i, shape).data<float>());
    }
    if (tokens == 0) return;

    const float* rows = x.data<float>();
    float* normed = normalizes_ ? scratch<float>(tokens * columns_) : nullptr;
    const Panels panels(quantizes_ ? tokens : 0, columns_);
    const int64_t prepared = (tokens + kMaxTokens - 1) / kMaxTokens;
    const auto prepare = [&](size_t i) {
      const int64_t first = i * kMaxTokens, last = std::min<int64_t>(tokens, first + kMaxTokens);
      for (int64_t t = first; normalizes_ && t < last; ++t)
        kernel.rms_norm(rows + t * columns_, norm, epsilon_, columns_, normed + t * columns_);
      if (quantizes_)
        kernel.quantize((normalizes_ ? normed : rows) + first * columns_, columns_, last - first, panels[i]);
    };
    if (quantizes_ || normalizes_) context.parallel_for(prepared, prepare);
    if (normalizes_) rows = normed;

    struct Task {
      size_t matrix;
      int64_t first, last;
    };
    std::vector<Task> tasks;
    for (size_t i = 0; i < results.size(); ++i) {
      // Kernels take groups of rows by twos.
      const int64_t step = std::max<int64_t>(1, kTaskBytes / matrices_[i].group_bytes() / 2) * 2 * kLanes;
      for (int64_t first = 0; first < matrices_[i].rows(); first += step)
        tasks.push_back({i, first, std::min(matrices_[i].rows(), first + step)});
    }
    const int64_t ahead = prefetch_distance();
    context.parallel_for(tasks.size(), [&](size_t i) {
      const Task& task = tasks[i];
      const Matrix& matrix = matrices_[task.matrix];
      const Output all{results[task.matrix], matrix.rows(), matrix.rows(), residual};
      if (!matrix.packed())
        return kernel.float_product(matrix.encoding(), matrix.data(), ahead, task.first, task.last, rows, columns_,
                                    tokens, all);
      for (size_t p = 0; p < panels.size(); ++p) {
        Output output = all;
        const int64_t offset = static_cast<int64_t>(p) * kMaxTokens * output.stride;
        output.values += offset;
        if (residual != nullptr) output.residual += offset;
        if (gated_)
          kernel.gated_product(matrix.encoding(), matrix.data(), matrices_[1].data(), ahead, task.first, task.last,
                               panels[p], panels.tokens(p), output);
        else
          kernel.product(matrix.encoding(), matrix.data(), ahead, task.first, task.last, panels[p], panels.tokens(p),
                         output);
      }
    });
  }

 private:
  int64_t columns_;
  bool normalizes_, adds_, gated_;
  float epsilon_;
  bool quantizes_ = false;
  std::vector<Matrix> matrices_;
};

// Rows of a matrix: tokens [...] int64 and the bytes of the file [N, row_bytes] to values [..., K].
class Embedding {
 public:
  static constexpr const char* name = "Embedding";
  static constexpr Type inputs[] = {Type::int64, Type::uint8};
  static constexpr Type outputs[] = {Type::float32};

  explicit Embedding(const Info& info)
      : encoding_(encoding_attribute(info, "encoding")), columns_(columns_attribute(info)) {
    if (columns_ % block_columns(encoding_) != 0)
      throw InvalidArgument("rows of " + std::to_string(columns_) + " columns are not whole blocks of " +
                            std::to_string(block_columns(encoding_)));
    expect_count(info.inputs(), std::size(inputs), "inputs");
    expect_count(info.outputs(), std::size(outputs), "outputs");
  }

  void compute(Context& context) const {
    const Tensor tokens = context.input(0), table = context.input(1);
    const int64_t bytes = row_bytes(encoding_, columns_);
    if (table.shape.size() != 2 || table.shape[1] != bytes)
      throw InvalidArgument("the table " + text(table.shape) + " has not rows of " + std::to_string(bytes) + " bytes");
    const int64_t count = tokens.elements(), rows = table.shape[0];
    const int64_t* ids = tokens.data<int64_t>();
    for (int64_t i = 0; i < count; ++i)
      if (ids[i] < 0 || ids[i] >= rows)
        throw InvalidArgument("token " + std::to_string(ids[i]) + " is outside of the vocabulary of " +
                              std::to_string(rows));
    std::vector<int64_t> shape = tokens.shape;
    shape.push_back(columns_);
    float* values = context.output(0, shape).data<float>();
    const auto* stored = table.data<uint8_t>();
    context.parallel_for(count, [&](size_t i) {
      decode_row(encoding_, stored + ids[i] * bytes, columns_, values + i * columns_);
    });
  }

 private:
  Encoding encoding_;
  int64_t columns_;
};

template <Type state, bool rotates>
struct AttentionInputs {
  static constexpr Type inputs[] = {Type::float32, Type::float32, Type::float32, state,
                                    state,         Type::int32,   Type::int32};
};
template <Type state>
struct AttentionInputs<state, true> {
  static constexpr Type inputs[] = {Type::float32, Type::float32, Type::float32, state,        state,
                                    Type::int32,   Type::int32,   Type::float32, Type::float32};
};

// Causal grouped-query attention that appends to its state. Inputs: query [B, S, heads * head_dim], key and
// value [B, S, kv_heads * head_dim], the two halves of the state [B, kv_heads, capacity, head_dim], past and
// total [B]; if it rotates, cosines and sines [positions, head_dim / 2]. Row b has total[b] - past[b] tokens; the
// rest of it is padding. Outputs: the mix, shaped like query, and the state, which should be the same memory.
//
// Keys are stored in groups of 16: [capacity / 16][head_dim][16], so that a score is computed in each lane.
template <bool half, bool rotates>
class Attention : public AttentionInputs<half ? Type::float16 : Type::float32, rotates> {
 public:
  static constexpr Type state = half ? Type::float16 : Type::float32;
  static constexpr const char* name = half ? (rotates ? "RotaryAttention" : "Attention")
                                           : (rotates ? "RotaryAttentionFloat32" : "AttentionFloat32");
  static constexpr Type outputs[] = {Type::float32, state, state};

  explicit Attention(const Info& info)
      : head_dim_(info.integer("head_dim", 2, kMostHeadDim)),
        scale_(info.number("scale")),
        interleaved_(info.flag("interleaved")) {
    if (head_dim_ % 2 != 0) throw InvalidArgument("attribute 'head_dim' has to be even");
    expect_count(info.inputs(), std::size(Attention::inputs), "inputs");
    expect_count(info.outputs(), std::size(outputs), "outputs");
  }

  void compute(Context& context) const {
    const Kernels& kernel = kernels();
    const Tensor query = context.input(0), key = context.input(1), value = context.input(2);
    const Tensor past_key = context.input(3), past_value = context.input(4);
    const Tensor pasts = context.input(5), totals = context.input(6);
    past_key.expect(state);
    past_value.expect(state);
    const auto *query_rows = query.data<float>(), *key_rows = key.data<float>(), *value_rows = value.data<float>();
    if (query.shape.size() != 3 || key.shape.size() != 3)
      throw InvalidArgument("query " + text(query.shape) + " and key " + text(key.shape) +
                            " have to be [batch, tokens, heads * head_dim]");
    const int32_t *past = pasts.data<int32_t>(), *total = totals.data<int32_t>();
    const int64_t batch = query.shape[0], length = query.shape[1];
    const int64_t heads = query.shape[2] / head_dim_, kv_heads = key.shape[2] / head_dim_;
    const int64_t capacity = past_key.shape.size() == 4 ? past_key.shape[2] : 0;
    if (kv_heads < 1 || heads < 1 || heads > kMostHeads || heads % kv_heads != 0 ||
        query.shape[2] != heads * head_dim_ || key.shape != std::vector<int64_t>{batch, length, kv_heads * head_dim_} ||
        value.shape != key.shape || past_key.shape != std::vector<int64_t>{batch, kv_heads, capacity, head_dim_} ||
        past_value.shape != past_key.shape || capacity % kLanes != 0)
      throw InvalidArgument("query " + text(query.shape) + ", key " + text(key.shape) + ", value " + text(value.shape) +
                            " and state " + text(past_key.shape) + ", " + text(past_value.shape) +
                            " do not fit together in heads of " + std::to_string(head_dim_));
    if (pasts.elements() != batch || totals.elements() != batch)
      throw InvalidArgument("lengths " + text(pasts.shape) + " and " + text(totals.shape) + " are not of " +
                            std::to_string(batch) + " sequences");
    const float *cos = nullptr, *sin = nullptr;
    int64_t positions = capacity;
    if constexpr (rotates) {
      const Tensor cosines = context.input(7), sines = context.input(8);
      if (cosines.shape.size() != 2 || cosines.shape[1] != head_dim_ / 2 || sines.shape != cosines.shape)
        throw InvalidArgument("the tables of cosines " + text(cosines.shape) + " and sines " + text(sines.shape) +
                              " have to be [positions, " + std::to_string(head_dim_ / 2) + "]");
      cos = cosines.data<float>();
      sin = sines.data<float>();
      positions = std::min(positions, cosines.shape[0]);
    }
    for (int64_t b = 0; b < batch; ++b)
      if (past[b] < 0 || total[b] < past[b] || total[b] > positions || total[b] - past[b] > length)
        throw InvalidArgument("a sequence of " + std::to_string(past[b]) + " to " + std::to_string(total[b]) +
                              " tokens does not fit into " + std::to_string(positions) + " positions and rows of " +
                              std::to_string(length));

    float* mixed = context.output(0, query.shape).data<float>();
    auto* keys = append_to(context.output(1, past_key.shape), past_key);
    auto* values = append_to(context.output(2, past_value.shape), past_value);
    const int64_t group = heads / kv_heads, stride = (head_dim_ + kLanes - 1) / kLanes * kLanes;
    const int64_t head_bytes = capacity * head_dim_ * (half ? 2 : 4);
    const int64_t pairs = head_dim_ / 2;

    const auto append = [&](int64_t b, int64_t h) {
      float* rotated = scratch<float>(stride);
      for (int64_t s = 0; s < total[b] - past[b]; ++s) {
        const int64_t position = past[b] + s, place = ((b * length + s) * kv_heads + h) * head_dim_;
        const float* source = key_rows + place;
        if (rotates) {
          kernel.rotate(source, cos + position * pairs, sin + position * pairs, head_dim_, interleaved_, 1.0f, rotated);
          source = rotated;
        }
        kernel.append(source, value_rows + place, head_dim_, position, half,
                      keys + (b * kv_heads + h) * head_bytes, values + (b * kv_heads + h) * head_bytes);
      }
    };
    const auto attend = [&](int64_t b, int64_t h, int64_t first, int64_t last) {
      const int64_t rows = (last - first) * group;
      float* queries = scratch<float>(2 * rows * stride);
      float* results = queries + rows * stride;
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t token = first + row / group, angles = (past[b] + token) * pairs;
        const float* source = query_rows + place_of(b, token, h * group + row % group, length, heads);
        float* target = queries + row * stride;
        if (rotates)
          kernel.rotate(source, cos + angles, sin + angles, head_dim_, interleaved_, scale_, target);
        else
          for (int64_t i = 0; i < head_dim_; ++i) target[i] = source[i] * scale_;
      }
      AttentionJob job{};
      job.queries = queries;
      job.mixed = results;
      job.keys = keys + (b * kv_heads + h) * head_bytes;
      job.values = values + (b * kv_heads + h) * head_bytes;
      job.half = half;
      job.rows = static_cast<int>(rows);
      job.heads = static_cast<int>(group);
      job.head_dim = static_cast<int>(head_dim_);
      job.position = past[b] + first;
      kernel.attend(job);
      for (int64_t row = 0; row < rows; ++row)
        std::memcpy(mixed + place_of(b, first + row / group, h * group + row % group, length, heads),
                    results + row * stride, head_dim_ * sizeof(float));
    };

    if (length == 1) {
      context.parallel_for(batch * kv_heads, [&](size_t i) {
        const int64_t b = i / kv_heads, h = i % kv_heads;
        append(b, h);
        if (total[b] > past[b]) attend(b, h, 0, 1);
        else pad(mixed, b, 0, length, heads);
      });
      return;
    }
    context.parallel_for(batch * kv_heads, [&](size_t i) { append(i / kv_heads, i % kv_heads); });
    constexpr int64_t kTokens = 16;  // that are attended to at a time; the last ones, which see most, go first
    const int64_t pieces = (length + kTokens - 1) / kTokens;
    context.parallel_for(batch * kv_heads * pieces, [&](size_t i) {
      const int64_t b = i / kv_heads % batch, h = i % kv_heads;
      const int64_t piece = pieces - 1 - static_cast<int64_t>(i) / (kv_heads * batch);
      const int64_t first = piece * kTokens, end = std::min(length, first + kTokens);
      const int64_t last = std::min<int64_t>(end, total[b] - past[b]);
      if (last > first) attend(b, h, first, last);
      if (h == 0 && last < end) pad(mixed, b, std::max(first, last), length, heads, end);
    });
  }

 private:
  int64_t place_of(int64_t b, int64_t token, int64_t head, int64_t length, int64_t heads) const {
    return ((b * length + token) * heads + head) * head_dim_;
  }

  // What stands for padding has no meaning, but it is a number.
  void pad(float* mixed, int64_t b, int64_t first, int64_t length, int64_t heads, int64_t end = 1) const {
    std::fill(mixed + place_of(b, first, 0, length, heads), mixed + place_of(b, end, 0, length, heads), 0.0f);
  }

  // The new state, in place if the caller has given both the same memory.
  static uint8_t* append_to(const Tensor& state, const Tensor& past) {
    if (state.bytes != past.bytes) std::memcpy(state.bytes, past.bytes, past.elements() * (half ? 2 : 4));
    return static_cast<uint8_t*>(state.bytes);
  }

  int64_t head_dim_;
  float scale_;
  bool interleaved_;
};

}  // namespace native

using RotaryAttention = native::Attention<true, true>;
using Attention = native::Attention<true, false>;
using RotaryAttentionFloat32 = native::Attention<false, true>;
using AttentionFloat32 = native::Attention<false, false>;

CUSTOM_OPS("pipelines.native", native::Linear, native::Embedding, RotaryAttention, Attention, RotaryAttentionFloat32,
           AttentionFloat32)
