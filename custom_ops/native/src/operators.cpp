// The custom operators of the domain `pipelines.native`.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "decode.h"
#include "experts_operator.h"
#include "formats.h"
#include "kernels.h"
#include "matrix.h"
#include "node.h"
#include "ort_custom_op.h"
#include "panels.h"

namespace native {

namespace {

constexpr int64_t kTaskBytes = 192 << 10;  // of a matrix that a thread takes at a time

}  // namespace

// Products of one input with one or more weight matrices. Inputs: x [..., K]; the matrices, each the
// bytes of the file [N, row_bytes]; with `norm` the weight of an RMSNorm of x [K]; with `residual`
// what is added to the (only) product [..., N]. With `gated` there are two matrices and one output,
// by(x W0') * (x W1'), where `gated` is the number of a `Gate`.
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
        gated_(info.integer("gated", 0, static_cast<int64_t>(Gate::gelu))),
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
    const Tensor x = context.input(0);
    if (x.shape.empty() || x.shape.back() != columns_)
      throw InvalidArgument("the input " + text(x.shape) + " has not " + std::to_string(columns_) + " columns");
    const int64_t tokens = x.elements(0, x.shape.size() - 1);
    size_t next = 1 + matrices_.size();
    const float* norm = normalizes_ ? norm_weight(context.input(next++)) : nullptr;
    const float* residual = adds_ ? added(context.input(next++), tokens) : nullptr;
    std::vector<float*> results;
    for (size_t i = 0; i < (gated_ ? 1 : matrices_.size()); ++i) {
      std::vector<int64_t> shape = x.shape;
      shape.back() = matrices_[i].rows();
      results.push_back(context.output(i, shape).data<float>());
    }
    if (tokens == 0) return;
    const Panels panels(quantizes_ ? tokens : 0, columns_);
    const float* rows = prepare(context, x.data<float>(), tokens, norm, panels);
    multiply(context, rows, tokens, panels, residual, results);
  }

 private:
  // Some rows of a matrix, which a thread multiplies.
  struct Task {
    size_t matrix;
    int64_t first, last;
  };

  const float* norm_weight(const Tensor& weight) const {
    if (weight.elements() != columns_)
      throw InvalidArgument("the norm's weight " + text(weight.shape) + " has not the size of a row");
    return weight.data<float>();
  }

  const float* added(const Tensor& residual, int64_t tokens) const {
    if (residual.elements() != tokens * matrices_[0].rows())
      throw InvalidArgument("the residual " + text(residual.shape) + " has not the size of the product");
    return residual.data<float>();
  }

  // Normalizes the rows, if there is a norm, and quantizes them, if there are block formats. Returns what float
  // matrices are multiplied with.
  const float* prepare(Context& context, const float* rows, int64_t tokens, const float* norm,
                       const Panels& panels) const {
    if (norm == nullptr && !quantizes_) return rows;
    const Kernels& kernel = kernels();
    float* normed = norm != nullptr ? scratch<float>(tokens * columns_) : nullptr;
    context.parallel_for((tokens + kMaxTokens - 1) / kMaxTokens, [&](size_t i) {
      const int64_t first = i * kMaxTokens, last = std::min<int64_t>(tokens, first + kMaxTokens);
      for (int64_t t = first; norm != nullptr && t < last; ++t)
        kernel.rms_norm(rows + t * columns_, norm, epsilon_, columns_, normed + t * columns_);
      if (quantizes_)
        kernel.quantize((norm != nullptr ? normed : rows) + first * columns_, columns_, last - first, panels[i]);
    });
    return norm != nullptr ? normed : rows;
  }

  void multiply(Context& context, const float* rows, int64_t tokens, const Panels& panels, const float* residual,
                const std::vector<float*>& results) const {
    const Kernels& kernel = kernels();
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
          kernel.gated_product(matrix.encoding(), static_cast<Gate>(gated_), matrix.data(), matrices_[1].data(), ahead, task.first, task.last,
                               panels[p], panels.tokens(p), output);
        else
          kernel.product(matrix.encoding(), matrix.data(), ahead, task.first, task.last, panels[p], panels.tokens(p),
                         output);
      }
    });
  }

  int64_t columns_;
  bool normalizes_, adds_;
  int64_t gated_;  // 0, or the number of a `Gate`
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
                                    state,         Type::int32,   Type::int32,   Type::float32};
};
template <Type state>
struct AttentionInputs<state, true> {
  static constexpr Type inputs[] = {Type::float32, Type::float32, Type::float32, state,        state,
                                    Type::int32,   Type::int32,   Type::float32, Type::float32, Type::float32};
};

// Causal grouped-query attention that appends to its state. Inputs: query [B, S, heads * head_dim], key and
// value [B, S, kv_heads * head_dim], the two halves of the state [B, kv_heads, capacity, head_dim], past and
// total [B]; if it rotates, cosines and sines [positions, head_dim / 2]; and sinks [heads], or nothing. Row b has total[b] - past[b] tokens; the
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
  static constexpr size_t optional_inputs = 1;  // sinks

  explicit Attention(const Info& info)
      : head_dim_(info.integer("head_dim", 2, kMostHeadDim)),
        scale_(info.number("scale")),
        interleaved_(info.flag("interleaved")),
        window_(info.integer("window", 0, std::numeric_limits<int32_t>::max())),
        cap_(info.number("cap")),
        has_sinks_(info.inputs() == std::size(Attention::inputs)) {
    if (head_dim_ % 2 != 0) throw InvalidArgument("attribute 'head_dim' has to be even");
    if (cap_ < 0) throw InvalidArgument("attribute 'cap' is negative");
    if (!has_sinks_) expect_count(info.inputs(), kSinks, "inputs");
    expect_count(info.outputs(), std::size(outputs), "outputs");
  }

  void compute(Context& context) const {
    Call call = inputs_of(context);
    call.mixed = context.output(0, context.input(0).shape).template data<float>();
    call.new_keys = continued(context.output(1, context.input(kPastKey).shape), context.input(kPastKey));
    call.new_values = continued(context.output(2, context.input(kPastValue).shape), context.input(kPastValue));
    if (call.length == 1) {
      context.parallel_for(call.batch * call.kv_heads, [&](size_t i) {
        const int64_t b = i / call.kv_heads, h = i % call.kv_heads;
        append(call, b, h);
        if (call.tokens(b) > 0) attend(call, b, h, 0, 1);
        else pad(call, b, 0, 1);
      });
      return;
    }
    context.parallel_for(call.batch * call.kv_heads,
                         [&](size_t i) { append(call, i / call.kv_heads, i % call.kv_heads); });
    constexpr int64_t kTokens = 16;  // that are attended to at a time; the last ones, which see most, go first
    const int64_t pieces = (call.length + kTokens - 1) / kTokens;
    context.parallel_for(call.batch * call.kv_heads * pieces, [&](size_t i) {
      const int64_t b = i / call.kv_heads % call.batch, h = i % call.kv_heads;
      const int64_t piece = pieces - 1 - static_cast<int64_t>(i) / (call.kv_heads * call.batch);
      const int64_t first = piece * kTokens, end = std::min(call.length, first + kTokens);
      const int64_t last = std::min<int64_t>(end, call.tokens(b));
      if (last > first) attend(call, b, h, first, last);
      if (h == 0 && last < end) pad(call, b, std::max(first, last), end);
    });
  }

 private:
  static constexpr size_t kQuery = 0, kKey = 1, kValue = 2, kPastKey = 3, kPastValue = 4, kPast = 5, kTotal = 6,
                          kCosines = 7, kSines = 8, kSinks = std::size(Attention::inputs) - 1;

  // What a call is given. Its memory is as the inputs and outputs above.
  struct Call {
    int64_t batch, length;  // sequences, and tokens of each with its padding
    int64_t heads, kv_heads, capacity;
    const float *query, *key, *value;
    const int32_t *past, *total;
    const float *cos = nullptr, *sin = nullptr;
    const float* sinks = nullptr;
    int64_t positions;  // that there is room for, and angles
    float* mixed = nullptr;
    uint8_t *new_keys = nullptr, *new_values = nullptr;

    int64_t tokens(int64_t b) const { return total[b] - past[b]; }
    int64_t group() const { return heads / kv_heads; }
  };

  Call inputs_of(Context& context) const {
    const Tensor query = context.input(kQuery), key = context.input(kKey), value = context.input(kValue);
    const Tensor past_key = context.input(kPastKey), past_value = context.input(kPastValue);
    past_key.expect(state);
    past_value.expect(state);
    Call call{};
    call.query = query.data<float>();
    call.key = key.data<float>();
    call.value = value.data<float>();
    call.past = context.input(kPast).template data<int32_t>();
    call.total = context.input(kTotal).template data<int32_t>();
    if (query.shape.size() != 3 || key.shape.size() != 3)
      throw InvalidArgument("query " + text(query.shape) + " and key " + text(key.shape) +
                            " have to be [batch, tokens, heads * head_dim]");
    call.batch = query.shape[0];
    call.length = query.shape[1];
    call.heads = query.shape[2] / head_dim_;
    call.kv_heads = key.shape[2] / head_dim_;
    call.capacity = past_key.shape.size() == 4 ? past_key.shape[2] : 0;
    call.positions = call.capacity;
    const std::vector<int64_t> keys{call.batch, call.length, call.kv_heads * head_dim_};
    const std::vector<int64_t> states{call.batch, call.kv_heads, call.capacity, head_dim_};
    if (call.kv_heads < 1 || call.heads < 1 || call.heads > kMostHeads || call.heads % call.kv_heads != 0 ||
        query.shape[2] != call.heads * head_dim_ || key.shape != keys || value.shape != keys ||
        past_key.shape != states || past_value.shape != states || call.capacity % kLanes != 0)
      throw InvalidArgument("query " + text(query.shape) + ", key " + text(key.shape) + ", value " + text(value.shape) +
                            " and state " + text(past_key.shape) + ", " + text(past_value.shape) +
                            " do not fit together in heads of " + std::to_string(head_dim_));
    if constexpr (rotates) add_angles(call, context.input(kCosines), context.input(kSines));
    if (has_sinks_) add_sinks(call, context.input(kSinks));
    check_lengths(call, context.input(kPast), context.input(kTotal));
    return call;
  }

  void add_angles(Call& call, const Tensor& cosines, const Tensor& sines) const {
    if (cosines.shape.size() != 2 || cosines.shape[1] != head_dim_ / 2 || sines.shape != cosines.shape)
      throw InvalidArgument("the tables of cosines " + text(cosines.shape) + " and sines " + text(sines.shape) +
                            " have to be [positions, " + std::to_string(head_dim_ / 2) + "]");
    call.cos = cosines.data<float>();
    call.sin = sines.data<float>();
    call.positions = std::min(call.positions, cosines.shape[0]);
  }

  static void add_sinks(Call& call, const Tensor& sinks) {
    if (sinks.elements() != call.heads)
      throw InvalidArgument("the sinks " + text(sinks.shape) + " have to be those of " + std::to_string(call.heads) +
                            " heads");
    call.sinks = sinks.data<float>();
  }

  static void check_lengths(const Call& call, const Tensor& pasts, const Tensor& totals) {
    if (pasts.elements() != call.batch || totals.elements() != call.batch)
      throw InvalidArgument("lengths " + text(pasts.shape) + " and " + text(totals.shape) + " are not of " +
                            std::to_string(call.batch) + " sequences");
    for (int64_t b = 0; b < call.batch; ++b)
      if (call.past[b] < 0 || call.total[b] < call.past[b] || call.total[b] > call.positions ||
          call.tokens(b) > call.length)
        throw InvalidArgument("a sequence of " + std::to_string(call.past[b]) + " to " +
                              std::to_string(call.total[b]) + " tokens does not fit into " +
                              std::to_string(call.positions) + " positions and rows of " +
                              std::to_string(call.length));
  }

  // The new state, in place if the caller has given both the same memory.
  static uint8_t* continued(const Tensor& state, const Tensor& past) {
    if (state.bytes != past.bytes) std::memcpy(state.bytes, past.bytes, past.elements() * (half ? 2 : 4));
    return static_cast<uint8_t*>(state.bytes);
  }

  // Where a head of a token stands in query and mix; with `kv_heads` for `heads` in key and value.
  int64_t place_of(const Call& call, int64_t b, int64_t token, int64_t head, int64_t heads) const {
    return ((b * call.length + token) * heads + head) * head_dim_;
  }

  // Where the state of a head begins, in bytes.
  int64_t state_of(const Call& call, int64_t b, int64_t kv_head) const {
    return (b * call.kv_heads + kv_head) * call.capacity * head_dim_ * (half ? 2 : 4);
  }

  void rotate(const Call& call, int64_t position, const float* head, float scale, float* rotated) const {
    const int64_t angles = position * (head_dim_ / 2);
    kernels().rotate(head, call.cos + angles, call.sin + angles, head_dim_, interleaved_, scale, rotated);
  }

  int64_t stride() const { return (head_dim_ + kLanes - 1) / kLanes * kLanes; }

  // Writes the keys and values of a sequence's tokens into the state.
  void append(const Call& call, int64_t b, int64_t kv_head) const {
    float* rotated = scratch<float>(stride());
    const int64_t at = state_of(call, b, kv_head);
    for (int64_t s = 0; s < call.tokens(b); ++s) {
      const int64_t position = call.past[b] + s, place = place_of(call, b, s, kv_head, call.kv_heads);
      const float* key = call.key + place;
      if (rotates) {
        rotate(call, position, key, 1.0f, rotated);
        key = rotated;
      }
      kernels().append(key, call.value + place, head_dim_, position, half, call.new_keys + at, call.new_values + at);
    }
  }

  // Mixes values for the tokens `first` to `last` of a sequence, in all query heads of a key-value head.
  void attend(const Call& call, int64_t b, int64_t kv_head, int64_t first, int64_t last) const {
    const int64_t group = call.group(), rows = (last - first) * group, at = state_of(call, b, kv_head);
    const auto place = [&](int64_t row) {
      return place_of(call, b, first + row / group, kv_head * group + row % group, call.heads);
    };
    float* queries = scratch<float>(2 * rows * stride());
    float* results = queries + rows * stride();
    for (int64_t row = 0; row < rows; ++row) {
      const float* source = call.query + place(row);
      float* target = queries + row * stride();
      if (rotates)
        rotate(call, call.past[b] + first + row / group, source, scale_, target);
      else
        for (int64_t i = 0; i < head_dim_; ++i) target[i] = source[i] * scale_;
    }
    AttentionJob job{};
    job.queries = queries;
    job.mixed = results;
    job.keys = call.new_keys + at;
    job.values = call.new_values + at;
    job.half = half;
    job.rows = static_cast<int>(rows);
    job.heads = static_cast<int>(group);
    job.head_dim = static_cast<int>(head_dim_);
    job.position = call.past[b] + first;
    job.window = window_;
    job.cap = cap_;
    if (call.sinks != nullptr) job.sinks = call.sinks + kv_head * group;
    kernels().attend(job);
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(call.mixed + place(row), results + row * stride(), head_dim_ * sizeof(float));
  }

  // What stands for padding, from token `first` to `end`, has no meaning, but it is a number.
  void pad(const Call& call, int64_t b, int64_t first, int64_t end) const {
    std::fill(call.mixed + place_of(call, b, first, 0, call.heads), call.mixed + place_of(call, b, end, 0, call.heads),
              0.0f);
  }

  int64_t head_dim_;
  float scale_;
  bool interleaved_;
  int64_t window_;  // tokens that each token sees; 0 for all before it
  float cap_;       // see AttentionJob
  bool has_sinks_;
};

}  // namespace native

using RotaryAttention = native::Attention<true, true>;
using Attention = native::Attention<true, false>;
using RotaryAttentionFloat32 = native::Attention<false, true>;
using AttentionFloat32 = native::Attention<false, false>;

CUSTOM_OPS("pipelines.native", native::Linear, native::Embedding, native::Experts, RotaryAttention, Attention,
           RotaryAttentionFloat32, AttentionFloat32)
